"""Find the tensors of a model that depend on how many classes it tells apart."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.checkpoints.models.architecture import (
    Classifier,
    NamedConstructor,
    architecture_of,
)
from reinit_cli.errors import RuleError
from reinit_cli.initializers.site import Arch
from reinit_cli.tensors.device import is_out_of_memory

_MOST_CLASSES = 2**40
"""With more classes, a head has more bytes than can be addressed."""


def classifier(arch: Arch | None) -> Classifier | None:
    """Return a model that is given by its name, and whose number of classes can be chosen.

    Raises:
        UnknownNameError: there is no such model.
    """
    if arch is None or not isinstance(arch, (str, NamedConstructor)):
        return None
    found = architecture_of(arch, ())
    return found if isinstance(found, Classifier) else None


def heads(model: Classifier, num_classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a model that depend on its number of classes.

    Args:
        model: the model.
        num_classes: how many it is to tell apart.

    Raises:
        RuleError: its constructor takes no number of classes.
    """
    default = model.default_num_classes()
    if default is None:
        raise RuleError(model.name, "tells no classes apart", kind="classes")
    # A third, since the number that is asked for may be the default.
    numbers = (default, num_classes, num_classes + 1)
    usual, wanted, other = (_shapes_with_classes(model, number) for number in numbers)
    return {
        key: shape for key, shape in wanted.items() if not usual.get(key) == shape == other[key]
    }


def _shapes_with_classes(model: Classifier, number: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of a model with that many classes.

    Raises:
        RuleError: it cannot have that many.
    """
    if number < _MOST_CLASSES:
        try:
            return model.built(num_classes=number).shapes
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    raise RuleError(model.name, "has no room for so many classes", kind="classes")
