"""Compare two sources, tensor by tensor."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import MappingProxyType

from reinit_cli.checkpoints.find import find_source, may_be_model
from reinit_cli.checkpoints.folder import looked_into
from reinit_cli.checkpoints.model import drawn_from
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.execution.fetch import announce_in_order
from reinit_cli.execution.sketches import BINS, PICTURES
from reinit_cli.lazy import dataclass
from reinit_cli.operations.difference import Change, Difference
from reinit_cli.operations.downloads import download_of_tensors, fetch_tensors
from reinit_cli.operations.prefix import PrefixDifference, prefix_between
from reinit_cli.operations.stats import Measured, measure_source
from reinit_cli.planning.select import selection_of
from reinit_cli.request.rename import Rename, renames_of
from reinit_cli.request.request import Request
from reinit_cli.storage.reader import Download
from reinit_cli.storage.segments import View
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.tensors.blocks import blocks_row_by_row, byte_blocks
from reinit_cli.tensors.convert import bytes_of
from reinit_cli.tensors.distance import Tolerance, distance_of, in_lockstep
from reinit_cli.tensors.dtype import MOVED, has_itemsize
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.threads import Progress, aside, stop_here, unwatched


def measure_changed(
    first: Source, second: Source, found: Sequence[Difference], seed: int
) -> tuple[list[Measured], list[Measured]]:
    """Measure the largest tensors whose values differ, as each source has them.

    Args:
        first: a source.
        second: what it was compared with.
        found: what differs.
        seed: of models that are built without weights.
    """
    changed = [each for each in found if each.distance is not None and each.first is not None]
    largest = sorted(changed, key=lambda each: -each.first.numel if each.first else 0)[:PICTURES]
    mine, theirs = (
        measure_source(
            source, [one for one in tensors if one is not None], None, seed, unwatched, bins=BINS
        )
        for source, tensors in (
            (first, [each.first for each in largest]),
            (second, [each.second for each in largest]),
        )
    )
    return mine, theirs


def compare(
    first: Source,
    second: Source,
    is_chosen: Callable[[str], bool],
    tolerance: Tolerance,
    seed: int,
    progress: Progress,
    names: Mapping[str, str] = MappingProxyType({}),
) -> list[Difference]:
    """Compare two sources.

    Equal bytes are recognized without numpy.

    Args:
        first: a source.
        second: what it is compared with.
        is_chosen: whether a key is looked at.
        tolerance: what counts as equal.
        seed: of models that are built without weights.
        progress: called with the bytes of the tensors of the first that are done.
        names: new names of keys of the first.

    Returns:
        One for each key, in the order of the first source, then what only the second has.
    """
    looked = []
    for source, chosen in _compared(first, second, is_chosen, names):
        fetch_tensors(source, chosen, progress)
        looked.append(looked_into(source, chosen))
    first, second = looked
    with first.open(seed) as mine, second.open(seed) as theirs:

        def work() -> list[Difference]:
            pairs = _Pairs(mine, theirs, tolerance)
            found = []
            differences = compare_keys(first, second, is_chosen, names)
            pairs.announce(differences)
            for each in differences:
                stop_here()
                found.append(pairs.compared(each))
                progress(each.first.nbytes if each.first is not None else 0)
            return _with_moves(found, pairs)

        found = aside(work)
        mine.check_unchanged()
        theirs.check_unchanged()
    return found


def downloads_to_compare(
    first: Source, second: Source, is_chosen: Callable[[str], bool], names: Mapping[str, str]
) -> Iterator[Download | None]:
    """Yield what `compare` downloads of each source, if anything."""
    for source, chosen in _compared(first, second, is_chosen, names):
        yield download_of_tensors(source, chosen)


def _compared(
    first: Source, second: Source, is_chosen: Callable[[str], bool], names: Mapping[str, str]
) -> Iterator[tuple[Source, list[str]]]:
    """Yield both sources with the keys that are compared, as each has them."""
    keys = (tensor.key for tensor in first.tensors)
    yield first, [key for key in keys if is_chosen(names.get(key, key))]
    yield second, [tensor.key for tensor in second.tensors if is_chosen(tensor.key)]


def find_both(
    first: str,
    second: str,
    weights: str | None,
    root: str | None,
    stream: str = DEFAULT_STREAM,
) -> tuple[Source, Source]:
    """Find two sources; weights are chosen for models, and one of the two may be a file.

    Raises:
        SourceError: one of them cannot be read.
    """
    mine, theirs = (
        drawn_from(find_source(each, weights if may_be_model(each) else None, root), stream)
        for each in (first, second)
    )
    return mine, theirs


def names_of(source: Source, rename: Iterable[Rename | str]) -> Mapping[str, str]:
    """Return the names that renames give the keys of a source.

    Raises:
        RuleError: one of them cannot be obeyed.
    """
    renames = renames_of(rename)
    if not renames:
        return {}
    keys = [tensor.key for tensor in source.tensors]
    return selection_of(source.name, keys, Request(source.name, (), rename=renames)).names


def keys_of(
    sources: tuple[Source, Source], names: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return the keys of two sources, those of the first as they are renamed, each once."""
    mine, theirs = ([tensor.key for tensor in source.tensors] for source in sources)
    return list(dict.fromkeys((*(names.get(key, key) for key in mine), *theirs)))


