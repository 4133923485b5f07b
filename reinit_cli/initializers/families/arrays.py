"""Values that are given as an array."""

from __future__ import annotations

from typing import Annotated

from reinit_cli.initializers.donors import need_alike
from reinit_cli.initializers.families.transforms import Taken
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.parameters import ArrayFile
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site


@register(
    purpose="elsewhere",
    law="the elements of an array of NumPy",
    example="values:bias.npy",
    usage='-r "fc.bias={}"',
    defined="tensors with the shape of the array, and its dtype or two floating-point dtypes",
    is_transform=True,
    takes_all=True,
)
def values(shape: tuple[int, ...], site: Site, *, file: Annotated[str, ArrayFile()]) -> Law:
    """Fill with an array that numpy.save wrote.

    The file is read without pickle, so arrays of Python objects are refused. Values of another
    dtype of floats are rounded once. For a tensor of another checkpoint use `rewind`.
    """
    (found,) = site.elsewhere.donors[file].values()
    need_alike(found, shape, site, file)
    return Taken(file, found.key if found.key != site.key else "")
