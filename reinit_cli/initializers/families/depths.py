"""Initializers that narrow with the number of layers, or from layer to layer."""

from __future__ import annotations

import math
from typing import Annotated

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.families.basic import trunc_normal
from reinit_cli.initializers.families.xavier import xavier_normal, xavier_uniform
from reinit_cli.initializers.fans import Fans, UndefinedError
from reinit_cli.initializers.law import Law, Normal
from reinit_cli.initializers.parameters import Choice, Flag, Integer, NonNegative, Number
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site

Layer = Annotated[int | None, Integer(minimum=0)]
Layers = Annotated[int | None, Integer(minimum=1)]
Cutoff = Annotated[float | None, Number(minimum=0, maximum=100)]


def _cut_off(std: float, cutoff: float | None) -> Law:
    """Return the normal of mean 0 that is cut off at some standard deviations, if it is."""
    if cutoff is None or not std:
        return Normal(0.0, std)
    return trunc_normal((), std=std, a=-cutoff, b=cutoff, bounds="in_std")


# --- normals -----------------------------------------------------------------------------------


def _complete_depth_scaled(name: str, given: Arguments) -> Arguments:
    """Check that only the number is given that the law has: of a layer, or of layers."""
    layer, layers = given.get("layer"), given.get("layers")
    like = given.get("like", None if layers is None else "gpt2")
    if like == "gpt2" and layer is not None:
        problem = "of gpt2 every layer is alike: it takes layers, their number, not layer"
        raise ArgumentError(name, problem, (f"{name}:gpt2,layers={layer}",))
    if like != "gpt2" and layers is not None:
        raise ArgumentError(name, "layers is for gpt2", (f"{name}:gpt2,layers={layers}",))
    return given if like is None else {**given, "like": like}


@register(
    purpose="layers",
    law="N(0, std² / (2·(l + 1))) for layer l, as in torchtitan; with gpt2 N(0, std² / (2·layers)) "
    "for every layer; restricted to ±cutoff of its standard deviations if cutoff is given",
    example="depth_scaled:gpt2,layers=12",
    defined="any shape, if the key has a layer's number or layer= is given; with gpt2, if the keys "
    "count their layers from 0 or layers= is given",
    paper="gpt2: Radford, Wu, Child, Luan, Amodei & Sutskever 2019, Language models are "
    "unsupervised multitask learners, and the code of nanoGPT and Megatron-LM; "
    "torchtitan: its TransformerBlock with depth_init",
    complete=_complete_depth_scaled,
    version=2,
)
def depth_scaled(
    shape: tuple[int, ...],
    site: Site,
    *,
    std: NonNegative = 0.02,
    layer: Layer = None,
    layers: Layers = None,
    like: Annotated[str | None, Choice(("torchtitan", "gpt2"))] = None,
    cutoff: Cutoff = None,
) -> Law:
    """Draw narrower in deeper models or layers (GPT-2, torchtitan).

    Layers are counted over all keys of the checkpoint that begin alike. Of several numbers in
    a key, that of the layer counts up over the keys: of `layers.3.experts.7.w2` the 3. Blocks
    of stages (`layers.2.blocks.5`) are counted from the first stage on.
    """
    del shape
    if like == "gpt2":
        depth = _layers_of(site, layers)
    elif layer is None and site.version == 1:
        depth = _first_number(site.key) + 1
    else:
        depth = _layer_of(site, layer) + 1
    return _cut_off(std / math.sqrt(2 * depth), cutoff)


@register(
    purpose="layers",
    law="N(0, 1 / (2·fan_in·(l + 1))) for layer l, restricted to ±cutoff of its standard "
    "deviations; without by_layer, N(0, 1 / fan_in), restricted in the same way",
    example="mitchell",
    defined="2 dimensions or more; any with fan; by_layer, if the key has a layer's number or "
    "layer= is given",
    paper="Groeneveld, Beltagy, Walsh et al. 2024, OLMo: accelerating the science of language "
    "models, ACL, arXiv:2402.00838 (init_fn: mitchell in its code)",
)
def mitchell(
    shape: tuple[int, ...],
    site: Site,
    both: Fans,
    *,
    layer: Layer = None,
    cutoff: Cutoff = 3.0,
    by_layer: Annotated[bool, Flag()] = True,
) -> Law:
    """Draw narrower in deeper layers and wider inputs, as OLMo does."""
    del shape
    depth = 2 * (_layer_of(site, layer) + 1) if by_layer else 1
    std = 1 / math.sqrt(both.fan_in * depth) if both.fan_in else 0.0
    return _cut_off(std, cutoff)


def _layer_of(site: Site, given: int | None) -> int:
    return site.elsewhere.stacks.depth(site.key).layer if given is None else given


def _layers_of(site: Site, given: int | None) -> int:
    return site.elsewhere.stacks.depth(site.key).layers if given is None else given


_MOST_DIGITS = 18
"""The most digits of a layer's number; keys come from strangers."""


