"""Tell which optimizer a state is of, by the options that each one has."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.tensors.optimizer import Optimizer

_BY_OPTION = {
    "dampening": "SGD",
    "amsgrad": "Adam or AdamW",
    "initial_accumulator_value": "Adagrad",
    "rho": "Adadelta",
    "beta2_decay": "Adafactor",
    "scale_parameter": "Adafactor",
    "history_size": "LBFGS",
    "ns_steps": "Muon",
    "momentum_decay": "NAdam",
    "centered": "RMSprop",
    "etas": "Rprop",
    "lambd": "ASGD",
}
"""For the options of a group that one optimizer alone has, its name: torch's, and Adafactor of
transformers."""

_BY_SLOT = {"exp_inf": "Adamax", "qmap1": "8-bit optimizer of bitsandbytes"}
"""The same for what an optimizer keeps."""

_DECOUPLED = "decoupled_weight_decay"


def optimizer_kind(optimizer: Optimizer, parts: Iterable[Part]) -> str:
    """Return the name of an optimizer as far as its state tells, or "".

    Args:
        optimizer: its state.
        parts: the outline of the file, which says what is not a number.
    """
    first = next(iter(optimizer.groups), None)
    if first is None:
        return ""
    options = {*first.shared.numbers, *first.shared.others}
    kind = _first(_BY_OPTION, options) or _first(_BY_SLOT, _slots(optimizer))
    if kind == "Adam or AdamW" and _DECOUPLED in options:
        path = ".".join(filter(None, (optimizer.path, "param_groups.0")))
        # It is a bool, which the outline shows where it is true.
        texts = (part.text for part in parts if part.path == path)
        return "AdamW" if any(f"{_DECOUPLED} True" in text for text in texts) else "Adam"
    if not kind and "betas" in options:
        return "RAdam" if _DECOUPLED in options else _by_betas(options)
    return kind


def _by_betas(options: Collection[str]) -> str:
    """Return what has betas and no option that others lack."""
    if "eps" not in options:
        return "Lion"
    return "Adamax" if "capturable" in options else "SparseAdam"


def _slots(optimizer: Optimizer) -> Collection[str]:
    state = next(iter(optimizer.states.values()), None)
    return () if state is None else {*state.tensors, *state.numbers}


def _first(known: dict[str, str], names: Collection[str]) -> str:
    return next((kind for name, kind in known.items() if name in names), "")
