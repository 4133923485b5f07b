"""Match globs and regular expressions over state_dict keys.

    *            any characters, dots included
    ?            one character
    [abc] [!abc] one character of these, or not of these; [*] and [{] are literals
    {a,b}        either; {0..8} an integer of the range
    {-2..-1}     a number that counts from the end: the last two of those that the keys have there
    re:REGEX     a regular expression that matches the whole key
    [kind=norm]  at the end: of these keys, those of tensors of a kind of layer
    kind=norm    every key of such a tensor

A pattern matches the whole key, case-sensitive. Without `*`, `?` or a class it is a list
of names, which insists on what it names; with them it is a wildcard, which takes what
it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from functools import cached_property

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass
from reinit_cli.request.from_end import FromEnd, Numbers
from reinit_cli.request.glob import Glob
from reinit_cli.request.kind import Kinds, split_kinds
from reinit_cli.request.regex import Clock, Regex, wide_sets
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import listed, shortened


@dataclass(frozen=True, slots=True, repr=False)
class Pattern:
    """A pattern, ready to match.

    Attributes:
        text: as written.
        names: the keys it lists; None for a wildcard.
        last_segments: what its last dotted segment may be, as written, braces expanded.
        kinds: the kinds of layers that it is for; None for any. Who matches keys alone, as
            `select` does, does not see them: a `KeyIndex` does.
    """

    text: str
    names: frozenset[str] | None
    last_segments: frozenset[str]
    _glob: Glob | None
    _regex: Regex | None = field(compare=False)  # the text decides
    _from_end: tuple[FromEnd, ...] = field(default=(), compare=False)
    kinds: Kinds | None = None

    def __repr__(self) -> str:
        """Show it as it was written."""
        return f"Pattern({shortened(self.text)!r})"

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            PatternError: it is empty, a bracket or brace is not closed, a range is not of
                integers, the braces stand for too many names, or the regex is wrong.
        """
        keys, kinds = split_kinds(text)
        if kinds is not None:
            return replace(cls._of_keys(text, keys), text=text, kinds=kinds)
        return cls._of_keys(text, text)

    @classmethod
    def _of_keys(cls, whole: str, text: str) -> Pattern:
        """Read a pattern without its kinds of layers."""
        if whole != text and split_kinds(text)[1] is not None:
            raise PatternError(whole, "it has kinds of layers twice")
        if text.startswith("re:"):
            return cls._from_regex(text)
        try:
            return cls._from_glob(text)
        except RecursionError as error:
            raise PatternError(text, "its braces are nested too deeply") from error

    @classmethod
    def _from_glob(cls, text: str) -> Pattern:
        glob = Glob.parse(text)
        spelled = glob.names()
        return cls(
            text=text,
            names=None if glob.has_wild else frozenset(spelled),
            last_segments=frozenset(name.rpartition(".")[2] for name in spelled),
            _glob=glob,
            _regex=glob.regex() if glob.has_wild else None,
            _from_end=glob.from_end(),
        )

    @classmethod
    def _from_regex(cls, text: str) -> Pattern:
        source = text.removeprefix("re:")
        return cls(text, None, frozenset((source,)), None, Regex(text, source))

    @staticmethod
    def escape(key: str) -> str:
        """Return the pattern that names just this key."""
        escaped = re.sub(r"[][*?{}]", lambda found: f"[{found[0]}]", key)
        is_other = escaped.startswith("re:") or split_kinds(escaped)[1] is not None
        return f"[{escaped[0]}]{escaped[1:]}" if is_other else escaped

    @property
    def keys(self) -> str:
        """Its text without the kinds of layers."""
        return split_kinds(self.text)[0]

    @property
    def cost(self) -> int:
        """The cost of reading it, counted in names that its braces stand for.

        A name of a hundred characters costs two, and so do six characters of the pattern; of
        a regular expression each costs ten, and a set of characters beyond Latin-1 five hundred,
        since these take longest to compile.
        """
        sets = 500 * wide_sets(self._regex.source) if self._regex is not None else 0
        if self._glob is None:
            return 10 * len(self.text) + sets
        names = self._glob.count + self._glob.characters // 100 + 100 * len(self._from_end)
        return 10 + names + len(self.text) // 3 + sets

    @property
    def is_wildcard(self) -> bool:
        """Whether it selects what it can, rather than insisting on names."""
        return self.names is None

    def matches(self, key: str, clock: Clock | None = None) -> bool:
        """Whether the whole key matches; the arguments and errors are those of `select`."""
        return bool(self.select((key,), clock))

    def select(self, keys: Sequence[str], clock: Clock | None = None) -> list[int]:
        """Return the positions of the keys that match, in order.

        Args:
            keys: what is matched.
            clock: the time that may be taken, if others share it.

        Raises:
            PatternError: it takes too long.
        """
        clock = clock or Clock()
        if self._from_end:
            return self.counted(keys, Numbers(keys), clock)
        return self._select(keys, clock)

    def _select(self, keys: Sequence[str], clock: Clock) -> list[int]:
        if self._regex is not None:
            return self._regex.select(keys, clock)
        names = self.names or frozenset()
        return [at for at, key in enumerate(keys) if key in names]

    @property
    def counts_from_end(self) -> bool:
        """Whether a number in it counts from the end, so that its meaning depends on all keys."""
        return bool(self._from_end)

    def counted(self, keys: Sequence[str], numbers: Numbers, clock: Clock) -> list[int]:
        """Return the positions of the keys that match, counting from the end of their numbers.

        Raises:
            PatternError: it takes too long.
        """
        as_written = self._select(keys, clock)  # keys may hold negative numbers themselves
        return sorted({*as_written, *numbers.select(self._from_end, clock)})

    @property
    def is_blind_to_numbers(self) -> bool:
        """Whether a match never depends on the numbers in a key."""
        return self._glob is not None and self._glob.is_blind_to_numbers

    def names_segment(self, segment: str) -> bool:
        """Whether the last segment of the pattern spells this name out."""
        return any(segment in written for written in self.last_segments)


