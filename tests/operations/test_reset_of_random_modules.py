"""`reset` of modules that are put together at random, with torch's own layers as the oracle."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reinit_cli import apply_, plan
from reinit_cli.checkpoints.models.constructor import laws_of_layers
from reinit_cli.initializers import Law
from reinit_cli.planning.plan import Plan

Draw = Callable[[st.SearchStrategy[Any]], Any]

FEW = st.integers(1, 6)
FLAG = st.booleans()
GROUPS = st.sampled_from((1, 2, 3))


def _linear(draw: Draw) -> nn.Module:
    return nn.Linear(draw(FEW), draw(FEW), bias=draw(FLAG))


def _bilinear(draw: Draw) -> nn.Module:
    return nn.Bilinear(draw(FEW), draw(FEW), draw(FEW), bias=draw(FLAG))


def _convolution(of: type[nn.Module]) -> Callable[[Draw], nn.Module]:
    def made(draw: Draw) -> nn.Module:
        groups = draw(GROUPS)
        channels = groups * draw(FEW), groups * draw(FEW)
        return of(*channels, draw(st.integers(1, 4)), groups=groups, bias=draw(FLAG))

    return made


def _embedding(of: type[nn.Module]) -> Callable[[Draw], nn.Module]:
    return lambda draw: of(draw(st.integers(2, 9)), draw(FEW))


def _batch_norm(of: type[nn.Module]) -> Callable[[Draw], nn.Module]:
    return lambda draw: of(draw(FEW), affine=draw(FLAG), track_running_stats=True)


def _recurrent(of: type[nn.Module]) -> Callable[[Draw], nn.Module]:
    def made(draw: Draw) -> nn.Module:
        ways = {"num_layers": draw(st.integers(1, 2)), "bidirectional": draw(FLAG)}
        hidden = draw(st.integers(2, 6))
        projected = {"proj_size": draw(st.integers(0, hidden)) // 2} if of is nn.LSTM else {}
        return of(draw(FEW), hidden, bias=draw(FLAG), **ways, **projected)

    return made


def _cell(of: type[nn.Module]) -> Callable[[Draw], nn.Module]:
    return lambda draw: of(draw(FEW), draw(st.integers(2, 6)), bias=draw(FLAG))


def _attention(draw: Draw) -> nn.Module:
    sizes = {"kdim": draw(FEW), "vdim": draw(FEW)} if draw(FLAG) else {}
    return nn.MultiheadAttention(2 * draw(FEW), 2, bias=draw(FLAG), add_bias_kv=draw(FLAG), **sizes)


LAYERS: Mapping[str, Callable[[Draw], nn.Module]] = {
    "fc": _linear,
    "bilinear": _bilinear,
    "conv_a": _convolution(nn.Conv1d),
    "conv_b": _convolution(nn.Conv2d),
    "conv_c": _convolution(nn.Conv3d),
    "deconv_a": _convolution(nn.ConvTranspose1d),
    "deconv_b": _convolution(nn.ConvTranspose2d),
    "deconv_c": _convolution(nn.ConvTranspose3d),
    "embedding": _embedding(nn.Embedding),
    "bag_embedding": _embedding(nn.EmbeddingBag),
    "bn_a": _batch_norm(nn.BatchNorm1d),
    "bn_b": _batch_norm(nn.BatchNorm2d),
    "bn_c": _batch_norm(nn.BatchNorm3d),
    "bn_d": _batch_norm(nn.SyncBatchNorm),
    "instance_norm_a": _batch_norm(nn.InstanceNorm1d),
    "instance_norm_b": _batch_norm(nn.InstanceNorm2d),
    "instance_norm_c": _batch_norm(nn.InstanceNorm3d),
    "layer_norm": lambda draw: nn.LayerNorm(draw(FEW), bias=draw(FLAG)),
    "rms_norm": lambda draw: nn.RMSNorm(draw(FEW)),
    "group_norm": lambda draw: nn.GroupNorm(2, 2 * draw(FEW)),
    "lstm": _recurrent(nn.LSTM),
    "gru": _recurrent(nn.GRU),
    "rnn": _recurrent(nn.RNN),
    "lstm_cell": _cell(nn.LSTMCell),
    "gru_cell": _cell(nn.GRUCell),
    "rnn_cell": _cell(nn.RNNCell),
    "attention": _attention,
    "prelu": lambda draw: nn.PReLU(draw(FEW)),
}
"""A maker of each class of torch's layers that have tensors, by a name that people give it."""

