"""Read pickles as what they say, without obeying them.

A pickle is a program for a small machine with a stack and a memo (the opcodes and their
arguments: CPython's pickletools.py, protocols 0 to 5). This machine runs the program and
builds inert records: where `pickle` would import and call something, a record says what
would have been called, with what. Nothing in a file selects code, and what a stranger's
program can cost is bounded.

The bytes are read through a window, and long texts are skipped, so the memory does not
grow with what they hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from struct import Struct
from typing import TypeVar

from reinit_cli.checkpoints.formats.torch.pickles.budget import TOO_MUCH, Budget
from reinit_cli.checkpoints.formats.torch.pickles.opcodes import (
    COSTS,
    HANDLERS,
    Handlers,
    decoded,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle
from reinit_cli.checkpoints.formats.torch.pickles.state import (
    LONG_NBYTES,
    MAX_MARKS,
    UNSTORED,
    State,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import call_as_written
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.reader import Readable

T = TypeVar("T")

MAX_OPCODES = 1_200_000
"""Half a second's work."""


_RARE_WORTH = 3
"""How many of the others an opcode counts for that torch writes seldom: it takes longer here."""


_PHRASE_WORTH = 7
"""The same for a whole tensor, of some 32 opcodes: this bounds the tensors to about 110,000."""


_LOOKAHEAD = 16
"""No opcode without text takes more bytes."""

_STOP, _MARK, _TUPLE, _REDUCE, _EMPTY_TUPLE = b".(tR)"


_BININT, _BININT1, _BININT2, _BINUNICODE, _BINGET, _LONG_BINGET, _LONG_BINPUT = b"JKMXhjr"


_TUPLE1, _TUPLE2, _NEWFALSE = b"\x85\x86\x89"


_UINT16, _UINT32 = Struct("<H").unpack_from, Struct("<I").unpack_from


_PHRASE_NBYTES = 700
"""What the records of a tensor take."""


def read_pickle(
    file: Readable,
    start: int,
    end: int,
    budget: Budget,
    max_opcodes: int = MAX_OPCODES,
    handlers: Handlers = HANDLERS,
) -> Pickle:
    """Read the pickle that starts there.

    Args:
        file: the file.
        start: the offset of its first byte.
        end: the offset after its last possible byte.
        budget: what reading it may take, from which it is taken.
        max_opcodes: the most that it may have.
        handlers: what does each opcode, where that is not done as usual.

    Raises:
        MalformedFileError: it is not a pickle, or takes more than this machine gives.
    """
    state = State(file, start, end)
    limit = min(max_opcodes, budget.work)
    return refusing(state, lambda: _obey(state, budget, limit, handlers))


def refusing(state: State, obey: Callable[[], T]) -> T:
    """Obey opcodes, and refuse the pickle where they do not make sense.

    Raises:
        MalformedFileError: they do not.
    """
    try:
        return obey()
    except IndexError:
        # The window ends where the pickle may, and the stack where it is empty.
        state.refuse("its pickle is cut off or takes from an empty stack")
    except MalformedFileError:
        raise
    except struct.error:
        state.refuse("its pickle is cut off")
    except (TypeError, ValueError, OverflowError, AttributeError):
        state.refuse("its pickle is damaged")


def _obey(  # noqa: PLR0915, RET503 (see below; `refuse` raises)
    state: State, budget: Budget, max_opcodes: int, handlers: Handlers
) -> Pickle:
    """Obey one opcode after the other.

    What torch writes for every tensor is done here, on local variables, and everything else by
    the handlers: a call for each of 32 opcodes would triple the time.
    """
    costs = COSTS
    stack, marks, memo = state.stack, state.marks, state.memo
    window, at = state.window, state.at
    spent = rare = done = 0
    max_nbytes = min(budget.record_nbytes, budget.nbytes)
    while done + rare * (_RARE_WORTH - 1) < max_opcodes and spent <= max_nbytes:
        done += 1
        if at + _LOOKAHEAD > len(window):
            state.at = at
            state.refill(_LOOKAHEAD)
            window, at = state.window, state.at
        code = window[at]
        at += 1
        spent += costs[code]
        if code == _LONG_BINPUT:
            (index,) = _UINT32(window, at)
            at += 4
            if (
                index == len(memo)
                and not state.scattered
                and len(stack) > (marks[-1] if marks else 0)
            ):
                memo.append(stack[-1])
            else:
                state.store(index)
                spent += state.taken
                state.taken = 0
        elif code in (_BINGET, _LONG_BINGET):
            if code == _BINGET:
                index = window[at]
                at += 1
            else:
                (index,) = _UINT32(window, at)
                at += 4
            found = memo[index] if index < len(memo) else UNSTORED
            stack.append(state.recall(index) if found is UNSTORED else found)
            if window[at] == _MARK and (call := call_as_written(state, window, at)):
                done += _PHRASE_WORTH
                spent += _PHRASE_NBYTES
                spent += state.taken
                state.taken = 0
                at = call.end()
        elif code == _BININT1:
            stack.append(window[at])
            at += 1
        elif code == _BININT2:
            (value,) = _UINT16(window, at)
            at += 2
            stack.append(value)
        elif (
            code == _BINUNICODE
            and (nbytes := _UINT32(window, at)[0]) < LONG_NBYTES
            and (after := at + 4 + nbytes) <= len(window)
        ):
            text = decoded(window[at + 4 : after])
            spent += nbytes if len(text) == nbytes else 4 * nbytes
            stack.append(text)
            at = after
        elif code == _MARK and len(marks) < MAX_MARKS:
            marks.append(len(stack))
        elif code == _TUPLE1:
            stack.append((state.pop(),))
        elif code == _TUPLE2:
            second = state.pop()
            stack.append((state.pop(), second))
        elif code == _TUPLE:
            start = marks.pop()
            stack[start:] = [tuple(stack[start:])]
        elif code == _REDUCE:
            state.call()
            if state.taken:
                spent += state.taken
                state.taken = 0
        elif code == _EMPTY_TUPLE:
            stack.append(())
        elif code == _NEWFALSE:
            stack.append(False)
        elif code == _STOP:
            state.at = at
            budget.spend(done + rare * (_RARE_WORTH - 1), spent)
            return _stopped(state)
        else:
            state.at = at
            rare += 1
            handler = handlers[code]
            if handler is None:
                state.refuse(f"its pickle has the unknown opcode 0x{code:02x}")
            handler(state)
            spent += state.taken
            state.taken = 0
            window, at = state.window, state.at
    state.at = at
    state.refuse(TOO_MUCH)


def _stopped(state: State) -> Pickle:
    top = state.pop()
    if state.stack or state.marks:
        state.refuse("its pickle leaves something on the stack")
    return Pickle(top, state.base + state.at, tuple(state.names.values()), tuple(state.dropped))
