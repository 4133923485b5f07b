"""Fills, sources whose bytes nobody reads, and outputs in memory."""

from __future__ import annotations

import threading
from itertools import pairwise, product
from math import prod
from typing import cast

import torch

from reinit_cli.execution.fill import Fill, Observer, Unwatched
from reinit_cli.initializers import parse_init
from reinit_cli.initializers.law import Law
from reinit_cli.planning.plan import Step
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Box
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.tensors.info import TensorInfo
from tests.draws import draw

UNREAD = cast("Reader", object())


class Memory:
    """Keeps a file in memory."""

    is_seekable = True

    def __init__(self) -> None:
        """Begin with no bytes."""
        self.data = bytearray()
        self._lock = threading.Lock()  # several threads write, and each may extend

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Keep some bytes."""
        with self._lock:
            self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
            self.data[offset : offset + len(data)] = data

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy nothing."""
        del reader, start, offset, nbytes
        return 0

    def clone(self, reader: Reader) -> bool:
        """Clone nothing."""
        del reader
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were kept."""
        return bytes(self.data[offset : offset + nbytes])

    def close(self) -> None:
        """Keep it."""


class Watched(Unwatched):
    """Shows every draw to the same observer."""

    def __init__(self, observer: Observer) -> None:
        """Show it to that one."""
        self._observer = observer

    def observe(self, step: Step) -> list[Observer]:
        """Return the observer."""
        del step
        return [self._observer]


def fill_of(
    shape: tuple[int, ...],
    init: str = "normal:std=1",
    dtype: str = "float32",
    stream: str = DEFAULT_STREAM,
) -> Fill:
    """Return what fills a tensor."""
    law = parse_init(init).law(shape)
    assert isinstance(law, Law)
    nbytes = prod(shape) * getattr(torch, dtype).itemsize
    tensor = TensorInfo("w", dtype, shape, nbytes)
    step = Step(tensor, "fill", law=law, seed_key="w", seed=7, stream=stream)
    return Fill(step, nbytes)


def drawn(fill: Fill) -> torch.Tensor:
    """Return the tensor that a fill draws."""
    step = fill.step
    assert step.law is not None
    tensor = step.tensor
    whole = draw(step.law, tensor.shape, tensor.dtype, step.seed, stream=step.stream)
    return whole.to(getattr(torch, tensor.dtype))


def boxes_at(shape: tuple[int, ...], cuts: tuple[tuple[int, ...], ...]) -> list[Box]:
    """Cut each dimension of a tensor in some places."""
    spans = [
        list(pairwise(sorted({0, *(cut for cut in own if cut < dim), dim})))
        for dim, own in zip(shape, cuts, strict=True)
    ]
    return list(product(*spans))


def bytes_in(tensor: torch.Tensor, box: Box) -> bytes:
    """Return the elements of a tensor that lie in a box."""
    part = tensor[tuple(slice(*span) for span in box)].reshape(-1).contiguous()
    return bytes(part.view(torch.uint8).numpy())
