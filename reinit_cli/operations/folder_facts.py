"""Read what the configs and the index of a Hugging Face folder say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats.hugging_face.index import total_nbytes
from reinit_cli.checkpoints.formats.hugging_face.names import is_index
from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, parse_object
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import SourceError
from reinit_cli.lazy import dataclass

if TYPE_CHECKING:
    from reinit_cli.planning.units import HeadCounts

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "chat_template.jinja", "preprocessor_config.json"),
)
"""What tokenizers and processors of transformers save."""

_MOST_ARCHITECTURES = 10


@dataclass(frozen=True, slots=True)
class Config:
    """What the configs of a folder say.

    Attributes:
        architectures: the classes of transformers, or the one of diffusers or timm.
        model_type: the type of transformers, or "".
        dtype: the dtype in which it is to be loaded, or "".
        quantization: the method by which its weights are quantized, or "".
        ties_embeddings: whether the head is the embedding, where it says so.
        adapter: the kind of adapter of PEFT, or "".
        base_model: the model that the adapter is for, or "".
        tokenizer: the files of the tokenizer.
    """

    architectures: tuple[str, ...] = ()
    model_type: str = ""
    dtype: str = ""
    quantization: str = ""
    ties_embeddings: bool | None = None
    adapter: str = ""
    base_model: str = ""
    tokenizer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shards:
    """How the weights of a folder are distributed.

    Attributes:
        files: the names of the files of weights.
        nbytes: their bytes.
        index: the name of the index, or "".
        total: the bytes of all tensors as the index says, or None.
        pieces: how many pieces of tensors they hold, where ranks wrote them.
    """

    files: tuple[str, ...]
    nbytes: int
    index: str = ""
    total: int | None = None
    pieces: int = 0


def config_of(source: Source) -> Config | None:
    """Return what the configs of a folder say; None of what is not a folder.

    Raises:
        SourceError: a config cannot be read.
    """
    if not isinstance(source, FolderSource):
        return None
    # These know how configs follow a plan, and so all initializers, which a file has no need of.
    from reinit_cli.operations.configs import texts_of
    from reinit_cli.planning.config import ADAPTER, CONFIG

    texts, _ = texts_of(source)
    said = _members(texts.get(CONFIG, ""))
    adapter = _members(texts.get(ADAPTER, ""))
    ties = said.get("tie_word_embeddings")
    return Config(
        _architectures(said),
        _text(said.get("model_type")),
        _text(said.get("dtype") or said.get("torch_dtype")).removeprefix("torch."),
        _text(_object(said.get("quantization_config")).get("quant_method")),
        ties if isinstance(ties, bool) else None,
        _text(adapter.get("peft_type")),
        _text(adapter.get("base_model_name_or_path")),
        tuple(name for name in _TOKENIZER_FILES if name in source.listed),
    )


def model_type_of(source: Source) -> str:
    """Return the type of model of transformers that the config of a folder says, or "".

    Of a model that says nothing of its layers, it is the type of the part that has the text.

    Raises:
        SourceError: the config cannot be read.
    """
    from reinit_cli.tensors.layers.names import KNOWN_MODELS

    said = _said(source)
    whole, text = (
        _text(each.get("model_type")) for each in (said, _object(said.get("text_config")))
    )
    return text if text in KNOWN_MODELS and whole not in KNOWN_MODELS else whole


def _said(source: Source) -> Mapping[str, Any]:
    """Return the members of the config of a folder; none of what has no config.

    Raises:
        SourceError: the config cannot be read.
    """
    if not isinstance(source, FolderSource):
        return {}
    from reinit_cli.operations.configs import texts_of
    from reinit_cli.planning.config import CONFIG

    texts, _ = texts_of(source)
    return _members(texts.get(CONFIG, ""))


def counts_of_heads(source: Source) -> HeadCounts:
    """Return how many heads the config of a folder says that attentions have; 0 if it does not.

    Raises:
        SourceError: the config cannot be read.
    """
    from reinit_cli.planning.units import HeadCounts

    said = _said(source)
    if not said:
        return HeadCounts()
    whole = _head_counts({**_object(said.get("text_config")), **said})
    parts = {word: each for words, each in _parts_with_heads(said) for word in words}
    if {"encoder", "decoder"} <= parts.keys() and parts["encoder"] != parts["decoder"]:
        whole = HeadCounts(model_type=whole.model_type)
    return replace(whole, parts=parts)


_QUERY_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads")
"""The names that configs of transformers have for numbers of heads."""

_PART_WORDS = {
    "text_config": ("text", "language"),
    "llm_config": ("language", "llm"),
    "vision_config": ("vision", "visual", "image"),
    "audio_config": ("audio", "speech"),
}
"""The parts of a model that have configs of their own, and what their keys say of them."""


def _parts_with_heads(said: Mapping[str, Any]) -> Iterator[tuple[Sequence[str], HeadCounts]]:
    """Yield what a config says of the heads in parts of the model, with words of their keys."""
    model_type = _text(said.get("model_type"))
    for stack in ("encoder", "decoder"):
        if count := _first_count(said, (f"{stack}_attention_heads",)):
            yield (stack,), _head_counts({"num_heads": count, "model_type": model_type})
    for name, value in said.items():
        if (inner := _object(value)) and (name in _PART_WORDS or _first_count(inner, _QUERY_HEADS)):
            yield _PART_WORDS.get(name, (name.removesuffix("_config"),)), _head_counts(inner)


def _head_counts(said: Mapping[str, Any]) -> HeadCounts:
    from reinit_cli.planning.units import HeadCounts

    queries = _first_count(said, _QUERY_HEADS)
    shared = 1 if said.get("multi_query") is True else queries
    keys = _first_count({**_object(said.get("attn_config")), **said}, _KEY_HEADS)
    return HeadCounts(queries, keys or shared, _text(said.get("model_type")))


def _first_count(said: Mapping[str, Any], names: Sequence[str]) -> int:
    found = (said.get(name) for name in names)
    return next((each for each in found if type(each) is int and each > 0), 0)


def _members(text: str) -> dict[str, Any]:
    """Return the members of a config; a text that is not one has none."""
    with suppress(JsonError):
        return dict(parse_object(text.encode(), "it", allows_floats=True))
    return {}


def _object(value: Any) -> Mapping[str, Any]:
    return dict(value) if isinstance(value, Pairs) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _architectures(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes that a config names: of transformers, of diffusers, of timm."""
    several = said.get("architectures")
    if isinstance(several, list):
        return tuple(filter(None, map(_text, several[:_MOST_ARCHITECTURES])))
    one = _text(said.get("_class_name")) or _text(said.get("architecture"))
    return (one,) if one else ()


def shards_of(source: Source) -> Shards | None:
    """Return how the weights of a folder are distributed; None of what is not a folder.

    Raises:
        SourceError: its index cannot be read.
    """
    if not isinstance(source, FolderSource):
        return None
    paths = source.paths_of_weights
    names = tuple(os.path.relpath(path, source.path) for path in paths)
    nbytes = sum(source.sizes[name] for name in names)
    located = source.located
    index = next(
        (name for name in located.files if is_index(name) and name not in located.others), ""
    )
    total = None
    if index:
        with suppress(SourceError), source.open(0) as contents:
            total = total_nbytes(contents.files()[index])
    return Shards(names, nbytes, index, total, sum(map(len, located.pieces.values())))
