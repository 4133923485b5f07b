"""Drawing the values of one tensor, with torch."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.dtypes import dtype_named
from reinit_cli.errors import DeviceUnavailableError
from reinit_cli.initializers import Law

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """What can be told of the elements of some tensors, and merged.

    Attributes:
        numel: how many elements.
        mean: their mean.
        squares: the sum of the squares of their distances from the mean.
        low, high: the smallest and the largest.
    """

    numel: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @property
    def std(self) -> float:
        """The standard deviation over the elements, not of a sample."""
        return math.sqrt(self.squares / self.numel) if self.numel else math.nan

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together (Chan, Golub & LeVeque 1979)."""
        if not self.numel or not other.numel:
            return other if not self.numel else self
        numel = self.numel + other.numel
        apart = other.mean - self.mean
        share = other.numel / numel
        return Moments(
            numel,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.numel * share,
            min(self.low, other.low),
            max(self.high, other.high),
        )


BLOCK_NUMEL = 2**18
"""What is drawn and measured at once: it stays in the processor's cache."""

_LEAST_SCALE = 2.0**-40
"""Squares of much smaller elements vanish in float32, of much larger ones they overflow."""

_GROUP_NUMEL = 16
"""The elements that `Tensor.normal_` draws together."""


def moments_of(tensor: Tensor) -> Moments:
    """Return the moments of a tensor; of a complex one those of its real part."""
    import torch

    values = (tensor.real if tensor.is_complex() else tensor).reshape(-1)
    blocks = torch.split(values, BLOCK_NUMEL)
    return sum(map(_moments_of_block, blocks), start=Moments())


def _moments_of_block(block: Tensor) -> Moments:
    import torch

    if not block.numel():
        return Moments()
    if block.dtype not in (torch.float32, torch.float64):
        block = block.to(torch.float32)
    low, high = torch.aminmax(block)
    scale = max(-low.item(), high.item())
    if block.dtype == torch.float32 and scale and not _LEAST_SCALE < scale < 1 / _LEAST_SCALE:
        block = block.double()
    mean = block.mean()
    # var_mean would take as long as the draw itself.
    squares = (block - mean).square_().sum()
    return Moments(block.numel(), mean.item(), squares.item(), low.item(), high.item())


def expected_moments(law: Law, numel: int) -> Moments:
    """Return the moments that a law gives on average."""
    return Moments(numel, law.mean, law.std**2 * numel, law.low, law.high)


def draw(law: Law, shape: tuple[int, ...], dtype: str, seed: int, device: str) -> Tensor:
    """Return the values of a tensor before they are rounded to its dtype.

    A contiguous tensor on the device: float64 for float64 tensors, float32 for all other
    floats; a constant of another dtype has it at once.

    Args:
        law: what to draw.
        shape: the tensor's shape.
        dtype: the tensor's dtype.
        seed: the seed of the generator, which lives on the device.
        device: where to draw.
    """
    import torch

    if dtype_named(dtype).kind != "float":
        value = complex(law.low) if dtype.startswith("complex") else int(law.low)
        return torch.full(shape, value, dtype=getattr(torch, dtype), device="cpu")
    drawn_dtype = torch.float64 if dtype == "float64" else torch.float32
    drawn = torch.empty(shape, dtype=drawn_dtype, device=device)
    if drawn.numel():
        law.fill(drawn, torch.Generator(device=device).manual_seed(seed))
    return drawn


def draw_blocks(
    law: Law, shape: tuple[int, ...], dtype: str, seed: int, device: str
) -> Iterator[Tensor]:
    """Yield the values of `draw` in blocks, each of which is gone with the next."""
    import torch

    numel = math.prod(shape)
    if not are_blocks(law, dtype, device):
        yield draw(law, shape, dtype, seed, device)
        return
    generator = torch.Generator().manual_seed(seed)
    drawn_dtype = torch.float64 if dtype == "float64" else torch.float32
    buffer = torch.empty(min(numel, BLOCK_NUMEL + _GROUP_NUMEL), dtype=drawn_dtype)
    while numel:
        # A rest of less than a group would be drawn in another way: it joins the last block.
        count = numel if numel < BLOCK_NUMEL + _GROUP_NUMEL else BLOCK_NUMEL
        law.fill(buffer[:count], generator)
        yield buffer[:count]
        numel -= count


def are_blocks(law: Law, dtype: str, device: str) -> bool:
    """Whether `draw_blocks` yields several blocks of a large tensor."""
    return law.is_sequential and device == "cpu" and dtype_named(dtype).kind == "float"


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
