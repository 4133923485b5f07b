"""Find the state dict in what a pickle holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from reinit_cli.checkpoints.formats.torch.budget import MAX_DEPTH, Budget, Path
from reinit_cli.checkpoints.formats.torch.entries import entries_of
from reinit_cli.checkpoints.formats.torch.outline_texts import summary_of
from reinit_cli.checkpoints.formats.torch.pickle_records import pairs_of
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    has_tensors,
    is_dict,
    is_module_record,
    kind_of,
    may_hold_tensors,
    members_of,
)
from reinit_cli.errors import UnknownNameError, UnsupportedFormatError

ROOTS = ("state_dict", "model_state_dict", "model", "module")
"""Where training checkpoints keep the state dict, in the order in which they are tried."""


_MOST_CANDIDATES = 10
"""The places that are listed where none is the obvious one."""


def find_root(top: Any, budget: Budget) -> tuple[str, Any]:
    """Return the path of the state dict and the state dict."""
    names: list[str] = []
    record = top
    while not has_tensors(record, budget) and len(names) < MAX_DEPTH:
        members = members_of(record, budget)
        name = next((name for name in ROOTS if may_hold_tensors(members.get(name), budget)), None)
        if name is None:
            break
        names.append(name)
        record = members[name]
    else:
        # A state dict may have entries with these names; only what holds others is a root.
        members = members_of(record, budget)
        inner = [name for name in ROOTS if has_tensors(members.get(name), budget)]
        if inner:
            return ".".join((*names, inner[0])), members[inner[0]]
        return ".".join(names), record
    candidates = list(islice(_candidates(top, budget), _MOST_CANDIDATES))
    if len(candidates) == 1:
        return candidates[0]
    if is_dict(record) and next(entries_of(record, budget), None) is None and record is not top:
        return ".".join(names), record
    problem = (
        f"holds tensors in {len(candidates)} places, none the obvious one"
        if candidates
        else f"holds no state dict, but {summary_of(top, budget)}"
    )
    known = tuple(name for name, _ in candidates)
    raise UnsupportedFormatError(budget.path, problem, known, kind="root")


def find_named_root(top: Any, root: str, budget: Budget) -> tuple[str, Any]:
    """Follow the names of a root; a name may hold dots itself."""

    def follow(record: Any, left: str) -> Any:
        members = members_of(record, budget)
        if left in members:
            return members[left]
        for name, member in members.items():
            if left.startswith(f"{name}.") and (found := follow(member, left[len(name) + 1 :])):
                return found
        return None

    if root.count(".") > MAX_DEPTH:
        raise UnknownNameError(root, kind="root", of=budget.path)
    record = top if root == "." else follow(top, root)
    if record is None or not (is_dict(record) or is_module_record(record, budget)):
        known = tuple(name for name, _ in _candidates(top, budget))
        raise UnknownNameError(root, known=known, kind="root", of=budget.path)
    return "" if root == "." else root, record


def _candidates(top: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Yield every dictionary that holds tensors, with its path."""
    seen = set()
    waiting: list[tuple[Path, Any, int]] = [(None, top, 0)]
    while waiting:
        path, record, depth = waiting.pop()
        if id(record) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(record))
        budget.spend(1, _VISIT_NBYTES)
        if has_tensors(record, budget):
            yield budget.path_of(path), record
            continue
        members = members_of(record, budget)
        budget.spend(2 * len(members), _VISIT_NBYTES * len(members))
        inner = [
            ((path, key), member, depth + 1)
            for key, member in members.items()
            if id(member) not in seen and may_hold_tensors(member, budget)
        ]
        waiting += inner[::-1]


_VISIT_NBYTES = 120
"""What a part takes that waits to be visited."""


def ema_copies(top: Any, chosen: str, budget: Budget) -> Iterator[str]:
    """Yield the paths of averaged copies of the weights."""
    for key, member in members_of(top, budget).items():
        if "ema" in key.lower().replace("-", "_").split("_") and key != chosen:
            for name, _ in _candidates(member, budget):
                yield budget.made(f"{key}.{name}" if name else key)


def outside_root(top: Any, root: str, budget: Budget) -> list[str]:
    """Return the members next to the root, of every dictionary on the way to it."""
    outside = []
    prefix = ""
    record = top
    left = root
    while record is not None and left:
        inner = None
        for key, member in pairs_of(record, budget):
            name = budget.text_of(key)
            if inner is None and (left == name or left.startswith(f"{name}.")):
                inner, taken = member, name
            else:
                budget.spend(1)
                outside.append(budget.made(f"{prefix}{name} ({kind_of(member)})"))
        if inner is None:
            break
        prefix += f"{taken}."
        left = left[len(taken) + 1 :]
        record = inner
    return outside
