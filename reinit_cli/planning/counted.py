"""Name the tensors whose rows are counted elsewhere: vocabularies, labels, positions.

The rows below are the only list of such names. They are those of the modules that transformers
5.24, diffusers 0.42 and timm 1.0 build with the size of a config: the last segments of a module's
path, without the numbers of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class Counted:
    """Tensors of which something else counts the rows.

    Attributes:
        what: what a row is of.
        modules: the last segments of the modules whose weights they are, one or two.
        members: the names of a config that count them.
        extra: how many rows they may have beyond the number that a config says.
    """

    what: str
    modules: frozenset[str]
    members: tuple[str, ...]
    extra: tuple[int, ...] = (0,)


_EMBEDDINGS = frozenset(
    (
        *("embed_tokens", "word_embeddings", "word_embedding", "shared", "token_embedding"),
        *("token_embeddings", "wte", "tok_embeddings", "embed_in", "tokens_embed", "embeddings"),
        *("embedding", "embed", "embed_text_tokens", "text_embed_tokens", "codec_embedding"),
        *("input_embeds_layer", "transformer.w", "value_embeddings"),
    )
)

_HEADS = frozenset(
    (
        *("lm_head", "lm_heads", "decoder", "proj_out", "head", "generator_lm_head", "embed_out"),
        *("output_projection", "ctc_head", "vocab_projector", "text_lm_head", "output", "out"),
        *("lm_loss", "output_layer", "pred_layer.proj"),
    )
)

VOCABULARY = Counted(
    "vocabulary",
    _EMBEDDINGS | _HEADS,
    (
        *("vocab_size", "padded_vocab_size", "decoder_vocab_size", "src_vocab_size"),
        *("tgt_vocab_size", "text_vocab_size", "input_vocab_size", "output_vocab_size"),
    ),
)

LABELS = Counted(
    "labels",
    frozenset(
        (
            *("classifier", "score", "qa_outputs", "enc_score_head", "logits_proj", "head", "fc"),
            *("classification_head.out_proj", "classifier.out_proj", "score.out_proj"),
            *("cls_classifier", "distillation_classifier", "dist_head", "head_dist", "cls"),
            *("classifier.linear", "class_embed", "class_labels_classifier", "class_predictor"),
            "class_labels_classifier.layers",
            "sequence_summary.summary",
        )
    ),
    ("id2label", "num_labels", "_num_labels", "num_classes"),
    # Detectors have a row for "no object".
    (0, 1),
)

COUNTED = (
    VOCABULARY,
    LABELS,
    Counted(
        "positions",
        frozenset(
            (
                *("position_embeddings", "position_embedding", "wpe", "embed_positions"),
                *("pos_embed", "positions_embed", "position_embeds_layer", "pos_emb"),
            )
        ),
        (
            *("max_position_embeddings", "n_positions", "n_ctx", "max_source_positions"),
            *("max_target_positions", "num_position_embeddings"),
        ),
        # BART's and OPT's start at 2.
        (0, 2),
    ),
    Counted("types", frozenset(("token_type_embeddings",)), ("type_vocab_size",)),
    Counted("channels", frozenset(("conv_out",)), ("out_channels",)),
    Counted("classes", frozenset(("class_embedding",)), ("num_class_embeds",)),
)


def counted_as(key: str) -> tuple[Counted, ...]:
    """Return what the rows of a tensor may be of, by its key."""
    module = module_of(key)
    last = ".".join(module[-1:])
    two = ".".join(module[-2:])
    return tuple(each for each in COUNTED if last in each.modules or two in each.modules)


def module_of(key: str) -> list[str]:
    """Return the path of a tensor's module, without the numbers at its end."""
    path = key.split(".")[:-1]
    while path and path[-1].isdecimal():
        del path[-1]
    return path


def is_head(key: str) -> bool:
    """Whether a tensor is, by its key, of a head that tells the words of a vocabulary apart."""
    return _is_of(key, _HEADS)


def is_embedding(key: str) -> bool:
    """Whether a tensor is, by its key, an embedding of the words of a vocabulary."""
    return _is_of(key, _EMBEDDINGS)


def _is_of(key: str, modules: frozenset[str]) -> bool:
    module = module_of(key)
    return ".".join(module[-1:]) in modules or ".".join(module[-2:]) in modules


def is_bias_of_words(tensor: TensorInfo) -> bool:
    """Whether a tensor has an element for each word of a vocabulary, by its key."""
    *_, last = tensor.key.split(".")
    if last == "final_logits_bias":
        return True
    module = module_of(tensor.key)
    return last == "bias" and (is_head(tensor.key) or module[-1:] == ["predictions"])


def nearest(key: str, others: Sequence[str]) -> Iterator[str]:
    """Yield those of some keys that share the longest beginning with a key, segment by segment."""
    path = key.split(".")
    shared = [_shared(path, other.split(".")) for other in others]
    most = max(shared, default=0)
    return (other for other, count in zip(others, shared, strict=True) if count == most)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
