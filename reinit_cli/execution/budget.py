"""Share memory among all runs of a process.

The budget is the one state of the module: what it counts, the memory of the process, is
shared by all of its runs, whoever began them.
"""

from __future__ import annotations

import threading

from reinit_cli.threads import wait_until

DRAWING_NBYTES = 512 * 2**20
"""The memory that all draws of the process may take, unless one alone needs more."""


class _Budget:
    """A count of bytes that all runs of the process share."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.taken = 0
        self.changed = threading.Condition()


BUDGET = _Budget(DRAWING_NBYTES)


class Share:
    """What a run takes from a budget before each draw and gives back after it.

    A draw that needs more than there is waits until it is alone.
    """

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._taken = 0

    def take(self, nbytes: int) -> None:
        """Wait until there is room, then take it.

        Raises:
            StoppedError: the work of this thread was stopped.
        """
        with self._budget.changed:
            wait_until(self._budget.changed, lambda: self._has_room(nbytes))
            self._change(nbytes)

    def give_back(self, nbytes: int) -> None:
        """Return what was taken."""
        with self._budget.changed:
            self._change(-nbytes)

    def give_all_back(self) -> None:
        """Return what was taken for draws that were called off."""
        self.give_back(self._taken)

    def _has_room(self, nbytes: int) -> bool:
        taken = self._budget.taken
        return not taken or taken + nbytes <= self._budget.nbytes

    def _change(self, nbytes: int) -> None:
        self._taken += nbytes
        self._budget.taken += nbytes
        self._budget.changed.notify_all()
