"""Arrange tensors as a tree of modules, in which layers that are alike are one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import NamedTuple

from reinit_cli.lazy import dataclass
from reinit_cli.operations.outline import NUMBER, braces
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo

_DEEPEST = 100
"""The deepest nesting of modules that is shown; keys come from strangers."""

_LONGEST = 1_000
"""The characters of a key that are searched for modules."""

_NUMBER = re.compile(NUMBER)

_MODULE_CHARS = 300
"""The characters that take the memory of a module."""

_MOST_CHARS = 60_000_000
"""The characters of the paths of all modules, with what they take; other tensors are in none."""


# A named tuple: a tree may have a hundred thousand, and dataclasses take four times as long.
class Branch(NamedTuple):
    """A module with the sums of its contents, or a tensor; several that are alike are one.

    Attributes:
        name: the end of its path, with the numbers of several: "layers.{0..31}".
        path: a pattern that names the keys of its tensors, or begins that of what is in it.
        depth: how many branches it lies in.
        tensor: the first of its tensors, or None for a module.
        copies: how many are alike in the module around it.
        leaves: the number of tensors.
        parameters: the elements of those that are parameters; of a tied tensor's once.
        buffers: those of the others.
        nbytes: the bytes of both.
    """

    name: str
    path: str
    depth: int
    tensor: TensorInfo | None
    copies: int
    leaves: int
    parameters: int
    buffers: int
    nbytes: int


_Sums = tuple[int, int, int, int]


@dataclass(slots=True)
class _Module:
    """A module under construction, with the sums of its contents.

    Attributes:
        prefix: that of the keys in it, with the dot.
        kind: equal for modules whose contents are alike.
    """

    prefix: str
    depth: int = -1
    around: _Module | None = None
    inside: list[TensorInfo | _Module] = field(default_factory=list)
    kind: str = ""
    leaves: int = 0
    parameters: int = 0
    buffers: int = 0
    nbytes: int = 0

    def add(self, leaves: int, parameters: int, buffers: int, nbytes: int) -> None:
        """Add to the sums."""
        self.leaves += leaves
        self.parameters += parameters
        self.buffers += buffers
        self.nbytes += nbytes

    @property
    def sums(self) -> _Sums:
        """Tensors, parameters, buffers and bytes."""
        return self.leaves, self.parameters, self.buffers, self.nbytes


def tree_of(
    tensors: Sequence[TensorInfo],
    repeated: Collection[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    buffers: Collection[str] = (),
    *,
    deepest: int | None = None,
) -> list[Branch]:
    """Return modules and tensors as they lie in each other, each before what is in it.

    Segments are parted by dots. What has one name but comes apart in the state dict stands
    together at the first place. Neighbors with numbers for names are one branch where all that
    is in them is alike: names, shapes, dtypes and ties.

    Args:
        tensors: the entries.
        repeated: the keys that add nothing to a sum, since a tied one does.
        aliases: for a tied key the first of its ties.
        buffers: the keys of the buffers.
        deepest: how many levels are shown; None for all.
    """
    kinds = _Kinds(repeated, aliases, buffers)
    whole = _Module("")
    modules = {"": whole}
    left = _MOST_CHARS
    for tensor in tensors:
        prefix = _prefix(tensor.key) if left > 0 else ""
        known = len(modules)
        module = _module(modules, prefix)
        left -= (len(modules) - known) * (len(prefix) + _MODULE_CHARS)
        module.inside.append(tensor)
        module.add(*kinds.sums_of(tensor))
    # What is inside was made after what is around it.
    for module in reversed(modules.values()):
        module.kind = kinds.of_module(module)
        if module.around is not None:
            module.around.add(*module.sums)
    return _collect(whole, _Place(), _DEEPEST + 1 if deepest is None else deepest, kinds)


def _prefix(key: str) -> str:
    key = key[:_LONGEST]
    if key.count(".") <= _DEEPEST:
        return key[: key.rfind(".") + 1]
    return ".".join((*key.split(".", _DEEPEST)[:_DEEPEST], ""))


def _module(modules: dict[str, _Module], prefix: str) -> _Module:
    """Return the module of a prefix, made with those around it where it is new."""
    missing = []
    while prefix not in modules:
        missing.append(prefix)
        prefix = prefix[: prefix.rfind(".", 0, -1) + 1]
    module = modules[prefix]
    for longer in reversed(missing):
        modules[longer] = inner = _Module(longer, module.depth + 1, module)
        module.inside.append(inner)
        module = inner
    return module


@dataclass(slots=True)
class _Kinds:
    """Gives what is alike one text, and each tensor its part of the sums."""

    repeated: Collection[str]
    aliases: Mapping[str, str]
    buffers: Collection[str]
    known: dict[tuple[str, ...], str] = field(default_factory=dict)

    def of_module(self, module: _Module) -> str:
        """Return the kind of a module, all that is in it having one."""
        start = len(module.prefix)
        parts: list[str] = []
        for each in module.inside:
            if isinstance(each, _Module):
                parts += (each.prefix[start:], each.kind)
            else:
                parts += (each.key[start:], self.of_tensor(each))
        # As text: keys choose the numbers of modules, and integers can be chosen with one hash.
        return self.known.setdefault(tuple(parts), f"module {len(self.known)}")

    def of_tensor(self, tensor: TensorInfo) -> str:
        key = tensor.key
        is_buffer = "buffer" if key in self.buffers else ""
        kind = f"{tensor.dtype} {tensor.shape} {is_buffer} {tensor.carried or ''}"
        if key in self.repeated or key in self.aliases:
            kind += f" {key in self.repeated} {_way(key, self.aliases.get(key, key))}"
        return kind

    def sums_of(self, tensor: TensorInfo) -> _Sums:
        if tensor.key in self.repeated:
            return 1, 0, 0, 0
        is_buffer = tensor.key in self.buffers
        numel = tensor.numel
        return 1, 0 if is_buffer else numel, numel if is_buffer else 0, tensor.nbytes


def _way(key: str, other: str) -> str:
    """Return how one key is reached from another: the levels up, and the segments down."""
    mine, theirs = key.split("."), other.split(".")
    pairs = zip(mine, theirs, strict=False)
    shared = next((at for at, (one, two) in enumerate(pairs) if one != two), 0)
    return f"{len(mine) - shared} {'.'.join(theirs[shared:])}"


def _collect(module: _Module, place: _Place, deepest: int, kinds: _Kinds) -> list[Branch]:
    """Return what is in a module.

    Args:
        module: the module, or the first of several that are alike.
        place: where it lies.
        deepest: how many levels are shown.
        kinds: what is alike.
    """
    found: list[Branch] = []
    if place.depth >= deepest:
        return found
    for names, first in _joined(module, kinds):
        each, inside = _lone(first, place.inside(names), kinds)
        tensor = None if isinstance(each, _Module) else each
        one = each.sums if isinstance(each, _Module) else kinds.sums_of(each)
        sums = (inside.count * number for number in one)
        copies = inside.count // place.count
        texts = (inside.name or "", inside.path or "")
        found.append(Branch(*texts, place.depth, tensor, copies, *sums))
        if isinstance(each, _Module):
            found += _collect(each, inside.deeper(), deepest, kinds)
    return found


def _lone(
    each: TensorInfo | _Module, place: _Place, kinds: _Kinds
) -> tuple[TensorInfo | _Module, _Place]:
    """Return the innermost of what has all that is in it in common, and where it lies."""
    while isinstance(each, _Module) and len(alone := _joined(each, kinds)) == 1:
        ((names, each),) = alone
        place = place.joined(names)
    return each, place


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a branch lies.

    Attributes:
        name: what it is called within the one around it; names may be empty, but not None.
        path: the pattern of all names.
        depth: how many branches it lies in.
        count: how many modules or tensors it stands for.
    """

    name: str | None = None
    path: str | None = None
    depth: int = 0
    count: int = 1

    def inside(self, names: Sequence[str]) -> _Place:
        """Return that of what has these names in it."""
        return replace(self, name=None).joined(names)

    def joined(self, names: Sequence[str]) -> _Place:
        """Return that of it with all that is in it, which has these names."""
        shown = braces(names) if len(names) > 1 else names[0]
        pattern = shown if len(names) > 1 else Pattern.escape(shown)
        return _Place(
            shown if self.name is None else f"{self.name}.{shown}",
            pattern if self.path is None else f"{self.path}.{pattern}",
            self.depth,
            self.count * len(names),
        )

    def deeper(self) -> _Place:
        """Return that of what is in it."""
        return replace(self, depth=self.depth + 1)


