"""Tell from keys which layer of a stack a tensor belongs to, and how many layers there are.

A key may have several numbers. Which of them is that of a layer follows from the other keys:

    h.11.attn.c_proj.weight         the only number
    layers.3.experts.7.w2           experts lie next to each other, not on top of each other
    layers.2.blocks.5.mlp.fc2       both count up: stages of blocks, which are the layers
    block.3.layer.1.wo              the second does not count up: no other layer has a `wo`
    layers.3.mlp.2.weight           of a module without modules, which is a part of a layer
    encoder_layer_3.mlp.0.weight    at the end of a name, as in torchvision's ViT
    layer3.5.conv2.weight           blocks of stages that are numbered by name, as in ResNet
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.lazy import dataclass

_LONGEST, _MOST_NUMBERS, _MOST_DIGITS = 2_000, 16, 18
"""The longest key, the most numbers and the most digits; keys come from strangers."""

_PARALLEL = re.compile(
    "expert|head|branch|tower|member|adapter|codebook|encoders|decoders", re.IGNORECASE
)
"""Names of what lies next to each other, so that their numbers are not those of layers."""

_PLAIN, _NAMED = re.compile("()([0-9]+)", re.ASCII), re.compile("(.*[A-Za-z]_)([0-9]+)", re.DOTALL)
"""A number that stands alone, and a name that ends with one."""

_STAGE = re.compile("(.*(?:layer|stage|block|group|level|res)s?_?)([0-9]{1,4})", re.ASCII)
"""The name of a stage, if the number of a block follows."""

_SIDE = re.compile("(?:en|de)coder")
_OTHER_SIDE = {"encoder": "decoder", "decoder": "encoder"}

_CROSS = re.compile(
    r"cross|enc(?:oder)?_?(?:dec(?:oder)?)?_?att|multihead_attn|src_att", re.IGNORECASE
)
"""Names of the attention from a decoder to an encoder: torch's, fairseq's, T5's, BERT's."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Where a tensor lies in a stack of layers.

    Attributes:
        layer: the number of its layer.
        last: the highest number that keys of its stack have.
        count: how many numbers they have.
    """

    layer: int
    last: int
    count: int

    @property
    def layers(self) -> int:
        """The number of layers.

        Raises:
            UndefinedError: the keys do not count from 0, so that layers may be missing.
        """
        if self.count == self.last + 1:
            return self.count
        there = f"its keys have {self.count:,} of the layers 0 to {self.last:,}"
        raise UndefinedError(f"{there}, so that their number is not certain; give layers=")


@dataclass(frozen=True, slots=True)
class Pair:
    """The stacks of an encoder and a decoder that lie next to each other.

    Attributes:
        own: the one of a tensor, "encoder" or "decoder".
        other: the depth of the other one's last layer.
        is_crossed: whether layers attend from the decoder to the encoder, by their names.
    """

    own: str
    other: Depth
    is_crossed: bool


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in a key.

    Attributes:
        value: the number.
        before: what the key has before it.
        outline: that, with a "#" for each number before it that may be of a layer.
        is_of_leaf: whether at most the name of a parameter follows.
        stages: where it is of a block in a stage, what the key has before it without the number
            of the stage; otherwise "".
        stage: the number of the stage.
    """

    value: int
    before: str
    outline: str
    is_of_leaf: bool
    stages: str
    stage: int


@dataclass(frozen=True, slots=True)
class _Read:
    """A key.

    Attributes:
        numbers: those that may be of layers, the outermost first.
        outline: the key, with a "#" for each of them.
    """

    numbers: tuple[_Number, ...]
    outline: str


