"""List what each slot of an optimizer starts as, with where that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import State

Shape = Literal["parameter", "rows", "columns", "row sums", "column sums", ""]
"""How the shape of a slot follows from that of its parameter; "" where it says nothing of it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What is known of the slots of one name.

    Attributes:
        name: theirs.
        start: what each element is before the first step, a number or the option of the group
            that says it; None where it stays, because it never changes or is not read.
        source: where that is written; files of torch are those of torch/optim.
        shape: how it follows from the parameter's.
        unless: the option of the group with which, unless it is zero, there is no such slot at
            the start.
        needs: the slot without which this one is of another optimizer.
        is_shared: whether it is of all parameters of its group.
    """

    name: str
    start: float | str | None
    source: str
    shape: Shape = ""
    unless: str = ""
    needs: str = ""
    is_shared: bool = False


_APEX = "apex/optimizers"
_BNB = "bitsandbytes/optim/optimizer.py: init_state"
_LBFGS = "lbfgs.py: step"
_ADAFACTOR = "transformers/optimization.py: Adafactor"

SLOTS = (
    Slot("step", 0.0, f"adam.py and most others; {_BNB}; {_APEX}/fused_adam.py, in the group"),
    Slot(
        "exp_avg", 0.0, f"adam.py adamax.py nadam.py radam.py sparse_adam.py; {_APEX}", "parameter"
    ),
    Slot("exp_avg_sq", 0.0, f"adam.py nadam.py radam.py sparse_adam.py; {_APEX}", "parameter"),
    Slot("max_exp_avg_sq", 0.0, "adam.py, with amsgrad", "parameter"),
    Slot("exp_inf", 0.0, "adamax.py", "parameter"),
    Slot("mu_product", 1.0, "nadam.py"),
    Slot("square_avg", 0.0, "rmsprop.py adadelta.py", "parameter"),
    Slot("grad_avg", 0.0, "rmsprop.py, with centered", "parameter"),
    Slot("acc_delta", 0.0, "adadelta.py", "parameter"),
    # The first step of SGD sets the buffer to the gradient, undampened.
    Slot(
        "momentum_buffer",
        0.0,
        f"sgd.py: _single_tensor_sgd; rmsprop.py _muon.py; {_APEX}/fused_sgd.py",
        "parameter",
        unless="dampening",
    ),
    Slot("sum", "initial_accumulator_value", f"adagrad.py; {_APEX}/fused_adagrad.py", "parameter"),
    Slot("eta", "lr", "asgd.py"),
    Slot("mu", 1.0, "asgd.py"),
    Slot("ax", 0.0, "asgd.py", "parameter"),
    Slot("prev", 0.0, "rprop.py", "parameter"),
    Slot("step_size", "lr", "rprop.py", "parameter"),
    Slot("row_var", 0.0, "_adafactor.py", "rows"),
    Slot("col_var", 0.0, "_adafactor.py", "columns"),
    Slot("variance", 0.0, "_adafactor.py", "parameter"),
    Slot("exp_avg_sq_row", 0.0, _ADAFACTOR, "row sums"),
    Slot("exp_avg_sq_col", 0.0, _ADAFACTOR, "column sums"),
    Slot("RMS", 0.0, _ADAFACTOR),
    Slot("n_iter", 0.0, _LBFGS, is_shared=True),
    Slot("func_evals", 0.0, _LBFGS, needs="n_iter", is_shared=True),
    *(
        Slot(
            name,
            None,
            f"{_LBFGS}, which makes it where n_iter is 1",
            needs="n_iter",
            is_shared=True,
        )
        for name in ("d", "t", "old_dirs", "old_stps", "ro", "H_diag")
    ),
    *(
        Slot(
            name,
            None,
            f"{_LBFGS}, which reads it where n_iter is not 1",
            needs="n_iter",
            is_shared=True,
        )
        for name in ("prev_flat_grad", "prev_loss", "al")
    ),
    Slot("state2", 0.0, _BNB, "parameter"),
    Slot("state1", 0.0, f"{_BNB}; twice as large in bitsandbytes/optim/ademamix.py"),
    Slot("absmax1", 0.0, _BNB),
    Slot("absmax2", 0.0, _BNB),
    Slot("max1", 0.0, _BNB),
    Slot("max2", 0.0, _BNB),
    Slot("new_max1", 0.0, _BNB),
    Slot("new_max2", 0.0, _BNB),
    Slot("gnorm_vec", 0.0, _BNB),
    Slot("unorm_vec", 0.0, _BNB),
    Slot("qmap1", None, f"{_BNB}: a table of the code's values", needs="state1"),
    Slot("qmap2", None, f"{_BNB}: a table of the code's values", needs="state1"),
)
"""What a fresh optimizer's slots are."""

KNOWN: Mapping[str, Slot] = {slot.name: slot for slot in SLOTS}

COUNTERS = ("step",)
"""The numbers in a group that are not options of it."""


def shape_for(slot: Slot, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a slot of a parameter of some shape; None where nobody knows."""
    match slot.shape:
        case "parameter":
            return shape
        case "rows":
            return (*shape[:-1], 1)
        case "columns":
            return (*shape[:-2], 1, *shape[-1:])
        case "row sums":
            return shape[:-1]
        case "column sums":
            return (*shape[:-2], *shape[-1:])
    return None


def slot_of(name: str, state: State) -> Slot | None:
    """Return what is known of a slot of a parameter; None where that is nothing.

    Args:
        name: the name of the slot.
        state: what is kept for the parameter.
    """
    slot = KNOWN.get(name)
    is_there = slot is not None and (slot.needs in ("", *state.tensors, *state.numbers))
    return slot if is_there else None


def shape_of(state: State) -> tuple[int, ...] | None:
    """Return the shape of the parameter of which state is kept; None where that is not known."""
    shapes = {KNOWN[name].shape: tensor.shape for name, tensor in _shaped(state)}
    if "parameter" in shapes:
        return shapes["parameter"]
    if "rows" in shapes and "columns" in shapes:
        return (*shapes["rows"][:-1], *shapes["columns"][-1:])
    if "row sums" in shapes and "column sums" in shapes:
        return (*shapes["row sums"], *shapes["column sums"][-1:])
    if "state1" in state.tensors:
        return state.tensors["state1"].shape
    return None


def odd_slots(state: State) -> Sequence[tuple[str, tuple[int, ...]]]:
    """Return the slots that contradict others about the shape of their parameter."""
    shape = shape_of(state)
    return [
        (name, tensor.shape)
        for name, tensor in _shaped(state)
        if KNOWN[name].shape == "parameter" and tensor.shape != shape
    ]


def _shaped(state: State) -> list[tuple[str, TensorInfo]]:
    return [(name, tensor) for name, tensor in state.tensors.items() if name in KNOWN]
