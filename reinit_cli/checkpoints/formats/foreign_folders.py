"""Name folders of which no one set of weights is read for what they are.

Training writes shards that fit a number of processes, and a program of its own puts them
together. A pipeline has a folder for each model. Others hold several checkpoints, and only
the user knows which is meant.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from reinit_cli.checkpoints.formats.foreign import Foreign, foreign_suffix, refused
from reinit_cli.checkpoints.formats.hugging_face.choice import Sets
from reinit_cli.checkpoints.formats.hugging_face.names import (
    is_training_state,
    series_of,
    shards_in,
)
from reinit_cli.errors import ReinitError, UnreadableSourceError, UnsupportedFormatError
from reinit_cli.text import natural, plural

_MOST_NAMED = 10
"""How many of the files that could be meant are named."""

_ZERO = r"(global_step[^/]*/)?(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_\w+\.pt"
_MEGATRON = r"(iter_\d+/|release/)?mp_rank_\d+(_\d+)*/(model_optim_rng|model_rng|distrib_optim)\.pt"


class _Kind(NamedTuple):
    """A kind of folder that another program reads.

    Attributes:
        names: a pattern of the names of its files.
        what: it, with its article.
        way: the way on, as the command line knows it.
        at_least: how many files have such names.
        is_by_folder: whether the way on names the folder that they lie in.
        script: the program that converts them, where it lies next to them.
    """

    names: str
    what: str
    way: str
    at_least: int = 1
    is_by_folder: bool = False
    script: str = ""

    def found(self, names: Collection[str]) -> Foreign | None:
        """Return what a folder is, if its names say so."""
        own = sorted(name for name in names if re.fullmatch(self.names, name))
        if len(own) < self.at_least:
            return None
        folder = (os.path.dirname(own[0]),) if self.is_by_folder else ()
        script = (self.script,) if self.script in names else ()
        return Foreign(self.what.format(len(own)), self.way, (*folder, *script))


KINDS = (
    _Kind(
        _ZERO,
        "a DeepSpeed checkpoint in a part for each process",
        "deepspeed",
        is_by_folder=True,
        script="zero_to_fp32.py",
    ),
    _Kind(
        r"(global_step[^/]*/)?mp_rank_\d+_model_states\.pt",
        "a DeepSpeed checkpoint in {} model-parallel parts",
        "deepspeed-parallel",
        2,
    ),
    _Kind(_MEGATRON, "a Megatron checkpoint in {} model-parallel parts", "megatron", 2),
    _Kind(
        r"\w*_rank_?\d+\.(bin|pt|pth)",
        "a checkpoint of FSDP in {} parts, which only as many processes load",
        "fsdp-local",
        2,
    ),
    _Kind(
        r"consolidated\.\d+\.pth",
        "a checkpoint of Meta's Llama in {} model-parallel parts",
        "llama",
        2,
    ),
    _Kind(r"([^/]+/)?data\.pkl", "what an archive of torch.save held, unpacked", "unpacked"),
    _Kind(r"saved_model\.pb|[^/]*\.ckpt(-\d+)?\.index", "a TensorFlow model", "tensorflow"),
    _Kind(r"(_CHECKPOINT_METADATA|(default/)?manifest\.ocdbt)", "an Orbax checkpoint", "orbax"),
)
"""The folders that other programs read, in the order in which they are tried."""


def foreign_folder(names: Iterable[str]) -> Foreign | None:
    """Return what a folder is that another program has to convert, if its names say so."""
    names = frozenset(names)
    return next(filter(None, (kind.found(names) for kind in KINDS)), None)


def unclear(path: str, names: Iterable[str], found: Sequence[str]) -> ReinitError:
    """Return the error for a folder in which no one set of weights is meant.

    Args:
        path: the folder.
        names: those of all files in it and below.
        found: what in it could be meant.
    """
    names, found = tuple(names), sorted(found, key=natural)
    top = [name for name in names if os.sep not in name]
    below = _below(names)
    models = [*found, *below]
    if "model_index.json" in top and models:
        return _several(path, "is a diffusers pipeline, whose models are", models)
    other = foreign_folder(names)
    if other is not None:
        return refused(path, other)
    if found:
        return _several(path, f"holds {plural(len(found), 'set')} of weights:", found)
    if below:
        return _several(path, "holds no weights itself, but there are", below)
    states = [name for name in names if is_training_state(name)]
    if states:
        return _several(path, "holds no weights, but what a training left:", states)
    suffixes = filter(None, map(foreign_suffix, top))
    other = next(suffixes, None)
    if other is not None:
        return refused(path, Foreign(f"a folder with {other.what}", other.way))
    return UnreadableSourceError(
        path, "it has no weights: no index and no .safetensors, .bin or .pt file"
    )


def _several(path: str, problem: str, found: Sequence[str]) -> UnsupportedFormatError:
    more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    named = ", ".join(found[:_MOST_NAMED]) + more
    paths = [os.path.join(path, name) for name in found[:_MOST_NAMED]]
    return UnsupportedFormatError(path, f"{problem} {named}", paths, kind="several")


def _below(names: Iterable[str]) -> list[str]:
    """Return the folders below that can be named as sources, and of others their files."""
    inside: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, own = os.path.split(name)
        if folder and (series_of(own) or own.endswith((".index.json", ".distcp"))):
            inside[folder].append(own)
    # A system lists folders in any order; those of optimizers are meant least.
    folders = sorted(inside, key=lambda folder: ("optim" in folder.lower(), natural(folder)))
    return [each for folder in folders for each in _readable(folder, inside[folder])]


def _readable(folder: str, own: Sequence[str]) -> list[str]:
    sets = Sets.of(own)
    is_clear = len(sets.names) <= 1 or sets.has_known or bool(shards_in(own))
    return [folder] if is_clear else [os.path.join(folder, name) for name in sets.names]
