"""Drawing the values of one tensor, with torch."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reinit_cli.dtypes import dtype_named
from reinit_cli.errors import DeviceUnavailableError, UntransformableError
from reinit_cli.initializers import Law, Move, Transform, UndefinedError
from reinit_cli.initializers.laws import GROUP_NUMEL, Constant
from reinit_cli.moments import BLOCK_NUMEL, Moments, moments_of

if TYPE_CHECKING:
    from torch import Tensor


def expected_moments(law: Law, numel: int) -> Moments:
    """Return the moments that a law gives on average."""
    return Moments(numel, law.mean, law.std**2 * numel, law.low, law.high)


Blocks = Callable[[], Iterator["Tensor"]]
"""Gives the elements of a tensor in row-major order, as 1-D tensors; anew each time."""


@dataclass(frozen=True, slots=True)
class There:
    """What a draw finds.

    Attributes:
        values: what a transform changes; None for a law that replaces it.
        zeros: where these are zero the draw is too; None where nothing is kept.
    """

    values: Blocks | None = None
    zeros: Blocks | None = None


NOTHING = There()


class _Taker:
    """Takes the elements of blocks in other portions."""

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self._blocks = blocks
        self._rest: Tensor | None = None

    def take_into(self, flat: Tensor) -> None:
        """Fill a 1-D tensor with the next elements, in its dtype."""
        reached = 0
        while reached < len(flat):
            block = next(self._blocks) if self._rest is None else self._rest
            count = min(len(block), len(flat) - reached)
            flat[reached : reached + count] = block[:count]
            self._rest = block[count:] if count < len(block) else None
            reached += count


def draw(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str,
    there: There = NOTHING,
) -> Tensor:
    """Return the values of a tensor before they are rounded to its dtype.

    A contiguous tensor on the device: float64 for float64 tensors, float32 for all other
    floats; what is moved, and a constant of another dtype, has it at once.

    Args:
        law: what to draw.
        shape: the tensor's shape.
        dtype: the tensor's dtype.
        seed: the seed of the generator, which lives on the device.
        device: where to draw.
        there: what is there, where the law or its zeros depend on it.

    Raises:
        UndefinedError: a transform has no meaning for what is there.
    """
    return _Draw(law, shape, dtype, seed, device, there).whole()


def draw_blocks(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str,
    there: There = NOTHING,
) -> Iterator[Tensor]:
    """Yield the values of `draw` in blocks, each of which is gone with the next."""
    return _Draw(law, shape, dtype, seed, device, there).blocks()


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Name the key whose values a transform turns out to have no meaning for.

    Raises:
        UntransformableError: it has none.
    """
    try:
        yield
    except UndefinedError as error:
        raise UntransformableError(key, str(error)) from error


class _Draw:
    """One draw, as a whole or block by block."""

    def __init__(
        self, law: Law, shape: tuple[int, ...], dtype: str, seed: int, device: str, there: There
    ) -> None:
        import torch

        self._is_in_blocks = are_blocks(law, dtype, device)
        if isinstance(law, Transform) and law.needs_moments and 0 not in shape:
            law = law.settled(_moments(there))
        self._law = law
        self._shape = shape
        self._dtype = _drawn_dtype(law, dtype)
        self._device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._values = None
        if isinstance(law, Transform):
            assert there.values is not None  # else it would change what happens to be in memory
            self._values = _Taker(there.values())
        self._zeros = _Taker(there.zeros()) if there.zeros else None

    def whole(self) -> Tensor:
        """Return all of it."""
        import torch

        drawn = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        if drawn.numel():
            self._fill(drawn)
        return drawn

    def blocks(self) -> Iterator[Tensor]:
        """Yield it in blocks where it can be drawn so."""
        import torch

        numel = math.prod(self._shape)
        if not self._is_in_blocks:
            yield self.whole()
            return
        buffer = torch.empty(min(numel, BLOCK_NUMEL + GROUP_NUMEL), dtype=self._dtype)
        while numel:
            # A rest of less than a group would be drawn in another way: it joins the last block.
            count = numel if numel < BLOCK_NUMEL + GROUP_NUMEL else BLOCK_NUMEL
            self._fill(buffer[:count])
            yield buffer[:count]
            numel -= count

    def _fill(self, tensor: Tensor) -> None:
        flat = tensor.view(-1)
        if isinstance(self._law, Transform) and self._law.gathers:
            assert self._values is not None
            self._law.gather(self._values.take_into, tensor, self._generator)
            return
        if self._values is not None:
            self._values.take_into(flat)
        if isinstance(self._law, Constant) and not tensor.is_floating_point():
            # Through a float, large integers would come out as others.
            is_complex = tensor.is_complex()
            tensor.fill_(complex(self._law.value) if is_complex else int(self._law.value))
        else:
            self._law.fill(tensor, self._generator)
        if self._zeros is not None:
            import torch

            was = torch.empty(flat.shape, dtype=flat.dtype)
            self._zeros.take_into(was)
            # As bytes where they are float8, of which torch knows no masked fill.
            alike = flat.view(torch.uint8) if flat.element_size() == 1 else flat
            alike.masked_fill_((was == 0).to(flat.device), 0)