def _first_number(key: str) -> int:
    """Return the first number between dots, which version 1 of `depth_scaled` takes."""
    numbers = [segment for segment in key.split(".") if segment.isdecimal() and segment.isascii()]
    if not numbers:
        raise UndefinedError("its key has no number of a layer, and layer= gives none")
    if len(numbers[0]) > _MOST_DIGITS:
        raise UndefinedError(f"the number in its key has {len(numbers[0]):,} digits")
    return int(numbers[0])


# --- Xavier with a gain ------------------------------------------------------------------------


@register(
    purpose="layers",
    law="U(-bound, bound), bound = gain · √(6 / (fan_in + fan_out)), gain = 0.67·layers^(-1/4) in "
    "an encoder, (9·layers)^(-1/4) in a decoder",
    example="tfixup:encoder,layers=6",
    defined="2 dimensions or more; any with fan; if the keys count their layers from 0 or layers= "
    "is given",
    paper="Huang, Pérez, Ba & Volkovs 2020, Improving transformer optimization through better "
    "initialization, ICML (T-Fixup, for transformers without layer norm)",
    version=2,
)
def tfixup(
    shape: tuple[int, ...],
    site: Site,
    both: Fans,
    *,
    stack: Annotated[str, Choice(("encoder", "decoder"))],
    layers: Layers = None,
) -> Law:
    """Scale Xavier for transformers without layer norm (T-Fixup).

    It is for the weights of values, of attention outputs and of feed-forward layers.
    """
    del shape
    _check_side(site, stack)
    count = _layers_of(site, layers)
    gain = 0.67 / _fourth_root(count) if stack == "encoder" else 1 / _fourth_root(9 * count)
    return xavier_uniform((), both, gain=gain)


def _check_side(site: Site, stack: str | None) -> None:
    """Check that a tensor does not lie in a decoder next to the encoder that is meant.

    Raises:
        UndefinedError: it does, or the other way around.
    """
    pair = site.elsewhere.stacks.pair(site.key) if site.version > 1 else None
    if pair is not None and stack in {"encoder", "decoder"} - {pair.own}:
        raise UndefinedError(f"its key says that it is of the {pair.own}, not of the {stack}")


def _fourth_root(number: float) -> float:
    """Return a root that is the same everywhere, unlike a power of a math library."""
    return math.sqrt(math.sqrt(number))


def _complete_deepnet(name: str, given: Arguments) -> Arguments:
    if given.get("stack") == "encoder" and given.get("decoder_layers") is None:
        problem = "an encoder next to a decoder also needs the number of the decoder's layers"
        raise ArgumentError(name, problem, (f"{name}:encoder,decoder_layers=6",))
    if given.get("stack") != "encoder" and given.get("decoder_layers") is not None:
        raise ArgumentError(name, "decoder_layers is for an encoder next to a decoder")
    return given


@register(
    purpose="layers",
    law="N(0, gain²·2 / (fan_in + fan_out)), gain = (8·layers)^(-1/4) in a stack alone, "
    "0.87·(layers⁴·decoder_layers)^(-1/16) in the encoder and (12·layers)^(-1/4) in the decoder "
    "of two; the keys tell which, unless stack does",
    example="deepnet:layers=12",
    defined="2 dimensions or more; any with fan; if the keys count their layers from 0 or layers= "
    "is given",
    paper="Wang, Ma, Dong, Huang, Zhang & Wei 2022, DeepNet: scaling transformers to 1,000 layers, "
    "arXiv:2203.00555",
    complete=_complete_deepnet,
    version=2,
)
def deepnet(
    shape: tuple[int, ...],
    site: Site,
    both: Fans,
    *,
    layers: Layers = None,
    stack: Annotated[str | None, Choice(("encoder", "decoder", "alone"))] = None,
    decoder_layers: Layers = None,
) -> Law:
    """Scale Xavier for residual connections by DeepNorm (DeepNet).

    It is for the weights of values, of attention outputs and of feed-forward layers; others
    take plain Xavier.
    """
    del shape
    if stack is None and site.version > 1:
        stack, decoder_layers = _side_of(site)
    _check_side(site, stack)
    count = _layers_of(site, layers)
    if stack == "encoder":
        gain = 0.87 / _fourth_root(_fourth_root(count**4 * (decoder_layers or 1)))
    else:
        gain = 1 / _fourth_root((12 if stack == "decoder" else 8) * count)
    return xavier_normal((), both, gain=gain)


def _side_of(site: Site) -> tuple[str, int | None]:
    """Return which stack a tensor lies in, and for that of an encoder the decoder's layers."""
    pair = site.elsewhere.stacks.pair(site.key)
    if pair is None:
        return "alone", None
    if not pair.is_crossed:
        raise UndefinedError(
            "its keys have an encoder next to a decoder, and do not tell whether one attends to "
            "the other; give encoder with decoder_layers=, decoder, or alone"
        )
    if pair.own == "decoder":
        return pair.own, None
    if pair.other.count <= pair.other.last:
        raise UndefinedError(
            f"the keys have {pair.other.count:,} of the layers 0 to {pair.other.last:,} of the "
            "decoder next to its encoder; give encoder with decoder_layers="
        )
    return pair.own, pair.other.count
