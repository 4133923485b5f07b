"""Tell what belongs to the training, by its structure: optimizers and schedulers."""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.torch.contents.parts import Part, is_leaf, parts_of
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    attributes_of,
    is_dict,
    is_tensor_record,
    members_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Instance

_SLOTS = frozenset(
    (
        *("exp_avg", "exp_avg_sq", "exp_avg_diff", "exp_inf", "max_exp_avg_sq", "max_exp_avg_sqs"),
        *("momentum_buffer", "square_avg", "grad_avg", "acc_delta", "mu_product", "neg_pre_grad"),
        *("ax", "eta", "mu", "prev", "step", "step_size", "sum"),  # torch.optim, to here
        *("absmax1", "absmax2", "max1", "max2", "new_max1", "new_max2", "qmap1", "qmap2"),
        *("state1", "state2", "unorm_vec"),  # bitsandbytes
    )
)
"""What optimizers keep of a parameter."""

_DISTINCT = frozenset(
    (
        *("exp_avg", "exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "acc_delta"),
        *("qmap1", "max1"),
    )
)
"""The slots that nothing else is called."""

_MASTERS = ("fp32_", "single_partition_of_fp32", "base_optimizer_state")
"""How apex, DeepSpeed and Megatron name the weights in float32 that an optimizer holds."""

_MOST_PAIRS = 64
"""The keys and values of an optimizer's state, or of a scheduler's, at most."""

_MOST_LOOKS = 200
"""The parts that are looked at to tell whether something that is called so is an optimizer."""


def is_training_state(part: Part, budget: Budget) -> bool:
    """Whether a part of a container is an optimizer, a scheduler, or the like."""
    if is_leaf(part.value):
        return False
    return _has_shape(part.value, budget) or (
        isinstance(part.key, str)
        and "optim" in part.key[:100].lower()
        and _shows_optimizer(part.value, budget)
    )


def _has_shape(record: Any, budget: Budget) -> bool:
    """Whether a record is built as optimizers, their slots and schedulers are."""
    if not isinstance(record, (Dict, Instance)) or len(record.pairs) > _MOST_PAIRS:
        return False
    members = members_of(record, budget) or (
        attributes_of(record, budget) if isinstance(record, Instance) else {}
    )
    if "last_epoch" in members:
        return not members.keys().isdisjoint(("base_lrs", "_last_lr", "_step_count"))
    if "param_groups" in members:
        return _is_of_groups(members["param_groups"], budget)
    return members.keys() <= _SLOTS and not members.keys().isdisjoint(_DISTINCT)


def _is_of_groups(record: Any, budget: Budget) -> bool:
    if not isinstance(record, (list, tuple)):
        return False
    budget.spend(1 + len(record))
    return all(is_dict(group) and "params" in members_of(group, budget) for group in record)


def _shows_optimizer(record: Any, budget: Budget) -> bool:
    """Whether something of an optimizer is found in a record, near its top."""
    waiting = [record]
    for at in range(_MOST_LOOKS):
        if at >= len(waiting):
            return False
        for part in parts_of(waiting[at], budget):
            name = part.key if isinstance(part.key, str) else ""
            is_slot = name.rpartition(".")[2] in _DISTINCT and is_tensor_record(part.value)
            if is_slot or name.startswith(_MASTERS) or _has_shape(part.value, budget):
                return True
            if not is_leaf(part.value) and len(waiting) < _MOST_LOOKS:
                waiting.append(part.value)
    return False
