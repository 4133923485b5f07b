"""Sum up the entries of a state dict: by dtype, by module, and alike ones together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from reinit_cli.lazy import dataclass
from reinit_cli.operations.outline import Group, braces, groups_of
from reinit_cli.tensors.counts import Counts, buffer_keys, count
from reinit_cli.tensors.info import TensorInfo, repeated_keys, tied_groups
from reinit_cli.tensors.spared import quantized_weights, spared

_FEWEST_MODULES = 4
"""A model with fewer modules at its top is shown with what the largest of them has in it."""

_DEEPEST = 20
"""How many modules are opened for that; keys come from strangers."""

_LONGEST_BRACES = 40
"""The longest pattern of numbers that is shown."""

_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Share:
    """What has one dtype.

    Attributes:
        dtype: its name.
        tensors: how many tensors have it.
        numel: their elements, of ties once.
        nbytes: their bytes, of ties once.
    """

    dtype: str
    tensors: int
    numel: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the model with the sums of what is in it.

    Attributes:
        name: its path; numbers in braces where layers are all that it has.
        counts: what is in it.
    """

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Sums:
    """How much the entries of a state dict are, and of what.

    Attributes:
        counts: all of them.
        dtypes: those of each dtype, the most bytes first.
        modules: the modules of the top, in their order.
        groups: the entries whose keys differ in numbers only, the most bytes first.
        sizes: what is in each group, in the same order.
        ties: the keys of each tensor that has several.
        quantized: the number of weights that are stored with scales.
        buffers: the keys of the buffers.
    """

    counts: Counts
    dtypes: tuple[Share, ...]
    modules: tuple[Module, ...]
    groups: tuple[Group, ...]
    sizes: tuple[Counts, ...]
    ties: tuple[tuple[str, ...], ...]
    quantized: int
    buffers: frozenset[str]


def sums_of(tensors: tuple[TensorInfo, ...]) -> Sums:
    """Sum up the entries of a state dict."""
    left_alone = spared(tensors)
    buffers = buffer_keys(tensors, left_alone)
    ties = tied_groups(tensors)
    repeated = repeated_keys(tensors, ties)
    real = [tensor for tensor in tensors if not tensor.is_no_tensor]
    sized = [(group, count(group.tensors, repeated, buffers)) for group in groups_of(real)]
    sized.sort(key=lambda each: -each[1].nbytes)
    return Sums(
        count(tensors, repeated, buffers),
        _dtypes(real, repeated),
        tuple(_modules(real, repeated, buffers)),
        tuple(group for group, _ in sized),
        tuple(counts for _, counts in sized),
        tuple({id(keys): keys for keys in ties.values()}.values()),
        len(quantized_weights(left_alone)),
        buffers,
    )


def _dtypes(tensors: Sequence[TensorInfo], repeated: Collection[str]) -> tuple[Share, ...]:
    alike: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        alike.setdefault(tensor.dtype, []).append(tensor)
    shares = []
    for dtype, found in alike.items():
        own = [tensor for tensor in found if tensor.key not in repeated]
        numel, nbytes = sum(each.numel for each in own), sum(each.nbytes for each in own)
        shares.append(Share(dtype, len(found), numel, nbytes))
    return tuple(sorted(shares, key=lambda share: -share.nbytes))


def _modules(
    tensors: Sequence[TensorInfo], repeated: Collection[str], buffers: Collection[str]
) -> Iterator[Module]:
    """Yield the modules at the top; where these are few, those in the largest of them."""
    found = _children("", tensors)
    for _ in range(_DEEPEST):
        if len(found) >= _FEWEST_MODULES or not found:
            break
        largest = max(found, key=lambda path: sum(each.nbytes for each in found[path]))
        inner = _children(f"{largest}.", found[largest])
        if largest in inner or _numbers(inner) is not None:
            break
        before = list(found.items())
        at = [path for path, _ in before].index(largest)
        found = dict((*before[:at], *inner.items(), *before[at + 1 :]))
    for path, inside in found.items():
        yield Module(_named(path, inside), count(inside, repeated, buffers))


def _children(prefix: str, tensors: Sequence[TensorInfo]) -> dict[str, list[TensorInfo]]:
    """Return what lies in a module by the path of each module in it, or by its own key."""
    found: dict[str, list[TensorInfo]] = {}
    start = len(prefix)
    for tensor in tensors:
        end = tensor.key.find(".", start)
        found.setdefault(tensor.key[:end] if end > 0 else tensor.key, []).append(tensor)
    return found


def _numbers(children: Mapping[str, object]) -> frozenset[str] | None:
    """Return the last segments of paths, where all of them are numbers as patterns have them."""
    last = frozenset(path.rpartition(".")[2] for path in children)
    are_numbers = all(each.isdecimal() and len(each) <= _MOST_DIGITS for each in last)
    return last if are_numbers and all(str(int(each)) == each for each in last) else None


def _named(path: str, inside: Sequence[TensorInfo]) -> str:
    """Return the path of a module, with the numbers of the layers that it consists of."""
    if len(inside) == 1 and inside[0].key == path:
        return path
    numbers = _numbers(_children(f"{path}.", inside))
    if numbers is None:
        return path
    text = braces(numbers)
    return f"{path}.{text if len(text) <= _LONGEST_BRACES else '*'}"