def _drawn_dtype(law: Law, dtype: str) -> Any:
    import torch

    if isinstance(law, Move) or dtype_named(dtype).kind != "float":
        return getattr(torch, dtype)
    return torch.float64 if dtype == "float64" else torch.float32


def _moments(there: There) -> Moments:
    assert there.values is not None
    return sum(map(moments_of, there.values()), start=Moments())


def are_blocks(law: Law, dtype: str, device: str) -> bool:
    """Whether `draw_blocks` yields several blocks of a large tensor."""
    is_moved = isinstance(law, Move)
    return (
        law.is_sequential and device == "cpu" and (is_moved or dtype_named(dtype).kind == "float")
    )


def rounded(drawn: Tensor, dtype: str) -> Tensor:
    """Return drawn values in their dtype, contiguous, in main memory."""
    import torch

    return drawn.to(getattr(torch, dtype)).cpu().contiguous()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor in main memory, without a copy.

    The view keeps the tensor alive.
    """
    nbytes = tensor.numel() * tensor.element_size()
    if not nbytes:
        return memoryview(b"")
    buffer = (ctypes.c_char * nbytes).from_address(tensor.data_ptr())
    buffer.tensor = tensor  # type: ignore[attr-defined]
    return memoryview(buffer).cast("B")


def tensor_of(
    data: bytes | memoryview,
    dtype: str,
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
) -> Tensor:
    """Return bytes as a tensor.

    Args:
        data: from its first element to its last.
        dtype: torch's name of its dtype.
        shape: its dimensions.
        stride: in elements; None means contiguous.
    """
    import torch

    named = getattr(torch, dtype)
    if not len(data):
        return torch.empty(shape, dtype=named)
    flat = torch.frombuffer(bytearray(data), dtype=named)
    return flat.view(shape) if stride is None else flat.as_strided(shape, stride)


def strided(
    blocks: Sequence[Tensor],
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    under: bytes | memoryview,
) -> memoryview:
    """Return bytes in which the elements of a tensor have been written, a stride apart.

    Args:
        blocks: the elements, in row-major order.
        shape: the tensor's dimensions.
        stride: their distances, in elements.
        under: the bytes from the first to the last as they are.
    """
    import torch

    values = torch.cat(tuple(blocks)).view(shape)
    flat = torch.frombuffer(bytearray(under), dtype=values.dtype)
    flat.as_strided(shape, stride).copy_(values)
    return bytes_of(flat)


def printed(tensor: Tensor, *, full: bool) -> str:
    """Return a tensor as torch prints it.

    Args:
        tensor: the tensor.
        full: whether all of its elements are shown, however many there are.
    """
    from torch._tensor_str import printoptions

    with printoptions(threshold=math.inf) if full else nullcontext():
        return str(tensor)


def recast(tensor: Tensor, dtype: str) -> Tensor:
    """Return a tensor contiguously, rounded to a dtype."""
    import torch

    return tensor.to(getattr(torch, dtype)).contiguous()


class _OneThread:
    """Who wants one thread now, and how many there were before the first wanted it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before = 0


_ONE_THREAD = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for each operation, and set the count back afterwards.

    Tensors are drawn side by side instead, and the bits of a QR depend on the count. The
    count is the process's, so that of several users the last sets it back.
    """
    import torch

    with _ONE_THREAD.lock:
        if not _ONE_THREAD.users:
            _ONE_THREAD.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _ONE_THREAD.users += 1
    try:
        yield
    finally:
        with _ONE_THREAD.lock:
            _ONE_THREAD.users -= 1
            if not _ONE_THREAD.users:
                torch.set_num_threads(_ONE_THREAD.before)


def check_device(device: str) -> str:
    """Return the device to draw on, "auto" resolved.

    Raises:
        DeviceUnavailableError: it is not there.
    """
    if device == "cpu":
        return device
    there = _devices()
    if device == "auto":
        return there[1] if len(there) > 1 else "cpu"
    if device in there:
        return device
    raise DeviceUnavailableError(device, there)


def _devices() -> tuple[str, ...]:
    """The devices that can draw, the processor first."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ("cuda", *(f"cuda:{index}" for index in range(cuda))) if cuda else ()
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *gpus, *mps)
