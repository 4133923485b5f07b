"""Find which keys an optimizer means by the names of its parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from reinit_cli.initializers.prefixes import Prefix, beginnings
from reinit_cli.tensors.optimizer import Optimizer, ParameterId


def named_keys(
    optimizer: Optimizer, known: Collection[str]
) -> Sequence[Mapping[ParameterId, str]] | None:
    """Return the keys that an optimizer names, as far as the state dict has them.

    What optimizes a part of a model, or a wrapped one, has other names than the state dict. The
    prefix that explains most of them counts, and several may explain as many.

    Args:
        optimizer: as it was saved.
        known: the keys of the state dict.

    Returns:
        What the names may mean; None where it has no names.
    """
    ids = optimizer.ids
    names = optimizer.names
    if names is None:
        texts = [each for each in ids if isinstance(each, str)]
        if not texts or len(texts) < len(ids) or not any(each in known for each in texts):
            return None
        names = tuple(texts)
    found = []
    for prefix in _likely(dict.fromkeys(names), known):
        keys = ((id_, prefix.applied(name)) for id_, name in zip(ids, names, strict=True))
        found.append({id_: key for id_, key in keys if key is not None and key in known})
    return [each for each in found if each]


def _likely(names: Collection[str], known: Collection[str]) -> list[Prefix]:
    """Return the changes of names that make the most of them keys; none where that is enough."""
    counts = Counter(_changes(names, known))
    most = max(counts.values(), default=0)
    if sum(name in known for name in names) >= most:
        return [Prefix()]
    return [prefix for prefix, count in counts.items() if count == most]


def _changes(names: Collection[str], known: Collection[str]) -> Iterator[Prefix]:
    for key in known:
        yield from (Prefix(added=text) for text, rest in beginnings(key) if rest in names)
    for name in names:
        yield from (Prefix(removed=text) for text, rest in beginnings(name) if rest in known)
