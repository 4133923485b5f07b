"""Define the laws that change existing values rather than replace them.

A transform is given a tensor that holds the existing values in row-major order: all of them,
or one block after the other where it is sequential. It changes them in place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import Take
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.overridable import overridable
from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.moments import Moments

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


class Transform(Law):
    """A law that depends on the existing values, so that its moments are not known beforehand."""

    mean = math.nan
    std = math.nan
    is_sequential = True
    needs_moments = False
    gathers = False

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

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Change the values in place."""
        raise NotImplementedError

    def gather(self, take: Take, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Fill a tensor from values that are not its own, where the law `gathers`.

        Args:
            take: fills a 1-D tensor with the next values.
            tensor: contiguous and not yet filled.
            generator: the only source of randomness.
        """
        raise NotImplementedError


class Move(Transform):
    """A transform that moves values as they are, in their own dtype, whichever it is."""