class Stacks:
    """The stacks of layers of a checkpoint, found when they are first needed."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Take all keys of a checkpoint."""
        self._keys = keys

    def depth(self, key: str) -> Depth:
        """Return where a tensor lies.

        Raises:
            UndefinedError: its key has no number of a layer.
        """
        read = _read(key)
        if not read.numbers:
            raise UndefinedError("its key has no number of a layer, and layer= gives none")
        counting = self._counting(read)
        if len(counting) > 1:
            return self._index.depth_of_block(read.numbers, counting[-1])
        inner = (each for each in read.numbers if not each.is_of_leaf)
        return self._index.depth_of_layer(next(iter((*counting, *inner, *read.numbers))))

    def pair(self, key: str) -> Pair | None:
        """Return the encoder and the decoder that a tensor lies in one of, or None.

        It lies in one if its path has "encoder" or "decoder", and a path that begins alike has
        the other of them, with layers.
        """
        found = _SIDE.search(key)
        if found is None:
            return None
        own, start = found[0], key[: found.start()]
        ours, theirs = (self._index.sides.get(start + side) for side in (own, _OTHER_SIDE[own]))
        if ours is None or theirs is None:
            return None
        decoder = ours if own == "decoder" else theirs
        return Pair(own, self.depth(theirs.deepest), is_crossed=decoder.is_crossed)

    @cached_property
    def _index(self) -> _Index:
        index = _Index()
        for key in self._keys:
            index.add(key)
        return index

    def _counting(self, read: _Read) -> list[_Number]:
        """Return the numbers that count up over the keys, the outermost first."""
        varying = self._index.varying(read)
        found = [each for at, each in enumerate(read.numbers) if at in varying]
        if not (found := [each for each in found if not each.is_of_leaf]):
            return []
        outer, *others = found
        # A stage consists of blocks; what has more besides is a layer itself.
        nkeys = self._index.nkeys
        of_outer = nkeys[f"{outer.before}{outer.value}."]
        return [outer, *(each for each in others if 2 * nkeys[each.before] > of_outer)]


@dataclass(slots=True)
class _Side:
    """What begins with the path of an encoder or of a decoder.

    Attributes:
        deepest: a key of its stack with the most layers.
        nlayers: how many layers keys of that stack were found with.
        is_crossed: whether a name is that of attention from a decoder to an encoder.
    """

    deepest: str
    nlayers: int
    is_crossed: bool


class _Index:
    """What the keys of a checkpoint have before and between their numbers.

    Attributes:
        nkeys: how many keys have a beginning that ends before or after a number.
        sides: the encoders and decoders that have layers, by their paths.
    """

    def __init__(self) -> None:
        self.nkeys: Counter[str] = Counter()
        self.sides: dict[str, _Side] = {}
        self._layers: dict[str, set[int]] = defaultdict(set)
        self._blocks: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        self._stages: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        self._alike: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        # What follows from these is asked for key by key, and there may be many.
        self._ends: dict[str, tuple[int, int]] = {}
        self._ranks: dict[str, dict[tuple[int, ...], int]] = {}
        self._outlines: dict[str, tuple[str, ...]] = {}
        self._varying: dict[str, frozenset[int]] = {}

    def add(self, key: str) -> None:
        """Add a key, if it is one that people write."""
        if len(key) > _LONGEST:
            return
        try:
            read = _read(key)
        except UndefinedError:
            return
        values = tuple(each.value for each in read.numbers)
        for at, each in enumerate(read.numbers):
            self.nkeys.update((each.before, f"{each.before}{each.value}."))
            self._layers[each.before].add(each.value)
            if not each.is_of_leaf:
                self._blocks[each.outline].add(values[: at + 1])
                if each.stages:
                    self._stages[each.stages][each.stage].add(each.value)
        self._alike[read.outline].add(values)
        self._outlines[read.outline] = tuple(each.outline for each in read.numbers)
        if (found := _SIDE.search(key)) is not None:
            self._add_side(key, found.end(), read)

    def _add_side(self, key: str, end: int, read: _Read) -> None:
        """Add a key whose path is that of an encoder or a decoder up to some length."""
        inside = (each for each in read.numbers if len(each.before) > end)
        stack = next((each for each in inside if not each.is_of_leaf), None)
        if stack is None:
            return
        nlayers, is_crossed = len(self._layers[stack.before]), bool(_CROSS.search(key, end))
        side = self.sides.setdefault(key[:end], _Side(key, nlayers, is_crossed))
        if nlayers > side.nlayers:
            side.deepest, side.nlayers = key, nlayers
        side.is_crossed |= is_crossed

    def varying(self, read: _Read) -> frozenset[int]:
        """Return which numbers of a key count up over the keys.

        Other keys have them otherwise, with the others the same, or most keys that begin alike
        have such others: a block may have what no other block has.
        """
        mostly = (at for at, each in enumerate(read.numbers) if self._balance[each.outline] > 0)
        return self._varying_in(read.outline).union(mostly)

    def _varying_in(self, outline: str) -> frozenset[int]:
        """Return which numbers keys of an outline have otherwise, with the others the same."""
        if outline not in self._varying:
            alike = self._alike.get(outline, set())
            numbers = range(len(next(iter(alike), ())))
            self._varying[outline] = frozenset(
                at
                for at in numbers
                if len({(*each[:at], *each[at + 1 :]) for each in alike}) < len(alike)
            )
        return self._varying[outline]

    @cached_property
    def _balance(self) -> Counter[str]:
        """For each beginning: in how many outlines its number varies, less in how many not."""
        balance: Counter[str] = Counter()
        for outline, beginnings in self._outlines.items():
            varying = self._varying_in(outline)
            for at, beginning in enumerate(beginnings):
                balance[beginning] += 1 if at in varying else -1
        return balance

    def depth_of_layer(self, number: _Number) -> Depth:
        """Return where a layer lies."""
        if number.stages and len(stages := self._stages[number.stages]) > 1:
            return _depth_in_stage(number, stages)
        if number.before not in self._ends:
            values = self._layers.get(number.before, {number.value})
            self._ends[number.before] = max(values), len(values)
        return Depth(number.value, *self._ends[number.before])

    def depth_of_block(self, numbers: Sequence[_Number], last: _Number) -> Depth:
        """Return where a block of a stage lies, counted from the first stage on."""
        if last.outline not in self._ranks:
            ordered = sorted(self._blocks[last.outline])
            self._ranks[last.outline] = {values: at for at, values in enumerate(ordered)}
        ranks = self._ranks[last.outline]
        own = tuple(each.value for each in numbers[: numbers.index(last) + 1])
        return Depth(ranks[own], len(ranks) - 1, len(ranks))