def compare_keys(
    first: Source,
    second: Source,
    is_chosen: Callable[[str], bool],
    names: Mapping[str, str] = MappingProxyType({}),
) -> list[Difference]:
    """Compare keys, shapes and dtypes alone, without reading a tensor."""
    named = ((names.get(tensor.key, tensor.key), tensor) for tensor in first.tensors)
    mine = {key: tensor for key, tensor in named if is_chosen(key)}
    theirs = {tensor.key: tensor for tensor in second.tensors if is_chosen(tensor.key)}
    found = [_by_kind(key, tensor, theirs.get(key)) for key, tensor in mine.items()]
    added = [
        Difference(key, "added", None, each) for key, each in theirs.items() if key not in mine
    ]
    return found + added


def prefix_of(found: Sequence[Difference]) -> PrefixDifference | None:
    """Return the prefix that explains why keys of two sources differ, or None."""
    first = {each.key for each in found if each.first is not None}
    moved = (each.second.key for each in found if each.change == "moved" and each.second)
    there = (each.key for each in found if each.second is not None and each.change != "moved")
    return prefix_between(first, {*there, *moved})


def _by_kind(key: str, first: TensorInfo, second: TensorInfo | None) -> Difference:
    change: Change = "same"
    if second is None:
        change = "removed"
    elif first.shape != second.shape:
        change = "shape"
    elif first.dtype != second.dtype or first.carried != second.carried:
        change = "dtype"
    return Difference(key, change, first, second)


def _with_moves(found: Sequence[Difference], pairs: _Pairs) -> list[Difference]:
    """Join what was removed with what was added elsewhere with the same bytes."""
    removed = [each for each in found if each.change == "removed"]
    added = [each for each in found if each.change == "added"]
    kinds = {_kind(each.first) for each in removed} & {_kind(each.second) for each in added}
    old = _by_bytes(removed, kinds, lambda each: pairs.digest_of_first(each.first))
    new = _by_bytes(added, kinds, lambda each: pairs.digest_of_second(each.second))
    there: dict[str, Difference] = {}
    for place in old.keys() & new.keys():
        there |= _matched(old[place], new[place])
    arrived = {each.key for each in there.values()}
    return [
        replace(each, change="moved", second=there[each.key].second)
        if each.change == "removed" and each.key in there
        else each
        for each in found
        if each.change != "added" or each.key not in arrived
    ]


def _by_bytes(
    found: Sequence[Difference],
    kinds: AbstractSet[object],
    digest_of: Callable[[Difference], bytes | None],
) -> Mapping[object, list[Difference]]:
    """Return those of some kinds that have bytes, by kind and digest."""
    places: dict[object, list[Difference]] = {}
    for each in found:
        kind = _kind(each.first or each.second)
        if kind in kinds and (digest := digest_of(each)):
            places.setdefault((kind, digest), []).append(each)
    return places


def _matched(old: Sequence[Difference], new: Sequence[Difference]) -> Mapping[str, Difference]:
    """Pair tensors of equal bytes, those first whose keys have the longest ending in common.

    Biases of zeros, say, are all alike.

    Returns:
        The new one for the key of each old one that has one.
    """
    matched: dict[str, Difference] = {}
    arrived: set[str] = set()
    longest = max(each.key.count(".") + 1 for each in (*old, *new))
    for length in range(min(longest, _LONGEST_ENDING), -1, -1):
        waiting: dict[tuple[str, ...], deque[Difference]] = {}
        for each in new:
            if each.key not in arrived:
                waiting.setdefault(_ending(each.key, length), deque()).append(each)
        for each in old:
            alike = waiting.get(_ending(each.key, length))
            if each.key not in matched and alike:
                matched[each.key] = alike.popleft()
                arrived.add(matched[each.key].key)
    return matched


