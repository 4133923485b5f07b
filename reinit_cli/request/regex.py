"""Match regular expressions against whole keys in bounded time.

Python's engine backtracks: `(a|aa)+b` takes twice as long for each letter more, and patterns
and keys may both come from strangers. So the number of ways in which a pattern can be tried
on a key is estimated. Where it is small, Python's engine matches; elsewhere the places where
a part of the pattern can end are computed from those where it can start, each place once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import cached_property
from importlib import import_module
from itertools import compress
from typing import Any

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass

MAX_LENGTH = 10_000
"""The most characters of a regular expression: compiling takes up to a millisecond for each."""

MAX_WIDE_SETS = 100
"""The most sets of characters beyond Latin-1: compiling one may take five milliseconds, twice."""

MAX_SECONDS = 10.0
"""The most processor time that patterns may take to match the keys of one source."""

MAX_SLOW_SECONDS = 1.0
"""The most of it for patterns that Python's engine would match slowly: strangers write those."""

MAX_TRIES = 10**8
"""The most ways to try keys between two looks at the clock, which take about a second."""

ANY_LENGTH = 2**62
"""The reach of a pattern that no key can make slow."""

_ENDLESS = 10**18
_LONGEST = 2**20
_MANY_KEYS = 10_000

# The standard library has no public name for its parser; `re` has compiled its trees since 2.0.
_parser = import_module("re._parser")
_compiler = import_module("re._compiler")
_NAMES = import_module("re._constants")

_REPEATS = (_NAMES.MAX_REPEAT, _NAMES.MIN_REPEAT)
_POSSESSIVE = (_NAMES.POSSESSIVE_REPEAT, _NAMES.ATOMIC_GROUP)
_PLACES = (_NAMES.AT, _NAMES.FAILURE)
"""Such as `^`; `(?!)` is nowhere, and is a failure from Python 3.13 on."""

_SINGLE = (_NAMES.LITERAL, _NAMES.NOT_LITERAL, _NAMES.IN, _NAMES.ANY)
_ASSERTIONS = (_NAMES.ASSERT, _NAMES.ASSERT_NOT)


@dataclass(slots=True)
class Clock:
    """The time that is left to match patterns."""

    seconds: float = MAX_SECONDS
    slow_seconds: float = MAX_SLOW_SECONDS
    _started: float = field(default_factory=time.thread_time)

    def check(self) -> None:
        """Stop if no time is left.

        Raises:
            TimeoutError: none is.
        """
        if self.is_over:
            raise TimeoutError

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.thread_time() - self._started > self.seconds

    @contextmanager
    def slow(self) -> Iterator[Clock]:
        """Give the time that is left for patterns that are slow."""
        started = time.thread_time()
        try:
            yield Clock(min(self.seconds, self.slow_seconds))
        finally:
            self.slow_seconds -= time.thread_time() - started


def wide_sets(source: str) -> int:
    """Return how many sets of a regular expression may have ranges beyond Latin-1.

    Python lays each of them out character by character.
    """
    is_narrow = source.isascii() and not any(escape in source for escape in ("\\u", "\\U", "\\N"))
    return 0 if is_narrow else source.count("[")


