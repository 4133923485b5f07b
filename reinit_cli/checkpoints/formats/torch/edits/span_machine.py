"""Note which bytes of a pickle wrote what, so that parts of it can be replaced.

This machine is for runs that edit a pickle. It obeys the same opcodes on the same `State` as
`pickles.machine` and builds the same kind of records, a few times slower. Of each record it
notes the span of its opcodes, and of everything that is stored in the memo or recalled from
it, where that happens.

There is no table of what opcodes do to the stack. The position before an opcode and the
depths of the stack before and after it tell where each value on the stack starts and ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from reinit_cli.checkpoints.formats.torch.edits.memo_events import NotingState
from reinit_cli.checkpoints.formats.torch.edits.spans import Pair, Slot, Spans
from reinit_cli.checkpoints.formats.torch.pickles.budget import TOO_MUCH, Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import (
    MAX_OPCODES,
    refusing,
)
from reinit_cli.checkpoints.formats.torch.pickles.opcodes import COSTS, HANDLERS, Handler
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    COMPOSED,
)
from reinit_cli.checkpoints.formats.torch.pickles.state import State
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import (
    call_as_written,
)
from reinit_cli.storage.reader import Reader

_STOP = b"."[0]

# The opcodes that the fast machine does itself.
_OWN: dict[int, Handler] = {
    b"K"[0]: lambda state: state.stack.append(state.number(1)),
    b"M"[0]: lambda state: state.stack.append(state.number(2)),
    b"h"[0]: lambda state: state.stack.append(state.recall(state.number(1))),
    b"j"[0]: lambda state: state.stack.append(state.recall(state.number(4))),
    b"r"[0]: lambda state: state.store(state.number(4)),
    b"t"[0]: lambda state: state.stack.append(tuple(state.since_mark())),
    b")"[0]: lambda state: state.stack.append(()),
    0x85: lambda state: state.stack.append((state.pop(),)),
    0x86: lambda state: state.stack.append((state.pop(), state.pop())[::-1]),
    0x89: lambda state: state.stack.append(False),
    b"R"[0]: State.call,
}

_HANDLERS: list[Handler | None] = [_OWN.get(code, HANDLERS[code]) for code in range(256)]

_PUTS = frozenset(b"pqr\x94")

_RECALLS = frozenset(b"ghj")

_DUP = b"2"[0]

_CHANGES = frozenset(b"aebsu\x90")
"""What changes the value below its arguments, which stays where it is."""

_DROPS = frozenset(b"01")

_FRAME = 0x95

_IDLE = frozenset((0x80, _FRAME))
"""What leaves the stack alone, and belongs to no value."""

_SETS, _APPENDS = frozenset(b"sud"), frozenset(b"ael")

_LONE = frozenset(b"sa")

_TUPLES = frozenset(b"t\x85\x86\x87")

_CALL = b"R"[0]

_SLOT_NBYTES = 120
"""What is noted of a value takes while it lies on the stack; of a composed one it stays."""

_EVENT_NBYTES = 48

_PART_NBYTES = 16

_WORK = 2
"""What an opcode is charged for. It takes three times as long: runs that edit have more time."""

_CALL_WORK = 20
"""The same for a whole tensor."""

_CALL_NBYTES = 1_500


def read_spans(file: Reader, start: int, end: int, budget: Budget) -> Spans:
    """Read the pickle that starts there, and note its spans.

    Args:
        file: the file.
        start: the offset of its first byte.
        end: the offset after its last possible byte.
        budget: what reading it may take, from which it is taken.

    Raises:
        MalformedFileError: it is not a pickle, or takes more than this machine gives.
    """
    state = NotingState(file, start, end)
    return refusing(state, _Machine(state, budget).spans)


class _Machine:
    """Obeys opcodes, and notes what they do to the stack."""

    def __init__(self, state: NotingState, budget: Budget) -> None:
        self._state = state
        self._found = Spans(state.file, budget)
        self._slots: list[Slot] = []
        self._marks: list[int] = []  # where the opcodes of the marks start
        self._spent = 0
        self._work = 0

    def spans(self) -> Spans:  # noqa: RET503 (`refuse` raises)
        """Obey one opcode after the other."""
        state, budget = self._state, self._found.budget
        max_nbytes = min(budget.record_nbytes, budget.nbytes)
        max_work = min(_WORK * MAX_OPCODES, budget.work)
        while self._work < max_work and self._spent <= max_nbytes:
            self._work += _WORK
            if state.at >= len(state.window):
                state.refill(1)
            at = state.base + state.at
            code = state.window[state.at]
            state.at += 1
            if code == _STOP:
                budget.spend(self._work, self._spent)
                return self._stopped()
            handler = _HANDLERS[code]
            if handler is None:
                state.refuse(f"its pickle has the unknown opcode 0x{code:02x}")
            depth, marks = len(state.stack), len(state.marks)
            handler(state)
            self._spent += COSTS[code] + state.taken
            state.taken = 0
            self._note(code, at, depth, marks)
        state.refuse(TOO_MUCH)

    def _stopped(self) -> Spans:
        state, found = self._state, self._found
        found.top = state.pop()
        found.dropped = tuple(state.dropped)
        if state.stack or state.marks:
            state.refuse("its pickle leaves something on the stack")
        self._close(self._slots)
        found.end = state.base + state.at
        return found

    def _note(self, code: int, at: int, depth: int, marks: int) -> None:
        """Note what an opcode has done.

        Args:
            code: the opcode.
            at: where it starts.
            depth: of the stack before.
            marks: the number of them before.
        """
        state, slots = self._state, self._slots
        after = state.base + state.at
        now = len(state.stack)
        begin = self._marks.pop() if len(state.marks) < marks else None
        if len(state.marks) > marks:
            self._marks.append(at)
        elif code in _PUTS:
            self._note_put(at, after)
        elif code in _CHANGES:
            self._note_change(code, at, after, self._taken(now))
        elif code in _DROPS:
            self._taken(now)
        elif code in _IDLE:
            if code == _FRAME:
                self._found.frames.append((at, after + int.from_bytes(self._last(8), "little")))
        elif now > depth and begin is None:
            self._push(code, at, after)
        else:
            taken = self._taken(now - 1)
            start = begin if begin is not None else taken[0].start
            slots.append(Slot(start, after, state.stack[-1], is_made=True))
            self._note_made(code, at, taken)

    def _last(self, nbytes: int) -> bytes:
        return self._state.window[self._state.at - nbytes : self._state.at]

    def _push(self, code: int, at: int, after: int) -> None:
        state, found = self._state, self._found
        if code in _RECALLS:
            found.events.add(state, at, after, None)
            self._spent += _EVENT_NBYTES
        elif code == _DUP:
            found.doubled.append((at, self._slots[-1].start))
        is_made = code not in _RECALLS and code != _DUP
        self._slots.append(Slot(at, after, state.stack[-1], is_made=is_made))
        if is_made:
            self._remember(self._slots[-1])
        elif self._state.window[self._state.at : self._state.at + 1] == b"(":
            self._note_call()

    def _note_call(self) -> None:
        """Call the topmost as torch.save does, all opcodes in one, if that is what comes."""
        state, slot = self._state, self._slots[-1]
        found = call_as_written(state, state.window, state.at)
        if found is None:
            return
        number = self._found.events.add_call(state, found, slot.start)
        state.at = found.end()
        self._slots[-1] = called = Slot(
            slot.start, state.base + state.at, state.stack[-1], is_made=True
        )
        called.puts = [number]
        self._work += _CALL_WORK
        self._spent += _CALL_NBYTES
        self._remember(called)

    def _remember(self, slot: Slot) -> None:
        if isinstance(slot.value, COMPOSED):
            self._spent += _SLOT_NBYTES
            self._found._made[id(slot.value)] = slot

    def _note_put(self, at: int, after: int) -> None:
        slot = self._slots[-1]
        slot.end = after
        number = self._found.events.add(self._state, at, after, slot.start)
        self._spent += _EVENT_NBYTES
        if slot.puts is None:
            slot.puts = []
        slot.puts.append(number)

    def _note_change(self, code: int, at: int, after: int, taken: list[Slot]) -> None:
        slot = self._slots[-1]
        if slot.is_made:
            slot.end = after
        else:
            made = self._found._made.get(id(slot.value))
            self._found.late.append((at, made.start if made is not None else -1))
            slot.end = after
        self._note_parts(code, at, slot, taken)

    def _note_made(self, code: int, at: int, taken: list[Slot]) -> None:
        slot = self._slots[-1]
        self._remember(slot)
        if code in _TUPLES or code in _SETS or code in _APPENDS:
            self._note_parts(code, at, slot, taken)
        elif code == _CALL and slot.value.pairs and taken[-1].is_made:
            self._note_pairs_in(slot.value, taken[-1])

    def _note_parts(self, code: int, at: int, slot: Slot, taken: list[Slot]) -> None:
        set_at = at if code in _LONE else -1
        if code in _SETS:
            parts = self._found._pairs.setdefault(id(slot.value), array("q"))
            for key, value in zip(taken[::2], taken[1::2], strict=True):
                parts.extend((key.start, key.end, value.start, value.end, set_at))
        elif taken and (code in _TUPLES or code in _APPENDS):
            parts = self._found._items.setdefault(id(slot.value), array("q"))
            for item in taken:
                parts.extend((item.start, item.end, set_at))
        self._spent += _PART_NBYTES * len(taken)

    def _note_pairs_in(self, holder: Any, args: Slot) -> None:
        """Note the pairs of a dictionary that is made of them, as Python 2 wrote it."""
        found = self._found
        given = args.value[0] if len(args.value) == 1 else None
        items = found.items(args.value)
        if not isinstance(given, (list, tuple)) or not found.is_made_at(items[0], given):
            return
        pairs = []
        flat = iter(found._items.get(id(given), ()))
        for inner, start, end, append_at in zip(given, flat, flat, flat, strict=True):
            parts = found.items(inner)
            if not found.is_made_at((start, end), inner) or len(parts) != 2:
                return
            whole = ((start, end), (append_at, append_at + 1))
            key, value = parts
            pairs.append(Pair(key, value, whole if append_at >= 0 else whole[:1]))
        self._spent += _PAIR_NBYTES * len(pairs)
        found._called[id(holder)] = args.span, items[0], pairs

    def _taken(self, depth: int) -> list[Slot]:
        """Take the slots from a depth on."""
        taken = self._slots[depth:]
        del self._slots[depth:]
        self._close(taken)
        return taken

    def _close(self, slots: Sequence[Slot]) -> None:
        """Note where the values end that were stored."""
        ends = self._found.events.end
        for slot in slots:
            for number in slot.puts or ():
                ends[number] = slot.end


_PAIR_NBYTES = 300
