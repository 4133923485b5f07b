"""Note what a pickle stores in its memo and recalls from it, and where."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.records import Global
from reinit_cli.checkpoints.formats.torch.pickles.state import UNSTORED, State
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span, memo_events


class NotingState(State):
    """A state that remembers at which index something was last stored or recalled."""

    index = 0

    def store(self, index: int) -> None:
        """Keep the topmost in the memo."""
        super().store(index)
        self.index = index

    def recall(self, index: int) -> Any:
        """Return what was stored."""
        self.index = index
        return super().recall(index)


class Events:
    """What is stored in the memo and recalled from it, in the order of the file.

    Attributes:
        at, after: where the opcode of each event starts and ends.
        key: a small integer for the index in the memo.
        start, end: of what stores, the span of the value; of what recalls, the number of the
            event that stored it, and -1.
        is_atom: whether what is stored is a text, a number or a name.
        free: an index after all others.
        count: whether some count themselves.
    """

    def __init__(self) -> None:
        self.at, self.after, self.key = array("q"), array("q"), array("q")
        self.start, self.end = array("q"), array("q")
        self.is_atom = bytearray()
        self.free = 0
        self.count = False
        self._stored: dict[int, int] = {}  # key → the last event that stored
        # Files choose the indices, and whoever chooses integers can choose them with one hash.
        self._others: dict[str, int] = {}
        self._indices: list[int] = []

    def add(self, state: NotingState, at: int, after: int, stored: int | None) -> int:
        """Note that something was stored, or recalled if None.

        Args:
            state: the machine, which knows the index.
            at: where the opcode starts.
            after: where it ends.
            stored: where the stored value starts.
        """
        number = len(self.at)
        key = self._key_of(state, state.index)
        self.at.append(at)
        self.after.append(after)
        self.key.append(key)
        self.start.append(self._stored[key] if stored is None else stored)
        self.end.append(-1 if stored is None else after)
        self.is_atom.append(isinstance(state.stack[-1], _ATOMS))
        if stored is not None:
            self._stored[key] = number
            self.free = max(self.free, state.index + 1)
            self.count = self.count or after - at == 1
        return number

    def add_call(self, state: NotingState, found: re.Match[bytes], start: int) -> int:
        """Note what the call of a tensor stores and recalls; return the number of the tensor.

        Args:
            state: the machine.
            found: the call.
            start: where the function starts, and with it the tensor.
        """
        base = state.base
        for at, after, index, value_start in memo_events(found):
            key = self._key_of(state, index)
            self.at.append(base + at)
            self.after.append(base + after)
            self.key.append(key)
            if value_start == -1:
                self.start.append(self._stored[key])
                self.end.append(-1)
            else:
                self._stored[key] = len(self.start)
                self.free = max(self.free, index + 1)
                self.start.append(base + value_start if value_start >= 0 else start)
                self.end.append(base + after)
        self.is_atom += _ATOMS_OF_CALL
        return len(self.at) - 1

    def _key_of(self, state: NotingState, index: int) -> int:
        if index < len(state.memo) and state.memo[index] is not UNSTORED:
            return index
        key = self._others.setdefault(str(index), -1 - len(self._others))
        if -key > len(self._indices):
            self._indices.append(index)
        return key

    def index_of(self, number: int) -> int:
        """Return the index in the memo."""
        key = self.key[number]
        return key if key >= 0 else self._indices[-1 - key]

    def is_put(self, number: int) -> bool:
        """Whether the event stores something."""
        return self.end[number] >= 0

    def within(self, span: Span) -> range:
        """Return the numbers of the events in a span of the file."""
        return range(bisect_left(self.at, span[0]), bisect_left(self.at, span[1]))

    def counts_itself(self, number: int) -> bool:
        """Whether it stores under the number of what is stored already, as MEMOIZE does."""
        return self.is_put(number) and self.after[number] - self.at[number] == 1


_ATOMS = (str, bytes, int, float, Global)

_ATOMS_OF_CALL = bytes((1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0))
