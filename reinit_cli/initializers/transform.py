"""Define the laws that change existing values rather than replace them.

A transform is given an array that holds the existing values in row-major order: all of them,
or one block after the other where it is sequential. It changes them in place.
"""

from __future__ import annotations

import math

from reinit_cli.initializers.blocks import Take
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.overridable import overridable
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.moments import Moments


class Transform(Law):
    """A law that depends on the existing values, so that its moments are not known beforehand."""

    mean = math.nan
    std = math.nan
    is_sequential = True
    needs_moments = False
    gathers = False
    rearranges = False
    """Whether it moves values to other places, and does so with any of them in one dimension."""

    mixes = False
    """Whether its donor's values are mixed with the tensor's own, rather than replace them."""

    @overridable
    def is_random(self) -> bool:
        """Whether the change is random."""
        return False

    @overridable
    def donor(self) -> str | None:
        """The checkpoint whose values are changed, where it is not the tensor's own."""
        return None

    @overridable
    def donor_key(self) -> str:
        """The key of these values there, where it is another; "" for the tensor's own."""
        return ""

    def settled(self, moments: Moments) -> Law:
        """Return the law for a tensor with given moments, where the transform needs them.

        Raises:
            UndefinedError: it has no meaning for such values.
        """
        del moments
        raise NotImplementedError

    def mixed_with(self, own: Take) -> Law:
        """Return the law that mixes the values that it is given with the tensor's own.

        Args:
            own: gives these, in their order.
        """
        del own
        raise NotImplementedError

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what its blocks take: it gets the existing values in order."""
        return self.working_nbytes(shape, itemsize)

    def fill(self, values: Array, chance: Chance) -> None:
        """Change the values in place."""
        raise NotImplementedError


class Move(Transform):
    """A transform that moves values as they are, in their own dtype, whichever it is."""