def _depth_in_stage(number: _Number, stages: Mapping[int, set[int]]) -> Depth:
    """Return where a block of a stage lies, counted from the first stage on."""
    sizes = {stage: max(blocks) + 1 for stage, blocks in stages.items()}
    earlier = sum(size for stage, size in sizes.items() if stage < number.stage)
    count = sum(map(len, stages.values()))
    return Depth(earlier + number.value, sum(sizes.values()) - 1, count)


def _read(key: str) -> _Read:
    """Find the numbers in a key that may be of layers.

    Raises:
        UndefinedError: one of them has too many digits.
    """
    plain = _with(key, _PLAIN)
    if all(each.is_of_leaf for each in plain.numbers):
        named = _with(key, _NAMED)
        if not all(each.is_of_leaf for each in named.numbers):
            return named
    return plain


def _with(key: str, form: re.Pattern[str]) -> _Read:
    """Find the numbers in a key that have a form.

    Raises:
        UndefinedError: one of them has too many digits.
    """
    segments = key.split(".")
    numbers: list[_Number] = []
    before, outline, container = "", "", ""
    for left, segment in zip(range(len(segments) - 1, -1, -1), segments, strict=True):
        found = form.fullmatch(segment) if len(numbers) < _MOST_NUMBERS else None
        written = segment
        if found is not None and not _PARALLEL.search(found[1] or container):
            if len(found[2]) > _MOST_DIGITS:
                raise UndefinedError(f"the number in its key has {len(found[2]):,} digits")
            at = before + found[1], outline + found[1]
            of_stage = _STAGE.fullmatch(container) if not found[1] else None
            stages = f"{before.removesuffix(f'{container}.')}{of_stage[1]}." if of_stage else ""
            stage = int(of_stage[2]) if of_stage else 0
            numbers.append(_Number(int(found[2]), *at, left < 2, stages, stage))
            written = f"{found[1]}#"
        before += f"{segment}."
        outline += f"{written}."
        container = segment
    return _Read(tuple(numbers), outline)
