"""Define the law of new rows that lie near the mean of the existing ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reinit_cli.initializers.blocks import Take, nothing
from reinit_cli.initializers.law import Dtype
from reinit_cli.initializers.transform import Transform
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.halves import sum_by_halves

np = LazyModule("numpy")

_CHUNK_NUMEL = 2**22
"""About as many elements of old rows are read together."""

_SUMMED_ROWS = 64
"""The old rows whose products are summed by halves. It is part of the values of philox-1."""

_SUMMED_COLUMNS = 2048
"""The columns that are summed together: they stay in the processor's cache."""


@dataclass(frozen=True)
class MeanRows(Transform):
    """Rows from N(m, 1e-9·C), m and C the mean and covariance of the existing rows.

    With z ~ N(0, I), z·(X − m) / √n has the covariance C of the n rows X, so that the
    covariance itself, columns × columns, is never computed.

    Attributes:
        rows: the number of existing rows.
        version: 1 multiplies in the dtype that is drawn, and its last bits depend on the
            BLAS; 2 multiplies in float64 and rounds once; in 3 the normals of a row of philox-1
            depend on its number in the whole tensor, and on no number of rows.
        skips_zeros: whether m and C are those of the elements of each column that are not zero.
    """

    rows: int
    version: int = 3
    skips_zeros: bool = False
    is_random = True
    is_sequential = False
    gathers = True

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Read the old rows once, and yield the new ones."""
        new, columns = shape[0], math.prod(shape[1:])
        if chance.is_indexed:
            with np.errstate(all="ignore"):  # of rows that are not finite, the mean is not either
                drawn = self._in_order(new, columns, dtype, chance, take)
            yield drawn
        else:
            yield self._by_torch(new, columns, dtype, chance, take)

    def _in_order(self, new: int, columns: int, dtype: Dtype, chance: Chance, take: Take) -> Array:
        """Sum in an order that nothing changes: 64 old rows by halves, and these one by one.

        z of row i and the old row j is the normal of the element i · (i - 1) / 2 + j of the stream,
        so that no two have the same, whenever their rows were added. The mean is summed in
        float64, the products in the dtype that is drawn: their sum is a thirty thousandth of a
        deviation.
        """
        total, mixed = np.zeros(columns), np.zeros((new, columns), dtype)
        weights = np.zeros((new, columns if self.skips_zeros else 1), dtype)
        counts = np.zeros(columns) if self.skips_zeros else np.full(1, float(self.rows))
        for start, rows in self._old_rows(columns, dtype, take, _SUMMED_ROWS):
            normals = np.empty((new, len(rows)), dtype)
            for row, of_row in enumerate(normals):
                chance.at(self._first(row, columns) + start).normal(of_row, 0.0, 1.0)
            for at in range(0, len(rows), _SUMMED_ROWS):
                group = slice(at, at + _SUMMED_ROWS)
                total += sum_by_halves(rows[group].astype(np.float64))
                if self.skips_zeros:
                    others = (rows[group] != 0).astype(dtype)
                    counts += sum_by_halves(others.astype(np.float64))
                    _add_products(weights, normals[:, group], others)
                else:
                    weights[:, 0] += sum_by_halves(normals[:, group].T.copy())
                _add_products(mixed, normals[:, group], rows[group])
        counts = np.maximum(counts, 1.0)
        mean = total / counts
        drawn = mean + np.sqrt(1e-9 / counts) * (mixed - weights * mean)
        flat: Array = drawn.astype(dtype).reshape(-1)
        return flat

    def _first(self, row: int, columns: int) -> int:
        """Return the index of the first normal of a new row, from the first of their elements on."""
        if self.version < 3:
            return row * self.rows
        number = self.rows + row
        return number * (number - 1) // 2 - self.rows * columns

    def _by_torch(self, new: int, columns: int, dtype: Dtype, chance: Chance, take: Take) -> Array:
        """Multiply matrices where torch draws, with torch's own sums."""
        import torch

        device, of_torch = chance.generator().device, getattr(torch, dtype.name)
        total = torch.zeros(columns, dtype=torch.float64, device=device)
        mixed = torch.zeros(new, columns, dtype=torch.float64, device=device)
        weights = torch.zeros(new, 1, dtype=torch.float64, device=device)
        counts = torch.zeros_like(total)
        for _, rows in self._old_rows(columns, dtype, take):
            normals = np.empty((new, len(rows)), dtype)
            chance.normal(normals, 0.0, 1.0)
            there, z = (torch.from_numpy(each).to(device) for each in (rows, normals))
            total += there.sum(dim=0, dtype=torch.float64)
            mixed += z.double() @ there.double() if self.version > 1 else z @ there
            if self.skips_zeros:
                others = (there != 0).double()
                counts += others.sum(dim=0)
                weights = weights + z.double() @ others
            else:
                weights += z.sum(dim=1, keepdim=True, dtype=torch.float64)
        if self.skips_zeros:
            counts.clamp_(min=1)
            mean, scale = total / counts, (1e-9 / counts).sqrt()
        else:
            mean, scale = total / self.rows, math.sqrt(1e-9 / self.rows)  # type: ignore[assignment]
        drawn = mean + scale * (mixed - weights * mean)
        flat: Array = drawn.to("cpu", of_torch).reshape(-1).numpy()
        return flat

    def _old_rows(
        self, columns: int, dtype: Dtype, take: Take, multiple: int = 1
    ) -> Iterator[tuple[int, Array]]:
        """Yield the old rows, as many together as a multiple of some, with the index of the first."""
        at_once = _CHUNK_NUMEL // max(1, columns)
        at_once = max(multiple, at_once - at_once % multiple)
        for start in range(0, self.rows, at_once):
            rows = np.empty((min(at_once, self.rows - start), columns), dtype)
            take(rows.reshape(-1))
            yield start, rows


def _add_products(mixed: Array, normals: Array, rows: Array) -> None:
    """Add normals (new, few) times rows (few, columns) to a matrix (new, columns)."""
    import numpy as np

    for start in range(0, rows.shape[1], _SUMMED_COLUMNS):
        columns = slice(start, start + _SUMMED_COLUMNS)
        some = np.ascontiguousarray(rows[:, columns])
        products = np.empty_like(some)
        for row, factors in enumerate(normals):
            np.multiply(some, factors[:, None], out=products)
            mixed[row, columns] += sum_by_halves(products)