# These hold other layers, or are the base of others.
OTHERS = {
    *("Transformer", "TransformerEncoder", "TransformerDecoder"),
    *("TransformerEncoderLayer", "TransformerDecoderLayer", "AdaptiveLogSoftmaxWithLoss"),
    *("RNNBase", "RNNCellBase", "Module", "Container"),
}


@st.composite
def _modules(draw: Draw) -> nn.ModuleDict:
    names = draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=6, unique=True))
    return nn.ModuleDict({name: LAYERS[name](draw) for name in names})


def _class_has_tensors(of: type[nn.Module]) -> bool:
    return any(hasattr(of, name) for name in ("reset_parameters", "_reset_parameters"))


def test_every_layer_of_torch_that_resets_itself_is_among_them() -> None:
    classes = {
        each.__name__
        for each in vars(nn).values()
        if inspect.isclass(each) and issubclass(each, nn.Module) and _class_has_tensors(each)
    }
    made = {type(make(_first)).__name__ for make in LAYERS.values()}

    assert {each for each in classes if not each.startswith("Lazy")} - OTHERS == made


def _first(strategy: st.SearchStrategy[Any]) -> Any:
    """A value that a strategy may give."""
    return {FLAG: True, GROUPS: 2, FEW: 3}.get(strategy, 2)


def _laws(decided: Plan) -> dict[str, Law | None]:
    return {step.key: step.law for step in decided.steps}


@settings(max_examples=60)
@given(_modules())
def test_a_module_in_memory_has_exactly_the_laws_of_its_own_layers(module: nn.ModuleDict) -> None:
    own = laws_of_layers(module)

    assert _laws(plan(module, ["*=reset"])) == {key: each.law for key, each in own.items()}


@settings(max_examples=60)
@given(_modules(), st.sampled_from(("", "module.", "model.encoder.")))
def test_names_and_shapes_alone_give_the_same_laws_or_a_reason(
    module: nn.ModuleDict, prefix: str
) -> None:
    """No layer is taken for one that starts otherwise."""
    own = laws_of_layers(module)

    decided = plan({prefix + key: each for key, each in module.state_dict().items()}, ["*=reset"])

    for step in decided.steps:
        expected = own[step.key.removeprefix(prefix)].law
        assert step.law == expected if step.action == "fill" else step.reason, step.key
    assert all(step.action == "fill" for step in decided.steps)


@settings(max_examples=20)
@given(_modules(), st.sampled_from(("torch", "philox")), st.integers(0, 9))
def test_what_is_drawn_lies_within_what_torch_draws(
    module: nn.ModuleDict, stream: str, seed: int
) -> None:
    """Constants are those of torch, and nothing is left of what was there."""
    with torch.no_grad():
        for each in module.state_dict().values():
            each.fill_(77)

    apply_(module, ["*=reset"], stream=stream, seed=seed)

    torchs = _reset(module, seed)
    for key, values in module.state_dict().items():
        law = laws_of_layers(module)[key].law
        assert isinstance(law, Law)
        assert law.low <= values.min() <= values.max() <= law.high, key
        assert law.is_random or torch.equal(values, torchs[key]), key
        assert not values.eq(77).any(), key


def _reset(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A copy of a module after the `reset_parameters` of each of its layers."""
    import copy

    fresh = copy.deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for each in reversed(list(fresh.modules())):
            for name in ("reset_parameters", "_reset_parameters"):
                getattr(each, name, lambda: None)()
    return fresh.state_dict()
