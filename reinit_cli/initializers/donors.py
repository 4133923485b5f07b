"""Find the tensor of another checkpoint that stands for one of the source."""

from __future__ import annotations

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.site import Donor, Site
from reinit_cli.tensors.dtype import DTYPES, FLOATS
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import shape as written

ANY = "*"

_FLOATS = frozenset(FLOATS)


def tensor_of(site: Site, checkpoint: str, source: str | None) -> TensorInfo:
    """Return the tensor of another checkpoint that a tensor is to be.

    Args:
        site: the tensor.
        checkpoint: the name of the other checkpoint.
        source: its key there, `*` being the key here; "OLD=NEW" takes for the `*` in NEW
            what that in OLD stands for in the key here. None for the same key, or where the
            checkpoints have no keys in common the one without or with a prefix.

    Raises:
        UndefinedError: there is none.
    """
    donor = site.elsewhere.donors[checkpoint]
    if source is not None:
        key = key_there(source, site.key)
        if key not in donor:
            raise UndefinedError(f"{checkpoint!r} has no key {key!r}")
        return donor[key]
    keys = {site.key: ""} if site.key in donor else _prefixed(site, checkpoint, donor)
    if not keys:
        raise UndefinedError(f"{checkpoint!r} has no such key")
    if len(keys) > 1:
        found = " and ".join(repr(key) for key in list(keys)[:3])
        example = next(iter(keys.values()))
        raise UndefinedError(f"{checkpoint!r} has it as {found}; name one, such as from={example}")
    return donor[next(iter(keys))]


def tensor_like(
    site: Site, shape: tuple[int, ...], checkpoint: str, source: str | None
) -> TensorInfo:
    """Return the tensor of another checkpoint that a tensor is to be, if it has the same shape.

    Raises:
        UndefinedError: there is none.
    """
    found = tensor_of(site, checkpoint, source)
    _need_shape(found, shape, checkpoint)
    return found


def need_alike(found: TensorInfo, shape: tuple[int, ...], site: Site, name: str) -> None:
    """Refuse a tensor of another file that another tensor cannot be a copy of.

    Args:
        found: the tensor there.
        shape: the shape of the tensor that becomes a copy.
        site: that tensor.
        name: what people call the other file.

    Raises:
        UndefinedError: its shape or dtype differs; of two dtypes of floats the values are rounded.
    """
    _need_shape(found, shape, name)
    if (
        found.dtype != site.dtype
        and not {DTYPES.get(found.dtype), DTYPES.get(site.dtype)} <= _FLOATS
    ):
        raise UndefinedError(f"in {name!r} it is {found.dtype}, not {site.dtype}")


def _need_shape(found: TensorInfo, shape: tuple[int, ...], name: str) -> None:
    if found.carried:
        raise UndefinedError(f"in {name!r} it is {found.carried}")
    if found.shape != shape:
        raise UndefinedError(f"in {name!r} its shape is {written(found.shape)}")


def _prefixed(site: Site, checkpoint: str, donor: Donor) -> dict[str, str]:
    """Return the keys that differ by a prefix, and what `from` says of each."""
    found = {}
    for prefix in site.elsewhere.prefixes.get(checkpoint, ()):
        key = prefix.applied(site.key)
        if key is not None and key in donor:
            old = f"{prefix.removed}*=" if prefix.removed else ""
            found[key] = f"{old}{prefix.added}*"
    return found


def key_there(source: str, key: str) -> str:
    """Return the key that `from` names for a key.

    Raises:
        UndefinedError: the key is not one that it is for.
    """
    old, equals, new = source.partition("=")
    if not equals:
        return source.replace(ANY, key)
    start, star, end = old.partition(ANY)
    is_of = key.startswith(start) and key.endswith(end) and len(key) >= len(start) + len(end)
    if not (is_of if star else key == old):
        raise UndefinedError(f"from={source} says nothing of it")
    return new.replace(ANY, key[len(start) : len(key) - len(end)] if star else "")
