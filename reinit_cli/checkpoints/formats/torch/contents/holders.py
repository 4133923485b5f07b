"""Tell which containers have tensors in them, at any depth."""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.torch.contents.parts import CONTAINERS, Part, fields_of, is_leaf
from reinit_cli.checkpoints.formats.torch.contents.training_state import is_training_state
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget, has_text
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import is_tensor_record

_VISIT_NBYTES = 200
"""What a container takes that was looked at."""


class Holders:
    """The containers of a file that have tensors in them; each is looked at once.

    Args:
        budget: what is left of the file's.
        in_training: whether tensors of optimizers and schedulers count.
    """

    def __init__(self, budget: Budget, *, in_training: bool = False) -> None:
        self._budget = budget
        self._in_training = in_training
        self._known: dict[int, bool] = {}

    def opens(self, part: Part) -> bool:
        """Whether a part is a container with tensors in it that count."""
        if is_leaf(part.value) or not has_text(part.key):
            return False
        return not self.leaves_out(part) and self.has(part.value)

    def leaves_out(self, part: Part) -> bool:
        """Whether the tensors in a part do not count."""
        return not self._in_training and is_training_state(part, self._budget)

    def has(self, record: Any) -> bool:
        """Whether a container has tensors in it that count."""
        if id(record) not in self._known:
            self._look(record)
        return self._known[id(record)]

    def _look(self, top: Any) -> None:
        """Look at everything that is reached from a container, up to the first tensors."""
        known = self._known
        holders: dict[int, list[int]] = {}  # for each container those that it is a part of
        found: list[int] = []
        waiting = [top]
        met = {id(top)}
        while waiting:
            record = waiting.pop()
            self._budget.spend(1, _VISIT_NBYTES)
            inner = self._inner(record)
            if inner is None:
                found.append(id(record))
                continue
            for part in inner:
                if known.get(id(part)):
                    found.append(id(record))
                    break
                if id(part) not in known:
                    holders.setdefault(id(part), []).append(id(record))
                    if id(part) not in met:
                        met.add(id(part))
                        waiting.append(part)
        known |= dict.fromkeys(met, False)
        while found:
            each = found.pop()
            known[each] = True
            found += (outer for outer in holders.get(each, ()) if not known[outer])

    def _inner(self, record: Any) -> list[Any] | None:
        """Return the containers in a container; None where it has tensors itself."""
        inner = []
        for fields in fields_of(record, self._budget):
            key, value = fields[:2]
            if isinstance(value, CONTAINERS) and has_text(key):
                if is_tensor_record(value):
                    return None
                if not self.leaves_out(Part(*fields)):
                    inner.append(value)
        return inner