@dataclass(frozen=True)
class Regex:
    """A regular expression, ready to match whole keys.

    Attributes:
        text: the pattern as a user wrote it, for messages.
        source: the regular expression.
        flags: those of `re`.
        known_reach: the longest key that Python's engine matches quickly; None to estimate it.

    Raises:
        PatternError: it is not a regular expression, or too long.
    """

    text: str
    source: str
    flags: int = 0
    known_reach: int | None = None

    def __post_init__(self) -> None:
        if self.known_reach is None and len(self.source) > MAX_LENGTH:
            raise PatternError(self.text[:60], f"it has more than {MAX_LENGTH:,} characters")
        if wide_sets(self.source) > MAX_WIDE_SETS:
            problem = (
                f"it has more than {MAX_WIDE_SETS} sets in which characters may be beyond ASCII"
            )
            raise PatternError(self.text[:60], problem)
        try:
            _ = self._compiled
        except (re.error, RecursionError, OverflowError, ValueError) as error:
            raise PatternError(self.text, f"not a regular expression: {error}") from error

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what was given, and not what was made of it."""
        return type(self), (self.text, self.source, self.flags, self.known_reach)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.source, self.flags)

    @cached_property
    def _tree(self) -> Any:
        return _parser.parse(self.source, self.flags)

    @cached_property
    def _reach(self) -> int:
        """The longest key that Python's engine matches quickly."""
        if self.known_reach is not None:
            return self.known_reach
        reach, length = -1, 0
        while length <= _LONGEST and _tries(self._tree, length) <= MAX_TRIES:
            reach, length = length, max(1, 2 * length)
        return reach if length <= _LONGEST else ANY_LENGTH

    @cached_property
    def _ends(self) -> Ends:
        """The function that matches without backtracking.

        Raises:
            PatternError: the pattern is not regular.
        """
        try:
            return _sequence(self._tree, self._tree.state.flags)
        except _IrregularError as error:
            problem = f"a pattern with {error} is matched against short keys only"
            raise PatternError(self.text, problem) from error

    def select(self, keys: Sequence[str], clock: Clock) -> list[int]:
        """Return the positions of the keys that match, in order.

        Raises:
            PatternError: that takes too long, or its groups are nested too deeply for it.
        """
        try:
            longest = max(map(len, keys), default=0)
            if longest <= self._reach:
                return self._by_engine(keys, longest, clock)
            with clock.slow() as slow:
                return [at for at, key in enumerate(keys) if self._fits(key, slow)]
        except TimeoutError as error:
            problem = "it takes too long to match"
            raise PatternError(self.text, problem) from error
        except RecursionError as error:
            raise PatternError(self.text, "its groups are nested too deeply") from error

    def check_replacement(self, template: str) -> None:
        """Check a replacement, in which groups stand for their texts, without matching anything.

        Raises:
            PatternError: it names a group that there is not, or is not a replacement.
        """
        try:
            _parser.parse_template(template, self._compiled)
        except (re.error, IndexError, OverflowError, ValueError) as error:
            problem = f"not a replacement for {self.text!r}: {error}"
            raise PatternError(template, problem) from error

    def match(self, key: str, clock: Clock) -> re.Match[str] | None:
        """Return how a key is matched; None where it is not, or that would take too long.

        Raises:
            TimeoutError: no time is left.
        """
        clock.check()
        return self._compiled.fullmatch(key) if len(key) <= self._reach else None

    def _by_engine(self, keys: Sequence[str], longest: int, clock: Clock) -> list[int]:
        """Match with Python's engine, in a chain of C calls: a loop takes twice as long."""
        found: list[int] = []
        count = _MANY_KEYS
        if len(keys) > 1 and self.known_reach is None:
            count = max(1, MAX_TRIES // _tries(self._tree, longest))
        for start in range(0, len(keys), count):
            clock.check()
            part = keys[start : start + count]
            places = range(start, start + len(part))
            found += compress(places, map(self._compiled.fullmatch, part))
        return found

    def _fits(self, key: str, clock: Clock) -> bool:
        clock.check()
        if len(key) <= self._reach:
            return self._compiled.fullmatch(key) is not None
        return len(key) in self._ends(key, {0}, clock)


class _IrregularError(Exception):
    """A part of a pattern that depends on how another part of it matched."""


def _tries(tree: Any, length: int) -> int:
    """Estimate the number of ways in which a backtracking engine may try a pattern on a key."""
    product = 1
    for kind, value in tree:
        product = min(product * _tries_of(kind, value, length), _ENDLESS)
    return product


def _tries_of(kind: Any, value: Any, length: int) -> int:
    if kind in _REPEATS or kind == _NAMES.POSSESSIVE_REPEAT:
        least, most, body = int(value[0]), int(value[1]), value[2]
        # A part that can match nothing is repeated as often as it must be, even on a short key.
        turns = least if body.getwidth()[0] == 0 else 1
        most = max(min(most, length), turns)
        once = _tries(body, length)
        if once == 1:
            return max(1, most - min(least, most) + 1) * max(1, turns)
        # Logarithms, since the power itself may have millions of digits.
        return _ENDLESS if most * (once.bit_length() - 1) > 60 else int(once**most) * (most + 1)
    if kind == _NAMES.BRANCH:
        return min(sum(_tries(option, length) for option in value[1]), _ENDLESS)
    if kind == _NAMES.GROUPREF_EXISTS:
        return sum(_tries(option, length) for option in value[1:] if option is not None)
    if kind == _NAMES.SUBPATTERN:
        return _tries(value[3], length)
    if kind in _ASSERTIONS:
        return _tries(value[1], length)
    return _tries(value, length) if kind == _NAMES.ATOMIC_GROUP else 1


Ends = Callable[[str, set[int], Clock], set[int]]
"""Return the places in a key where a part of a pattern can end, from those where it can start."""


def _sequence(tree: Any, flags: int) -> Ends:
    parts = [_part(kind, value, flags) for kind, value in tree]

    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        for part in parts:
            if not starts:
                break
            clock.check()
            starts = part(key, starts, clock)
        return starts

    return ends


def _part(kind: Any, value: Any, flags: int) -> Ends:
    if kind in _SINGLE:
        return _single(kind, value, flags)
    if kind in _PLACES:
        return _where(_engine(kind, value, flags).match)
    if kind == _NAMES.SUBPATTERN:
        _, added, removed, body = value
        return _sequence(body, (flags | added) & ~removed)
    if kind == _NAMES.BRANCH:
        return _either([_sequence(option, flags) for option in value[1]])
    if kind in _REPEATS:
        least, most, body = value
        return _repeated(_sequence(body, flags), int(least), int(most))
    if kind in _ASSERTIONS:
        direction, body = value
        width = body.getwidth()[0] if direction < 0 else 0
        return _asserted(_sequence(body, flags), width, direction, kind == _NAMES.ASSERT)
    raise _IrregularError("an atomic group" if kind in _POSSESSIVE else "a reference to a group")


def _engine(kind: Any, value: Any, flags: int) -> re.Pattern[str]:
    """Compile a part that matches one character or one place with Python's engine."""
    state = _parser.State()
    state.flags, state.str = flags, ""
    compiled: re.Pattern[str] = _compiler.compile(_parser.SubPattern(state, [(kind, value)]))
    return compiled


def _single(kind: Any, value: Any, flags: int) -> Ends:
    match = _engine(kind, value, flags).match
    known: dict[str, bool] = {}

    def fits(char: str) -> bool:
        if char not in known:
            known[char] = match(char) is not None
        return known[char]

    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        del clock
        return {at + 1 for at in starts if at < len(key) and fits(key[at])}

    return ends


def _where(holds: Callable[[str, int], object]) -> Ends:
    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        del clock
        return {at for at in starts if holds(key, at)}

    return ends


def _either(options: Iterable[Ends]) -> Ends:
    every = list(options)

    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        return set().union(*(option(key, starts, clock) for option in every))

    return ends


def _repeated(once: Ends, least: int, most: int) -> Ends:
    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        for _ in range(least):
            following = once(key, starts, clock)
            if following == starts:
                break  # more turns change nothing
            starts = following
        found, new, turns = set(starts), starts, most - least
        # A place that was reached in fewer turns has more of them left, so it is not visited again.
        while new and turns > 0:
            new = once(key, new, clock) - found
            found |= new
            turns -= 1
        return found

    return ends


def _asserted(body: Ends, width: int, direction: int, is_wanted: bool) -> Ends:  # noqa: FBT001
    def holds(key: str, at: int, clock: Clock) -> bool:
        if direction < 0:
            return at >= width and at in body(key, {at - width}, clock)
        return bool(body(key, {at}, clock))

    def ends(key: str, starts: set[int], clock: Clock) -> set[int]:
        return {at for at in starts if holds(key, at, clock) == is_wanted}

    return ends
