"""Say how recurrent layers start."""

from __future__ import annotations

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.starts.linear import within_root_of
from reinit_cli.initializers.starts.roles import plain
from reinit_cli.tensors.layers.layer import Layer

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}
"""The gates of each kind, whose rows lie one below the other."""

_ROWS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
"""What has the rows of all gates; the weight of a projection has the hidden size as columns."""


def start(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return the start of every tensor of an LSTM, a GRU, an RNN or a cell: U(±1/√hidden_size).

    Raises:
        UndefinedError: the hidden size is not known.
    """
    del shape
    return within_root_of(_hidden_size(layer))


def _hidden_size(layer: Layer) -> int:
    if "hidden_size" in layer.sizes:
        return layer.sizes["hidden_size"]
    for role, shape in layer.shapes.items():
        if plain(layer, role).startswith(_ROWS):
            return shape[0] // _GATES[layer.kind]
    raise UndefinedError("its start depends on the hidden size, which is not known")
