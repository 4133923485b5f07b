"""List every kind of folder that is known: what is in it, and what happens with it.

The tests make each of them, and the page on what is read is made from the same table. A
file is written as its name and key say; other names hold a few bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

READ = "read"
REFUSED = "named, with the way on"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of folder.

    Attributes:
        what: it, as people call it.
        weights: the files of weights, each with the keys that it holds.
        others: what else is in it.
        indices: the indices of shards, each for the files with such a start.
        happens: what is done with it.
        reads: the keys that are read; none where it is refused.
        says: what the warning or the error says, in part.
        way: what the hint says, in part.
    """

    what: str
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    indices: dict[str, str] = field(default_factory=dict)
    happens: str = READ
    reads: tuple[str, ...] = ()
    says: str = ""
    way: str = ""


_ONE = ("a.weight",)
_TWO = {
    "model-00001-of-00002.safetensors": ("a.weight",),
    "model-00002-of-00002.safetensors": ("b.weight",),
}
_BIN = {
    "pytorch_model-00001-of-00002.bin": ("a.weight",),
    "pytorch_model-00002-of-00002.bin": ("b.weight",),
}
_BOTH = ("a.weight", "b.weight")

KINDS = (
    Kind(
        "transformers, one file",
        {"model.safetensors": _ONE},
        ("config.json",),
        reads=_ONE,
    ),
    Kind("transformers, one torch file", {"pytorch_model.bin": _ONE}, reads=_ONE),
    Kind(
        "transformers, shards with an index",
        _TWO,
        indices={"model.safetensors.index.json": "model-"},
        reads=_BOTH,
    ),
    Kind(
        "transformers, torch shards with an index",
        _BIN,
        indices={"pytorch_model.bin.index.json": "pytorch_model-"},
        reads=_BOTH,
    ),
    Kind(
        "shards without an index",
        _TWO,
        happens="read; rewritten with --fix-index",
        reads=_BOTH,
        says="it has no index of its shards",
    ),
    Kind(
        "shards and an index that names none of them",
        _TWO,
        ("model.safetensors.index.json",),
        happens="read; rewritten with --fix-index",
        reads=_BOTH,
        says="it has no weight_map, or several",
    ),
    Kind(
        "shards of which one is missing",
        {"model-00001-of-00002.safetensors": _ONE},
        happens="read; rewritten with --fix-index",
        reads=_ONE,
        says="'model-00002-of-00002.safetensors' does not exist",
    ),
    Kind(
        "shards beyond those of the index",
        _TWO,
        indices={"model.safetensors.index.json": "model-00001"},
        happens="read; rewritten with --fix-index",
        reads=_BOTH,
        says="it lacks 'b.weight'",
    ),
    Kind(
        "one file and the index of others",
        {"model.safetensors": _ONE, "model-00001-of-00001.safetensors": ("b.weight",)},
        indices={"model.safetensors.index.json": "model-"},
        happens="the one file is read, as transformers does",
        reads=_ONE,
        says="several sets of weights",
    ),
    Kind(
        "safetensors and torch files",
        {"model.safetensors": _ONE, "pytorch_model.bin": ("b.weight",)},
        happens="safetensors is read, as transformers does",
        reads=_ONE,
        says="several sets of weights",
    ),
    Kind(
        "diffusers, one model",
        {"diffusion_pytorch_model.safetensors": _ONE},
        ("config.json",),
        reads=_ONE,
    ),
    Kind(
        "diffusers, one model and an index",
        {
            "diffusion_pytorch_model.safetensors": _ONE,
            "diffusion_pytorch_model-00001-of-00001.safetensors": ("b.weight",),
        },
        indices={"diffusion_pytorch_model.safetensors.index.json": "diffusion_pytorch_model-"},
        happens="the shards are read, as diffusers does",
        reads=("b.weight",),
        says="several sets of weights",
    ),
    Kind(
        "diffusers, a variant alone",
        {"diffusion_pytorch_model.fp16.safetensors": _ONE},
        reads=_ONE,
    ),
    Kind(
        "PEFT, an adapter",
        {"adapter_model.safetensors": _ONE},
        ("adapter_config.json",),
        reads=_ONE,
    ),
    Kind("one file of any name", {"best.pt": _ONE}, ("args.yaml",), reads=_ONE),
    Kind(
        "one file next to the state of a training",
        {"last.ckpt": _ONE},
        ("optimizer.pt", "scheduler.pt", "training_args.bin"),
        reads=_ONE,
    ),
    Kind(
        "a checkpoint of the Trainer",
        {"model.safetensors": _ONE},
        ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"),
        reads=_ONE,
    ),
    Kind(
        "sentence-transformers, with a component",
        {"model.safetensors": _ONE, "2_Dense/model.safetensors": ("linear.weight",)},
        ("modules.json",),
        reads=_ONE,
    ),
    Kind("one file of any suffix", {"model_best.tar": _ONE}, ("log.txt",), reads=_ONE),
    Kind(
        "open_clip",
        {"open_clip_model.safetensors": _ONE, "open_clip_pytorch_model.bin": ("b.weight",)},
        ("open_clip_config.json",),
        happens="safetensors is read, as open_clip does",
        reads=_ONE,
        says="several sets of weights",
    ),
    Kind(
        "one shard without an index, next to another file",
        {"model-00001-of-00001.safetensors": _ONE, "best.pt": ("b.weight",)},
        happens="the shard is read; rewritten with --fix-index",
        reads=_ONE,
        says="'model-00001-of-00001.safetensors' is read, and not 'best.pt'",
    ),
    Kind(
        "several files of any name",
        {"best.pt": _ONE, "last.pt": _ONE},
        happens=REFUSED,
        says="holds 2 sets of weights: best.pt, last.pt",
        way="reinit keys kind/best.pt or reinit keys kind/last.pt",
    ),
    Kind(
        "two variants",
        {"model.fp16.safetensors": _ONE, "model.ema.safetensors": _ONE},
        happens=REFUSED,
        says="holds 2 sets of weights",
        way="reinit keys kind/model.ema.safetensors",
    ),
    Kind(
        "a diffusers pipeline",
        {
            "unet/diffusion_pytorch_model.safetensors": _ONE,
            "text_encoder/model.safetensors": _ONE,
        },
        ("model_index.json", "scheduler/scheduler_config.json"),
        happens=REFUSED,
        says="is a diffusers pipeline, whose models are",
        way="reinit keys kind/unet",
    ),
    Kind(
        "a pipeline without a model",
        others=("model_index.json",),
        happens=REFUSED,
        says="it has no weights: no index and no .safetensors, .bin or .pt file",
    ),
    Kind(
        "checkpoints of a training, one below the other",
        {"checkpoint-5/model.safetensors": _ONE, "checkpoint-9/model.safetensors": _ONE},
        happens=REFUSED,
        says="holds no weights itself, but there are",
        way="reinit keys kind/checkpoint-9",
    ),
    Kind(
        "DeepSpeed ZeRO",
        {
            "global_step7/zero_pp_rank_0_mp_rank_00_optim_states.pt": _ONE,
            "global_step7/zero_pp_rank_1_mp_rank_00_optim_states.pt": _ONE,
            "global_step7/mp_rank_00_model_states.pt": _ONE,
        },
        ("latest", "zero_to_fp32.py"),
        happens=REFUSED,
        says="a DeepSpeed checkpoint in a part for each process",
        way="python kind/zero_to_fp32.py kind kind-fp32 -t global_step7",
    ),
    Kind(
        "DeepSpeed ZeRO, one step of it",
        {
            "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt": _ONE,
            "mp_rank_00_model_states.pt": _ONE,
        },
        happens=REFUSED,
        says="a DeepSpeed checkpoint in a part for each process",
        way="python -m deepspeed.utils.zero_to_fp32 . ",
    ),
    Kind(
        "DeepSpeed, model-parallel",
        {"mp_rank_00_model_states.pt": _ONE, "mp_rank_01_model_states.pt": _ONE},
        happens=REFUSED,
        says="a DeepSpeed checkpoint in 2 model-parallel parts",
        way="python -m deepspeed.checkpoint.ds_to_universal --input_folder kind",
    ),
    Kind(
        "Megatron, model-parallel",
        {
            "iter_0000100/mp_rank_00/model_optim_rng.pt": _ONE,
            "iter_0000100/mp_rank_01/model_optim_rng.pt": _ONE,
        },
        ("latest_checkpointed_iteration.txt",),
        happens=REFUSED,
        says="a Megatron checkpoint in 2 model-parallel parts",
        way="tools/checkpoint/convert.py of Megatron-LM, with --load-dir kind",
    ),
    Kind(
        "Megatron, one part",
        {"iter_0000100/mp_rank_00/model_optim_rng.pt": _ONE},
        ("latest_checkpointed_iteration.txt",),
        happens=REFUSED,
        says="holds no weights itself, but there are iter_0000100/mp_rank_00",
        way="reinit keys kind/iter_0000100/mp_rank_00",
    ),
    Kind(
        "torch.distributed.checkpoint, whose save did not finish",
        others=("__0_0.distcp", "__1_0.distcp"),
        happens=REFUSED,
        says="its save did not finish: there is no .metadata",
    ),
    Kind(
        "torch.distributed.checkpoint, sharded safetensors",
        {
            "shard-00001-model-00001-of-00001.safetensors": ("a.weight",),
            "shard-00002-model-00001-of-00001.safetensors": ("b.weight",),
        },
        reads=_BOTH,
    ),
    Kind(
        "FSDP, sharded state of accelerate",
        others=(
            "pytorch_model_fsdp_0/.metadata",
            "pytorch_model_fsdp_0/__0_0.distcp",
            "optimizer_0/.metadata",
            "optimizer_0/__0_0.distcp",
            "scheduler.bin",
        ),
        happens=REFUSED,
        says="holds no weights itself, but there are pytorch_model_fsdp_0, optimizer_0",
        way="reinit keys kind/pytorch_model_fsdp_0",
    ),
    Kind(
        "FSDP, local state",
        {"pytorch_model_fsdp_rank0.bin": _ONE, "pytorch_model_fsdp_rank1.bin": _ONE},
        happens=REFUSED,
        says="a checkpoint of FSDP in 2 parts",
        way="StateDictType.FULL_STATE_DICT",
    ),
    Kind(
        "Meta's Llama, model-parallel",
        {"consolidated.00.pth": _ONE, "consolidated.01.pth": _ONE},
        ("params.json",),
        happens=REFUSED,
        says="Meta's Llama in 2 model-parallel parts",
        way="in transformers' layout",
    ),
    Kind(
        "an archive of torch.save, unpacked",
        others=("archive/data.pkl", "archive/data/0", "archive/version"),
        happens=REFUSED,
        says="what an archive of torch.save held, unpacked",
        way="zip -0 -r kind.pt kind",
    ),
    Kind(
        "a TensorFlow model",
        others=("saved_model.pb", "variables/variables.index"),
        happens=REFUSED,
        says="a TensorFlow model",
        way="TensorFlow",
    ),
    Kind(
        "an Orbax checkpoint of JAX",
        others=("_CHECKPOINT_METADATA", "default/manifest.ocdbt"),
        happens=REFUSED,
        says="an Orbax checkpoint",
        way="orbax.checkpoint",
    ),
    Kind(
        "other formats alone",
        others=("model.Q4_K_M.gguf", "README.md"),
        happens=REFUSED,
        says="a folder with a GGUF file",
        way="take the checkpoint that it was made from",
    ),
    Kind(
        "the state of a training alone",
        others=("optimizer.pt", "scheduler.pt"),
        happens=REFUSED,
        says="holds no weights, but what a training left",
        way="reinit keys kind/optimizer.pt",
    ),
    Kind(
        "no weights at all",
        others=("README.md",),
        happens=REFUSED,
        says="it has no weights: no index and no .safetensors, .bin or .pt file",
    ),
)
"""Every kind of folder."""