_LONGEST_ENDING = 20
"""The most segments of keys that are compared; keys come from strangers."""


def _ending(key: str, length: int) -> tuple[str, ...]:
    """Return the last segments of a key."""
    return tuple(key.rsplit(".", length)[-length:]) if length else ()


def _kind(tensor: TensorInfo | None) -> object:
    assert tensor is not None
    # As text: files choose the numbers, and integers can be chosen with one hash.
    return f"{tensor.dtype} {tensor.shape} {tensor.nbytes}"


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Both sources, open."""

    first: Contents
    second: Contents
    tolerance: Tolerance

    def announce(self, differences: Sequence[Difference]) -> None:
        """Let remote sources fetch ahead what is compared, in this order."""
        both = [each for each in differences if each.change in ("same", "dtype")]
        for contents, tensors in (
            (self.first, [each.first for each in both]),
            (self.second, [each.second for each in both]),
        ):
            if any(file.is_distant for file in contents.files().values()):
                read = (each for each in tensors if each is not None and not each.carried)
                announce_in_order(map(contents.view, read))

    def compared(self, difference: Difference) -> Difference:
        """Return a difference after a look at the values, where the shapes are the same."""
        one, two = difference.first, difference.second
        if one is None or two is None or difference.change == "shape":
            return difference
        if one.carried or two.carried:
            return (
                replace(difference, change="unknown") if one.carried == two.carried else difference
            )
        mine, theirs = self.first.view(one), self.second.view(two)
        if one.dtype == two.dtype and _are_equal(mine, theirs):
            return difference
        if one.fillable_dtype is None or two.fillable_dtype is None:
            if one.dtype == two.dtype and _have_equal_elements(mine, theirs):
                return difference
            return replace(difference, change="values" if one.dtype == two.dtype else "dtype")
        distance = distance_of(in_lockstep(mine, theirs), self.tolerance)
        if one.dtype != two.dtype:
            return replace(difference, distance=distance if distance.changed else None)
        if distance.changed:
            return replace(difference, change="values", distance=distance)
        lie_alike = mine.contiguous is not None and theirs.contiguous is not None
        has_bits = lie_alike and self.tolerance.is_exact
        return replace(difference, change="bits") if has_bits else difference

    def digest_of_first(self, tensor: TensorInfo | None) -> bytes | None:
        return _digest(self.first, tensor)

    def digest_of_second(self, tensor: TensorInfo | None) -> bytes | None:
        return _digest(self.second, tensor)


def _digest(contents: Contents, tensor: TensorInfo | None) -> bytes | None:
    """Return a digest of a tensor's bytes in row-major order, or None where it has no bytes."""
    if tensor is None or tensor.carried or not tensor.nbytes:
        return None
    view = contents.view(tensor)
    digest = hashlib.blake2b(digest_size=16)
    if (data := view.contiguous) is not None:
        for block in byte_blocks(data):
            digest.update(block)
    elif has_itemsize(tensor.dtype) and not tensor.overlaps_itself:
        for values in blocks_row_by_row(view):
            digest.update(bytes_of(values.array))
    else:
        return None
    return digest.digest()


def _are_equal(first: View, second: View) -> bool:
    """Whether two tensors of one dtype and shape have the same strides and bytes."""
    if first.layout != second.layout:
        return False
    blocks = zip(_bytes_of_parts(first), _bytes_of_parts(second), strict=True)
    # A bytearray is compared by memcmp, and a memoryview item by item.
    return all(mine == theirs for mine, theirs in blocks)


def _have_equal_elements(first: View, second: View) -> bool:
    """Whether two tensors of a dtype without numbers have the same bytes, however they lie."""
    if first.dtype not in MOVED:
        return False
    pairs = in_lockstep(first, second)
    return all(bool((mine.array == theirs.array).all()) for mine, theirs in pairs)


def _bytes_of_parts(view: View) -> Iterator[bytearray]:
    for part in view.parts:
        yield from byte_blocks(part.data)
