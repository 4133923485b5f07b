"""Name the modules and parameters whose names tell the kind of a layer, with their sources."""

from __future__ import annotations

import re

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """Names of modules that tell the kind of a layer where its shapes allow it.

    Attributes:
        source: where they are taken from.
        names: the last segments of paths that are not numbers; "*" stands for any beginning.
    """

    source: str
    names: tuple[str, ...]


EMBEDDINGS = (
    Names("transformers GPT-2", ("wte", "wpe")),
    Names("transformers OpenAI GPT", ("tokens_embed", "positions_embed")),
    Names("transformers Llama, OPT, BART", ("embed_tokens", "embed_positions")),
    Names("transformers T5", ("shared", "relative_attention_bias")),
    Names("transformers GPT-NeoX", ("embed_in",)),
    Names("transformers BERT, Mamba", ("*_embeddings", "embeddings")),
    Names("transformers CLIP, XLNet", ("*_embedding", "embedding")),
    Names("minGPT, RWKV", ("*_emb", "emb")),
    Names("torch's tutorials", ("embed", "*_embed")),
    Names("DETR", ("query_embed", "row_embed", "col_embed", "level_embed")),
    Names("DiT, Ovis 2", ("*embedding_table", "visual_embeddings_table")),
    Names("transformers Bark, CLVP", ("input_embeds_layer", "position_embeds_layer")),
    Names(
        "transformers SAM",
        ("iou_token", "mask_tokens", "obj_score_token", "presence_token", "hq_token"),
    ),
    Names(
        "transformers MaskFormer, LW-DETR, SAM 3",
        ("queries_embedder", "queries_features", "query_feat", "reference_points"),
    ),
    Names("transformers Kosmos-2.5, SpeechT5", ("row_embedder", "column_embedder", "pe_k")),
    Names(
        "transformers Decision Transformer, Pegasus-X, Higgs Audio",
        ("embed_timestep", "embed_global", "embed_audio_tokens"),
    ),
)
"""A matrix with such a name is an embedding, if it has no bias."""

LORA = Names("PEFT LoRA, kohya", ("lora_A", "lora_B", "lora_down", "lora_up"))
"""The factors of an adapter; PEFT puts the name of the adapter behind them."""

ROTATIONS = Names("PEFT OFT", ("oft_R",))
"""Adapters whose matrix is of no linear layer."""

