"""Find the key whose stream a tensor is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

from reinit_cli.initializers import Elsewhere, Init, Site
from reinit_cli.tensors.info import TensorInfo


def key_of_stream(
    init: Init, tensor: TensorInfo, group: Sequence[str], elsewhere: Elsewhere
) -> str:
    """Return the key whose stream a tensor is drawn from: of several, the first by code point.

    Args:
        init: what fills it.
        tensor: the tensor.
        group: its key, or all keys of it where it is tied.
        elsewhere: what initializers may refer to.
    """
    return min(init.drawn_as(tensor.shape, Site(key, tensor.dtype, elsewhere)) for key in group)
