"""Low-rank adapters whose two matrices start together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.fans import UndefinedError, need_ndim
from reinit_cli.initializers.householder import orthonormalize
from reinit_cli.initializers.law import Constant, Law, Statistic
from reinit_cli.initializers.parameters import Choice, NonNegative
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.chance import TorchChance

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_FIRST_OF_B = 2**40
"""The element whose number is the first of B alone; those of A end long before."""

_NAMES = (
    ("lora_A", "lora_B"),
    ("lora_embedding_A", "lora_embedding_B"),
    ("lora_down", "lora_up"),
    ("lora.down", "lora.up"),
)
"""What the keys of the two matrices have: PEFT's, kohya's, and those of diffusers."""


@dataclass(frozen=True, slots=True)
class HalfOfLora(Law):
    """Random combinations of every second row of an orthogonal matrix, which both halves share.

    Attributes:
        rank: the rows of the orthogonal matrix.
        part: "A", of (rank, inputs), or "B", of (outputs, rank).
        scale: the factor of the combinations.
    """

    rank: int
    part: str
    scale: float
    mean = 0.0
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean",)

    @property
    def std(self) -> float:
        """Scale / √2: the rows of a half have rank / 2 squares in all."""
        return self.scale / math.sqrt(2.0)

    @property
    def spread(self) -> float:
        """The scale: the sum is a normal, and no column of a half is longer than 1."""
        return self.scale

    def cdf(self, x: float) -> float:
        """Approximately that of a normal."""
        return normal_mass(-math.inf, x / self.std)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw the matrix that both share, then the combinations of this half."""
        matrix = np.empty((self.rank, self.rank), values.dtype)
        chance.normal(matrix, 0.0, 1.0)
        shared = matrix.astype(np.float64)
        orthonormalize(shared)
        length = values.size // self.rank
        normals = np.empty((self.rank // 2, length), values.dtype)
        own = chance if self.part == "A" else _of_b(chance)
        own.normal(normals, 0.0, 1.0)
        self._combine(values, normals, shared[0 if self.part == "A" else 1 :: 2])

    def _combine(self, values: Array, normals: Array, rows: Array) -> None:
        """Write the sums of rows times their normals, one row after the other."""
        total = np.zeros((self.rank, normals.shape[1]))
        for row, factors in zip(rows, normals, strict=True):
            total += row[:, np.newaxis] * factors.astype(np.float64)
        with np.errstate(over="ignore"):
            total *= self.scale
        values[...] = (total if self.part == "A" else total.T).reshape(values.shape)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the values, the normals and the sums take."""
        return math.prod(shape) * (2 * itemsize + 24) + 32 * self.rank**2

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return the same: the tensor is held."""
        return self.working_nbytes(shape, itemsize)


def _of_b(chance: Chance) -> Chance:
    """Return the numbers of B alone: elements far behind, or torch's next generator."""
    if chance.is_indexed:
        return chance.at(_FIRST_OF_B)
    import torch

    source = chance.generator()
    seed = (source.initial_seed() + 1) % 2**63
    return TorchChance(torch.Generator(source.device).manual_seed(seed))


def _part_of(key: str) -> str:
    """Return which of the two matrices a key is of.

    Raises:
        UndefinedError: it names neither.
    """
    for names in _NAMES:
        for part, name in zip("AB", names, strict=True):
            if name in key:
                return part
    raise UndefinedError("its key has neither lora_A nor lora_B, and part= says neither")


def _key_of_a(site: Site, shape: tuple[int, ...], **_: object) -> str:
    """Return the key of the A that a tensor is or belongs to."""
    del shape
    key = site.key
    for a, b in _NAMES:
        key = key.replace(b, a)
    return key


@register(
    purpose="structure",
    law="A = (Z·Q₁)ᵀ·std and B = Z·Q₂·std, where Q₁ and Q₂ are every second row of one orthogonal "
    "matrix and each Z is of N(0, 1), so that B·A = 0",
    example="lora_orthogonal:part=A",
    usage='-r "*.lora_*=lora_orthogonal"',
    defined="A, (rank, inputs), and B, (outputs, rank), of adapters of even rank",
    paper="datta0 2024, Rethink LoRA initialisation: orthogonal, as in PEFT (init_lora_weights)",
    drawn_as=_key_of_a,
)
def lora_orthogonal(
    shape: tuple[int, ...],
    site: Site,
    *,
    std: NonNegative = 0.1,
    part: Annotated[str | None, Choice(("A", "B"))] = None,
) -> Law:
    """Start both matrices of LoRA orthogonal to each other.

    Use one rule for both: "*.lora_*=lora_orthogonal". Both are drawn from the stream of the key of
    A. Which of them a tensor is follows from its key: lora_A and lora_B, lora_down and lora_up, or
    `part`.
    """
    need_ndim(shape, 2)
    which = part or _part_of(site.key)
    if 0 in shape:
        return Constant(0.0)
    rank = shape[0] if which == "A" else shape[1]
    if which == "B" and math.prod(shape[2:]) != 1:
        raise UndefinedError("its kernel has more than one element, and the rank is not its side")
    if rank % 2:
        raise UndefinedError(f"its rank, {rank}, is odd")
    return HalfOfLora(rank, which, std) if std else Constant(0.0)
