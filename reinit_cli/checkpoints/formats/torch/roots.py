"""Find the state dict in what a pickle holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickle_records import pairs_of
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    has_tensors,
    is_dict,
    is_module_record,
    kind_of,
    may_hold_tensors,
    state_members,
    string_members,
)
from reinit_cli.errors import UnknownNameError, UnsupportedFormatError

ROOTS = ("state_dict", "model_state_dict", "model", "module")
"""Where training checkpoints keep the state dict, in the order in which they are tried."""


MAX_DEPTH = 100


def find_root(top: Any, path: str) -> tuple[str, Any]:
    """Return the path of the state dict and the state dict."""
    names: list[str] = []
    record = top
    while not has_tensors(record) and len(names) < MAX_DEPTH:
        members = dict(string_members(record))
        name = next((name for name in ROOTS if may_hold_tensors(members.get(name))), None)
        if name is None:
            break
        names.append(name)
        record = members[name]
    else:
        # A state dict may have entries with these names; only what holds others is a root.
        members = dict(string_members(record))
        inner = [name for name in ROOTS if has_tensors(members.get(name))]
        if inner:
            return ".".join((*names, inner[0])), members[inner[0]]
        return ".".join(names), record
    candidates = list(_candidates(top))
    if len(candidates) == 1:
        return candidates[0]
    if is_dict(record) and not list(entries_of(record)) and record is not top:
        return ".".join(names), record
    problem = (
        f"holds tensors in {len(candidates[:10])} places, none the obvious one"
        if candidates
        else "holds no state dict"
    )
    known = tuple(name for name, _ in candidates[:10])
    raise UnsupportedFormatError(path, problem, known, kind="root")


def find_named_root(top: Any, root: str, path: str) -> tuple[str, Any]:
    """Follow the names of a root; a name may hold dots itself."""

    def follow(record: Any, left: str) -> Any:
        members = dict(string_members(record))
        if left in members:
            return members[left]
        for name, member in members.items():
            if left.startswith(f"{name}.") and (found := follow(member, left[len(name) + 1 :])):
                return found
        return None

    record = top if root == "." else follow(top, root)
    if record is None or not (is_dict(record) or is_module_record(record)):
        known = tuple(name for name, _ in _candidates(top))
        raise UnknownNameError(root, known=known, kind="root", of=path)
    return "" if root == "." else root, record


def _candidates(top: Any) -> Iterator[tuple[str, Any]]:
    """Yield every dictionary that holds tensors, with its path."""
    seen = set()
    waiting = [("", top, 0)]
    while waiting:
        name, record, depth = waiting.pop()
        if id(record) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(record))
        if has_tensors(record):
            yield name, record
            continue
        inner = [
            (f"{name}.{key}" if name else key, member, depth + 1)
            for key, member in string_members(record)
            if is_dict(member) or is_module_record(member)
        ]
        waiting += inner[::-1]


def ema_copies(top: Any, chosen: str) -> Iterator[str]:
    """Yield the paths of averaged copies of the weights."""
    for key, member in string_members(top):
        if "ema" in key.lower().replace("-", "_").split("_") and key != chosen:
            for name, _ in _candidates(member):
                yield f"{key}.{name}" if name else key


def entries_of(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `state_dict()` of a record would have."""
    if is_module_record(record):
        yield from _module_entries(record, "", 0)
        return
    for key, value in pairs_of(record):
        if isinstance(key, str):
            yield key, value
        elif type(key) is int:
            yield str(key), value


def _module_entries(record: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    state = dict(state_members(record))
    fleeting = state.get("_non_persistent_buffers_set")
    left_out = {item for item in getattr(fleeting, "items", ()) if isinstance(item, str)}
    left_out |= {
        item
        for items in getattr(fleeting, "args", ()) or ()
        if isinstance(items, list)
        for item in items
        if isinstance(item, str)
    }
    for group in ("_parameters", "_buffers"):
        for name, value in string_members(state.get(group)):
            if value is not None and not (group == "_buffers" and name in left_out):
                yield prefix + name, value
    if depth < MAX_DEPTH:
        for name, module in string_members(state.get("_modules")):
            if module is not None:
                yield from _module_entries(module, f"{prefix}{name}.", depth + 1)


def outside_root(top: Any, root: str) -> list[str]:
    """Return the members next to the root, of every dictionary on the way to it."""
    outside = []
    prefix = ""
    record = top
    left = root
    while record is not None and left:
        inner = None
        for key, member in pairs_of(record):
            name = str(key)
            if inner is None and (left == name or left.startswith(f"{name}.")):
                inner, taken = member, name
            else:
                outside.append(f"{prefix}{name} ({kind_of(member)})")
        if inner is None:
            break
        prefix += f"{taken}."
        left = left[len(taken) + 1 :]
        record = inner
    return outside
