"""Find the state dict in what a pickle holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from reinit_cli.checkpoints.formats.torch.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.pickle_records import pairs_of
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    attributes_of,
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


MAX_DEPTH = 100


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
        else "holds no state dict"
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


def entries_of(record: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Yield what `state_dict()` of a record would have."""
    if is_module_record(record, budget):
        yield from _module_entries(record, "", 0, budget)
        return
    for key, value in pairs_of(record, budget):
        if isinstance(key, str):
            yield key, value
        elif type(key) is int:
            yield budget.text_of(key), value


def _module_entries(
    record: Any, prefix: str, depth: int, budget: Budget
) -> Iterator[tuple[str, Any]]:
    state = attributes_of(record, budget)
    left_out = _fleeting(state.get("_non_persistent_buffers_set"), budget)
    for group in ("_parameters", "_buffers"):
        for name, value in members_of(state.get(group), budget).items():
            if value is not None and not (group == "_buffers" and name in left_out):
                budget.spend(1 + depth // 4)  # it is yielded by every module around it
                yield budget.made(prefix + name), value
    if depth < MAX_DEPTH:
        for name, module in members_of(state.get("_modules"), budget).items():
            if module is not None:
                inner = budget.made(f"{prefix}{name}.")
                yield from _module_entries(module, inner, depth + 1, budget)


def _fleeting(record: Any, budget: Budget) -> set[str]:
    """Return the names of the buffers that a state dict leaves out."""
    lists = [getattr(record, "items", ())]
    lists += (each for each in getattr(record, "args", ()) or () if isinstance(each, list))
    budget.spend(1 + sum(map(len, lists)))
    return {item for items in lists for item in items if isinstance(item, str)}


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
