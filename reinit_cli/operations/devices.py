"""Find the device that random numbers are drawn on."""

from __future__ import annotations

from dataclasses import replace

from reinit_cli.errors import UnknownNameError
from reinit_cli.request.request import Request
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.device import check_device, device_named


def with_device(request: Request) -> Request:
    """Return a request with the device that it is drawn on, "auto" resolved.

    Raises:
        UnknownNameError: this machine has no such device, or it does not draw the bits of a
            stream whose numbers are the same everywhere; "auto" takes the processor then.
    """
    return replace(request, device=drawing_device(request.device, request.stream))


def drawing_device(device: str, stream: str) -> str:
    """Return the device that a stream is drawn on, "auto" resolved.

    Args:
        device: as a user names it.
        stream: the exact name of the stream.

    Raises:
        UnknownNameError: as `with_device`.
    """
    found = check_device(device)
    if found == "cpu" or stream_named(stream).needs_torch:
        return found
    from reinit_cli.streams.philox.device_chance import fault_of

    fault = fault_of(found, "float32")
    if not fault:
        return found
    if device_named(device) == "auto":
        return "cpu"
    raise UnknownNameError(device, fault, kind="inexact device", of=stream)


def redrawing_device(device: str, stream: str) -> str:
    """Return the device that a record is drawn again on: its own, if that changes numbers.

    Raises:
        UnknownNameError: this machine has no such device.
    """
    return check_device(device) if stream_named(stream).needs_torch else "cpu"
