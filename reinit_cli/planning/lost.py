"""Say what a source holds besides the tensors of its state dict, which a new file may lose."""

from __future__ import annotations

from collections.abc import Iterator

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural


def unwritten(located: Located) -> tuple[str, ...]:
    """Return what a file of the state dict's tensors does not hold of a source.

    Every tensor outside the state dict counts, wherever in the file it lies: with the member
    that holds it, or in a line of its own.

    Args:
        located: what was found in the source.
    """
    names = [_path_of(each) for each in located.rest]
    members: dict[str, list[TensorInfo]] = {name: [] for name in names}
    elsewhere: dict[str, list[TensorInfo]] = {}
    for tensor in located.outside:
        path = _path_of(tensor.key)
        holder = next((name for name in _holders(path) if name in members), None)
        found = elsewhere.setdefault(path, []) if holder is None else members[holder]
        found.append(tensor)
    lines = (
        *(_counted(each, members[name]) for each, name in zip(located.rest, names, strict=True)),
        *(_counted(f"{path or 'the whole'} (outside)", held) for path, held in elsewhere.items()),
    )
    return tuple(dict.fromkeys(lines))  # shards may each have an epoch


def holds_more(located: Located) -> bool:
    """Whether a source holds anything besides the plain tensors of its state dict."""
    return bool(
        located.rest
        or located.outside
        or located.attributes
        or located.root
        or located.unknown_names
    )


def _path_of(text: str) -> str:
    """Return the path in a text that ends in what is there, or in where that is."""
    return text.rpartition(" (")[0]


def _holders(path: str) -> Iterator[str]:
    """Yield a path and those of what holds it, the longest first."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _counted(what: str, tensors: list[TensorInfo]) -> str:
    """Return what is somewhere, with its tensors and their elements counted."""
    if not tensors:
        return what
    count = f"{plural(len(tensors), 'tensor')}, "
    held = plural(sum(tensor.numel for tensor in tensors), "element")
    return f"{what[:-1]}: {'' if what.endswith('(a tensor)') else count}{held})"