def _joined(
    module: _Module, kinds: _Kinds
) -> Collection[tuple[Sequence[str], TensorInfo | _Module]]:
    """Return what is in a module: names, and the first of what has them and is alike."""
    start = len(module.prefix)
    alike: dict[tuple[bool, str], tuple[list[str], TensorInfo | _Module]] = {}
    for each in module.inside:
        is_module = isinstance(each, _Module)
        name = each.prefix[start:-1] if isinstance(each, _Module) else each.key[start:]
        kind = each.kind if isinstance(each, _Module) else kinds.of_tensor(each)
        # No kind begins with a dot, so that what has another name is alone.
        place = (is_module, kind if _NUMBER.fullmatch(name) else f".{name}")
        alike.setdefault(place, ([], each))[0].append(name)
    return alike.values()


def sorted_tree(tree: Sequence[Branch], size: Callable[[Branch], int]) -> list[Branch]:
    """Return a tree in which what lies in one branch is sorted, the smallest first.

    Args:
        tree: branches, each before what is in it.
        size: what a branch is sorted by.
    """
    whole: _Family = (None, [])
    around = [whole]
    for branch in tree:
        del around[branch.depth + 1 :]
        family: _Family = (branch, [])
        around[-1][1].append(family)
        around.append(family)
    return list(_flat(whole, size))


_Family = tuple[Branch | None, list["_Family"]]
"""A branch with those that lie in it."""


def _flat(family: _Family, size: Callable[[Branch], int]) -> Iterator[Branch]:
    for each in sorted(family[1], key=lambda inner: size(inner[0]) if inner[0] else 0):
        if each[0] is not None:
            yield each[0]
        yield from _flat(each, size)