@dataclass(frozen=True, slots=True)
class Missed:
    """What a pattern that matches nothing asks for.

    Attributes:
        what: what there is none of.
        kinds: where it is a kind of layer, those that there are.
    """

    what: str
    kinds: tuple[str, ...] = ()

    @property
    def instead(self) -> str:
        """Say which kinds of layers there are, where it asks for others."""
        if self.what == "key":
            return ""
        return f", whose layers are {listed(self.kinds)}" if self.kinds else ", which has none"

    def in_source(self, name: str) -> str:
        """Say what a source has none of, and which kinds of layers it has instead."""
        there = f" (which has {listed(self.kinds)})" if self.kinds else ""
        return f"{self.what} of {name}{there}"


NO_KEY = Missed("key")
"""What a pattern of keys alone misses."""


class KeyIndex:
    """Keys that many patterns are matched against; most differ only in the number of a layer."""

    def __init__(self, keys: Sequence[str], layers: Layers | None = None) -> None:
        """Remember what is matched.

        Args:
            keys: those that are matched.
            layers: the layers of their tensors; None of what has no layers, such as files.
        """
        self._keys = keys
        self._layers = layers
        self._clock = Clock()

    def select(self, pattern: Pattern) -> list[int]:
        """Return the positions of the keys that match, in no order.

        Raises:
            PatternError: all patterns together take too long, or one asks for kinds of layers
                where there are none.
        """
        named = self._named(pattern)
        if pattern.kinds is None:
            return named
        if self._layers is None:
            raise PatternError(pattern.text, "only tensors have a kind of layer")
        layers = ((at, self._layers.layer(self._keys[at])) for at in named)
        return [at for at, layer in layers if layer is not None and pattern.kinds.takes(layer.kind)]

    def missed(self, pattern: Pattern) -> Missed:
        """Return what a pattern that matches nothing asks for, and what there is instead."""
        kinds = pattern.kinds
        if kinds is None or self._layers is None or not self._named(pattern):
            return NO_KEY
        told = (self._layers.layer(key) for key in self._keys)
        there = tuple(dict.fromkeys(layer.kind for layer in told if layer is not None))
        return Missed(f"{' or '.join(kinds.words)} layer", there)

    def _named(self, pattern: Pattern) -> list[int]:
        """Return the positions of the keys that match, of whatever kind."""
        if pattern.counts_from_end:
            return pattern.counted(self._keys, self._numbers, self._clock)
        if pattern.names is not None:
            return [at for name in pattern.names for at in self._by_key.get(name, ())]
        if not pattern.is_blind_to_numbers:
            return pattern.select(self._keys, self._clock)
        alike = list(self._by_template)
        selected = pattern.select(alike, self._clock)
        return [at for found in selected for at in self._by_template[alike[found]]]

    @cached_property
    def _numbers(self) -> Numbers:
        return Numbers(self._keys)

    @cached_property
    def _by_key(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        for at, key in enumerate(self._keys):
            positions.setdefault(key, []).append(at)
        return positions

    @cached_property
    def _by_template(self) -> dict[str, list[int]]:
        """The positions of keys that differ only in their numbers, by the key with zeros for them."""
        separator = "\n"
        joined = separator.join(self._keys)
        templates = re.sub(r"\d+", "0", joined).split(separator)
        if len(templates) != len(self._keys):  # a key holds a newline
            templates = [re.sub(r"\d+", "0", key) for key in self._keys]
        positions: dict[str, list[int]] = {}
        for at, template in enumerate(templates):
            positions.setdefault(template, []).append(at)
        return positions


def patterns_of(patterns: Iterable[Pattern | str]) -> tuple[Pattern, ...]:
    """Read the patterns that are given as text.

    Raises:
        PatternError: one of them is wrong.
    """
    each = (patterns,) if isinstance(patterns, str) else patterns
    return tuple(Pattern.parse(one) if isinstance(one, str) else one for one in each)


def select_keys(keys: Sequence[str], patterns: Iterable[Pattern | str]) -> set[str]:
    """Return the keys that one of the patterns matches; all keys if there is no pattern.

    Raises:
        PatternError: a text is not a valid pattern, or asks for a kind of layer.
    """
    read = patterns_of(patterns)
    if not read:
        return set(keys)
    index = KeyIndex(keys)
    return {keys[at] for pattern in read for at in index.select(pattern)}