LINEARS = (
    Names("transformers Llama", ("*_proj", "proj")),
    Names("transformers BERT", ("query", "key", "value", "dense", "pooler", "decoder")),
    Names("transformers T5", ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")),
    Names("transformers, heads", ("lm_head", "score", "classifier", "embed_out")),
    Names("torchvision, timm, heads", ("fc", "head", "heads", "head_dist")),
    Names("transformers Mixtral", ("w1", "w2", "w3", "gate", "router")),
    Names("Meta's Llama", ("wq", "wk", "wv", "output")),
    Names("timm ViT", ("qkv", "fc1", "fc2", "fc3", "kv")),
    Names("diffusers", ("to_q", "to_k", "to_v", "to_out", "to_qkv", "to_kv")),
    Names("nanoGPT", ("c_attn", "c_fc")),
    LORA,
    Names("torch.nn.Transformer", ("linear", "linear1", "linear2", "linear3")),
)
"""A matrix with such a name is the weight of a linear layer."""

CONV1DS = Names("transformers GPT-2, OpenAI GPT", ("c_attn", "q_attn", "c_proj", "c_fc"))
"""Each is Conv1D where one of them has a bias for its second dimension and not its first."""

CONV1D_MODELS = frozenset(("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"))
"""The values of `model_type` of models that have Conv1D."""

EXPERTS = frozenset(("gate_up_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"))
"""Parameters of stacks of experts: transformers Llama 4, gpt-oss, and Mixtral since 5.0."""

INPUTS_FIRST_MODELS = frozenset(("gpt_oss", "llama4", "llama4_text"))
"""The values of `model_type` of models whose stacks of experts are (E, in, out)."""

STACKED = frozenset(("input_linear", "output_linear"))
"""Modules of transformers Granite MoE, whose weight is a stack of experts, (E, out, in)."""

LAYER_NORM_MODELS = frozenset(
    ("cohere", "cohere2", "dbrx", "modernbert", "moonshine", "mpt", "olmo")
)
"""The values of `model_type` of models with a LayerNorm without bias."""

RMS_NORMS = Names(
    "transformers Llama, OLMo 2; Meta's Llama",
    ("post_attention_layernorm", "post_feedforward_layernorm", "ffn_norm"),
)
"""Where these have no bias, every norm without one is an RMSNorm."""

ZERO_CENTERED = frozenset(
    (
        *("gemma", "gemma2", "gemma3", "gemma3_text", "paligemma", "colpali", "recurrent_gemma"),
        *("shieldgemma2", "t5gemma", "t5_gemma_module", "vaultgemma"),
        *("t5gemma2", "t5gemma2_text", "t5gemma2_encoder", "t5gemma2_decoder"),
        *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
        *("qwen4_exp", "qwen4_exp_text", "minimax_m3_vl", "minimax_m3_vl_text", "pi0"),
        *("step3p5", "step3p7"),
    )
)
"""The values of `model_type` of models whose RMSNorm multiplies by one more than its weight."""

ZERO_CENTERED_LAYER_NORM = frozenset(
    ("videoprism", "videoprism_text_model", "videoprism_vision_model")
)
"""The values of `model_type` of models whose LayerNorm multiplies by one more than its weight."""

KNOWN_MODELS = (
    CONV1D_MODELS
    | INPUTS_FIRST_MODELS
    | LAYER_NORM_MODELS
    | ZERO_CENTERED
    | ZERO_CENTERED_LAYER_NORM
)
"""The values of `model_type` that tell something of layers."""

OF_NO_TEXT = re.compile("vision|visual|image|audio|speech")
"""What paths of the parts of a model say that are not of its text."""

GATED_NORM = "linear_attn.norm"
"""The end of the path of a norm in the models of Qwen that multiplies by its weight."""

GLOBAL_RESPONSE = frozenset(("grn",))
"""The norms of ConvNeXt V2, which start as zeros."""

_LONGEST = 100
"""The longest name that is looked at, for text from strangers."""

_NORMS = {
    "RMSNorm": re.compile(r"(?:.*_)?rms(?:_?norms?)?_?[0-9]*", re.IGNORECASE),
    "GroupNorm": re.compile(r"(?:.*_)?(?:group_?norms?|gns?)_?[0-9]*", re.IGNORECASE),
    "InstanceNorm": re.compile(r"(?:.*_)?instance_?norms?_?[0-9]*d?", re.IGNORECASE),
    "BatchNorm": re.compile(r"(?:.*_)?(?:batch_?norms?|bns?)_?[0-9]*d?", re.IGNORECASE),
    "LayerNorm": re.compile(
        r"(?:.*_)?(?:layer_?norms?|lns?)_?(?:[0-9]+|[a-z]|pre|post|before|after|embedding)?",
        re.IGNORECASE,
    ),
    "Norm": re.compile(r".*norm.*", re.IGNORECASE),
}
_ONE_NORM = re.compile(r"(?:.*_)?norm_?[0-9]*", re.IGNORECASE)
_BILINEAR = re.compile(r"(?:.*_)?(?:bi|biaff?ine)_?[0-9]*|.*bi_?linear.*", re.IGNORECASE)
_PRELU = re.compile(r"(?:.*_)?p?re_?lu_?[0-9]*|act(?:ivation)?_?[0-9]*", re.IGNORECASE)
_TRANSPOSED = re.compile(
    r".*(?:deconv|conv_?trans|trans(?:posed?)?_?conv|conv_?t[0-9]*$).*", re.IGNORECASE
)
_UP = re.compile(r".*up_?sampl.*|(?:.*_)?up_?(?:conv)?_?[0-9]*", re.IGNORECASE)

_CONVOLUTION = re.compile(
    r"(?:.*_)?convs?_?[0-9]*d?(?:_[0-9]+)?|patch_embed.*|proj|projection|.*down_?sampl.*",
    re.IGNORECASE,
)


def _in(rows: tuple[Names, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of a table, and the ends of names."""
    names = [name for row in rows for name in row.names]
    ends = tuple(name.removeprefix("*") for name in names if name.startswith("*"))
    return frozenset(names), ends


_EMBEDDINGS, _EMBEDDING_ENDS = _in(EMBEDDINGS)
_LINEARS, _LINEAR_ENDS = _in(LINEARS)


_NUMBERED = re.compile(r"(?:.*_embeddings|HashBucketCodepointEmbedder)_[0-9]+")
"""Names of embeddings with numbers: transformers TAPAS, CANINE."""

_LISTED = ("_embeddings", "input_embeds_layers", "point_embed")
"""Ends of the names of lists of embeddings: transformers MarkupLM, Bark, SAM."""

_PATCHES = "patch_emb"
"""The beginning of the names of what projects patches of an image, by a matrix or a convolution."""


def is_embedding(path: str) -> bool:
    """Whether a module is an embedding by the end of its path."""
    around, _, name = path.rpartition(".")
    if name.isdigit():
        return around.endswith(_LISTED) and not around.rpartition(".")[2].startswith(_PATCHES)
    is_one = name in _EMBEDDINGS or name.endswith(_EMBEDDING_ENDS)
    is_one = is_one or _NUMBERED.fullmatch(name[:_LONGEST]) is not None
    return is_one and not name.startswith(_PATCHES)


def is_linear(name: str) -> bool:
    """Whether a module is a linear layer by its name."""
    return name in _LINEARS or name.endswith(_LINEAR_ENDS) or name.startswith(_PATCHES)


def norm_named(name: str) -> str:
    """Return the kind of norm that the name of a module tells; "Norm" for any, "" for none."""
    name = name[:_LONGEST]
    return next((kind for kind, named in _NORMS.items() if named.fullmatch(name)), "")


def is_norm(name: str) -> bool:
    """Whether a module is a norm by its name, whatever shape its weight has."""
    kind = norm_named(name)
    return bool(kind) and (kind != "Norm" or _ONE_NORM.fullmatch(name[:_LONGEST]) is not None)


def is_bilinear(name: str) -> bool:
    """Whether a module with a stack of matrices is a Bilinear by its name."""
    return _BILINEAR.fullmatch(name[:_LONGEST]) is not None


def is_prelu(name: str) -> bool:
    """Whether a module may be a PReLU by its name."""
    return _PRELU.fullmatch(name[:_LONGEST]) is not None


def is_convolution(name: str) -> bool:
    """Whether a module with a kernel is a plain convolution by its name."""
    return _CONVOLUTION.fullmatch(name[:_LONGEST]) is not None


def is_transposed(name: str) -> bool:
    """Whether a module is a transposed convolution by its name."""
    return _TRANSPOSED.fullmatch(name[:_LONGEST]) is not None


def goes_up(name: str) -> bool:
    """Whether a module with a kernel makes its output larger by its name, or follows what does."""
    return _UP.fullmatch(name[:_LONGEST]) is not None
