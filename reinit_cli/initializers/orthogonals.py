"""Orthogonal matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.initializers.fans import need_ndim
from reinit_cli.initializers.gains import check_gain, gain_of
from reinit_cli.initializers.kinds import AnyGain, Slope
from reinit_cli.initializers.laws import Constant, Law
from reinit_cli.initializers.registry import register

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """A random matrix of rows × cols whose shorter side is orthonormal, times `gain`."""

    rows: int
    cols: int
    gain: float
    mean = 0.0
    is_random = True
    is_sequential = False

    @property
    def std(self) -> float:
        """Gain / √max(rows, cols): the Frobenius norm is gain·√min(rows, cols)."""
        return abs(self.gain) / math.sqrt(max(self.rows, self.cols))

    @property
    def low(self) -> float:
        """-|gain|: no entry of an orthonormal vector exceeds 1."""
        return -abs(self.gain)

    @property
    def high(self) -> float:
        """|gain|."""
        return abs(self.gain)

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill as `torch.nn.init.orthogonal_` does at one thread."""
        import torch

        normal = torch.empty((self.rows, self.cols), dtype=tensor.dtype, device=tensor.device)
        normal.normal_(0, 1, generator=generator)
        if self.rows < self.cols:
            normal.t_()  # (longer, shorter)
        q, r = torch.linalg.qr(normal)
        # QR is unique up to signs; with a positive diagonal of R, Q is uniform over the
        # orthogonal group (Mezzadri 2007, arXiv:math-ph/0609050).
        q *= r.diagonal().sign()
        if self.rows < self.cols:
            q.t_()
        tensor.copy_(q.view(tensor.shape) if q.is_contiguous() else q.reshape(tensor.shape))
        tensor.mul_(self.gain)


@register(
    law="W·Wᵀ = gain²·I, or Wᵀ·W where rows > cols; W is (shape[0], the rest)",
    example="orthogonal:tanh",
    defined="2 dimensions or more",
    paper="Saxe, McClelland & Ganguli 2013, Exact solutions to the nonlinear dynamics of learning "
    "in deep linear neural networks, arXiv:1312.6120",
    complete=check_gain,
)
def orthogonal(shape: tuple[int, ...], *, gain: AnyGain = 1.0, a: Slope = None) -> Law:
    """Keep the norm of every signal: a random orthogonal matrix."""
    need_ndim(shape, 2)
    if 0 in shape:
        return Constant(0.0)
    return Orthogonal(shape[0], math.prod(shape[1:]), gain_of(gain, a))
