"""Sum up optimizers in a few lines: their slots, and the options of their groups."""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.torch.contents.outline_sums import (
    MOST_NAMED,
    Tensors,
    names_text,
    nbytes_of,
    path_text,
)
from reinit_cli.checkpoints.formats.torch.contents.outline_texts import (
    LONGEST_NAME,
    class_of,
    inline,
)
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    attributes_of,
    is_dict,
    is_optimizer,
    members_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Instance, Persistent, pairs_of
from reinit_cli.text import plural, shortened

_MOST_OPTIONS = 30
"""Of a group, with the number of its parameters."""


def _optimizer(record: Any, budget: Budget) -> dict[str, Any]:
    """Return the members of an optimizer's state, or the attributes of a pickled optimizer."""
    if is_optimizer(record, budget):
        return members_of(record, budget)
    if not isinstance(record, Instance) or is_dict(record):
        return {}
    found = attributes_of(record, budget)
    groups = found.get("param_groups")
    if not isinstance(groups, list) or not is_dict(found.get("state")):
        return {}
    budget.spend(len(groups))
    are_groups = all(isinstance(members_of(each, budget).get("params"), list) for each in groups)
    return found if are_groups else {}


def optimizer_lines(record: Any, path: Path, tensors: Tensors) -> list[Part]:
    """Return the lines of an optimizer: the whole, its slots, and each group; none of others."""
    budget = tensors.budget
    members = _optimizer(record, budget)
    if not members:
        return []
    groups = [members_of(group, budget) for group in members["param_groups"]]
    count = sum(len(group["params"]) for group in groups)
    text = f"{plural(count, 'parameter')} in {plural(len(groups), 'group')}"
    text += f", {class_of(record)}" if isinstance(record, Instance) else ""
    lines = [Part(path_text(path, budget), "optimizer", text)]
    lines.append(_slots(members["state"], (path, "state"), tensors))
    for at, group in enumerate(groups[:MOST_NAMED]):
        here = path_text(((path, "param_groups"), at), budget)
        lines.append(Part(here, "dict", _group(group, budget)))
    if len(groups) > MOST_NAMED:
        here = path_text((path, "param_groups"), budget)
        lines.append(Part(here, "more", f"{len(groups) - MOST_NAMED:,} more"))
    return lines


def _slots(state: Any, path: Path, tensors: Tensors) -> Part:
    """Return the line that sums up the slots of all parameters."""
    budget = tensors.budget
    names: dict[str, None] = {}
    count = 0
    for _, slots in pairs_of(state, budget):
        count += 1
        names |= dict.fromkeys(members_of(slots, budget))
    infos = tensors.below(state)
    named = sorted(names)
    budget.spend(len(named))
    text = plural(count, "parameter")
    if named:
        left = len(named) - MOST_NAMED
        text += f": {names_text(named[:MOST_NAMED])}" + (f" and {left:,} more" if left > 0 else "")
    return Part(path_text(path, budget), "dict", text, len(infos), nbytes_of(infos.values()))


def _group(group: dict[str, Any], budget: Budget) -> str:
    """Return what is known of a group: the number of its parameters, and its options."""
    texts = [plural(len(group["params"]), "parameter")]
    for name, value in group.items():
        text = inline(value, budget)
        if name not in ("params", "param_names") and text is not None and not _is_off(value):
            texts.append(f"{shortened(name, LONGEST_NAME)} {text}")
    return shortened(", ".join(texts[:_MOST_OPTIONS]))


def _is_off(value: Any) -> bool:
    """Whether an option is one that is not used, as most of an optimizer's are."""
    return value is None or value is False or isinstance(value, Persistent)
