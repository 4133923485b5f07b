"""Tell from their names what the files of a folder are.

model.safetensors                           one file of weights
model-00001-of-00002.safetensors            a shard
model.safetensors.index.json                the index of shards
model.fp16.safetensors                      a variant, here and below "fp16"
model.fp16-00001-of-00002.safetensors       (diffusers before 0.31: model-00001-of-00002.fp16)
model.safetensors.index.fp16.json           (diffusers before 0.31: .fp16.index.json)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

INDEX_SUFFIX = ".index.json"
"""How the name of an index of shards ends, unless it is one of a variant."""

LIBRARIES = {
    "model": "transformers",
    "pytorch_model": "transformers",
    "diffusion_pytorch_model": "diffusers",
    "adapter_model": "PEFT",
    "open_clip_model": "open_clip",
    "open_clip_pytorch_model": "open_clip",
    "consolidated": "mistral-inference",
}
"""The libraries that look for weights under these names."""

_OF_NEW = {"pytorch_model": "model", "open_clip_pytorch_model": "open_clip_model"}
"""What is called otherwise where it is a safetensors file."""

PEFT_STEM = "adapter_model"
"""PEFT reads one file alone, however large it is."""

# Texts, which `re` compiles and keeps when the first folder is read: most sources are files.
_KINDS = r"(?P<kind>(?i:safetensors|bin|pth\.tar|pt\.tar|ckpt\.tar|pt|pth|ckpt|th))"

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".th", ".tar")
"""How names of weights end: few do, and this is looked at first."""

_FILE = rf"(?s)(?P<base>.+)\.{_KINDS}"

_SHARD = r"(?s)(?P<base>.+)[-_.](?P<at>[0-9]{1,6})[-_]of[-_](?P<count>[0-9]{1,6})(?:\.(?P<variant>[\w-]+))?"

_INDEX = rf"(?s)(?P<base>.+)\.{_KINDS}(?:\.(?P<old>[\w-]+))?\.index(?:\.(?P<variant>[\w-]+))?\.json"

_ANY_INDEX = r"(?s).*\.index(\.[\w-]+)?\.json"

_LIKE_WEIGHTS = (
    r"(?si)(?:.*[._-])?(?:[a-z]*model|weights?|checkpoint|ckpt|consolidated|best|last|latest|final|ema|"
    r"epoch|step|state_?dict|net|network)(?:[._=\d-].*)?"
)

_TRAINING = (
    r"(optimizer|scheduler|scaler|sampler|dl_state_dict|rng_state|random_states)(_\d+)*"
    r"\.(pt|pth|bin|pkl)"
)

_OF_RANK = r"shard-([0-9]{1,9})-model-[0-9]{1,9}-of-[0-9]{1,9}\.safetensors"
"""What a rank had of a shard, as torch.distributed.checkpoint writes it."""

_ARCHIVES = (".zip", ".npz", ".keras", ".whl", ".jar", ".docx", ".xlsx", ".pptx", ".epub")
"""What starts as an archive of torch does."""

_ARGUMENTS = r"train(ing|er)_args\.(bin|pt)"


# A named tuple: a folder may have a hundred thousand, and dataclasses take four times as long.
class Series(NamedTuple):
    """Files of weights that belong together by their names.

    Attributes:
        stem: how their names start.
        variant: a variant such as "fp16", or "".
        kind: their suffix, without the first dot.
        shards: how many there are in all; 0 for one file.
    """

    stem: str
    variant: str
    kind: str
    shards: int = 0

    @property
    def library(self) -> str:
        """The library that looks for such a name, or ""."""
        return LIBRARIES.get(self.stem, "")

    @property
    def is_like_weights(self) -> bool:
        """Whether a file next to the weights is most likely a second set of them."""
        return self.kind == "safetensors" or re.fullmatch(_LIKE_WEIGHTS, self.stem) is not None

    @property
    def base(self) -> str:
        """How the names start, up to the number of the shard or the suffix."""
        return f"{self.stem}.{self.variant}" if self.variant else self.stem

    @property
    def file(self) -> str:
        """The name of the one file, where there are no shards."""
        return f"{self.base}.{self.kind}"

    @property
    def index_name(self) -> str:
        """The name of the index of shards."""
        variant = f".{self.variant}" if self.variant else ""
        return f"{self.stem}.{self.kind}.index{variant}.json"

    def shard(self, at: int, count: int) -> str:
        """Return the name of a shard, the first one number 1."""
        return f"{self.base}-{at:05d}-of-{count:05d}.{self.kind}"

    @classmethod
    def of_new(cls, name: str) -> Self:
        """Return how new files are called that replace one: as their library calls them.

        Args:
            name: the file of weights that is read, or "".
        """
        old = series_of(name)
        if old is None or not old.library:
            return cls("model", "", "safetensors")
        return cls(_OF_NEW.get(old.stem, old.stem), old.variant, "safetensors")


def series_of(name: str) -> Series | None:
    """Return the series of a file of weights, or None where the name is not one of weights."""
    found = re.fullmatch(_FILE, name) if name.lower().endswith(_SUFFIXES) else None
    if found is None or is_training_state(name) or re.fullmatch(_ARGUMENTS, name):
        return None
    base, kind = found["base"], found["kind"].lower()
    shard = re.fullmatch(_SHARD, base)
    if shard is None:
        return Series(*_with_variant(base), kind)
    stem, variant = _with_variant(shard["base"])
    return Series(stem, variant or shard["variant"] or "", kind, int(shard["count"]))


def shards_in(names: Iterable[str]) -> list[str]:
    """Return the files that several ranks wrote with HuggingFaceStorageWriter, in their order.

    What the first rank wrote alone is whole, and so a Hugging Face folder without an index;
    of another rank alone only its offsets can tell.
    """
    # Text that starts alike is compared first: most folders have no such file.
    found = {name: re.fullmatch(_OF_RANK, name) for name in names if name.startswith("shard-")}
    is_several = any(match is not None and int(match[1]) != 1 for match in found.values())
    return sorted(name for name in found if found[name]) if is_several else []


def shard_number(name: str) -> int:
    """Return the number of a shard, or 0 for a file that is not one."""
    found = re.fullmatch(_FILE, name)
    shard = re.fullmatch(_SHARD, found["base"]) if found else None
    return int(shard["at"]) if shard else 0


def indexed_by(name: str) -> Series | None:
    """Return the series of the shards that an index is for, as far as its name tells."""
    found = re.fullmatch(_INDEX, name)
    if found is None:
        return None
    stem, variant = _with_variant(found["base"])
    variant = variant or found["variant"] or found["old"] or ""
    return Series(stem, variant, found["kind"].lower())


def _with_variant(base: str) -> tuple[str, str]:
    """Take the variant off a name that a library looks for."""
    stem, _, variant = base.partition(".")
    return (stem, variant) if stem in LIBRARIES else (base, "")


def is_index(name: str) -> bool:
    """Whether a file is an index of shards."""
    return name.endswith(".json") and re.fullmatch(_ANY_INDEX, name) is not None


def is_training_state(name: str) -> bool:
    """Whether a file is the state of an optimizer, a scheduler or a random generator."""
    return re.fullmatch(_TRAINING, name) is not None


def is_nameless_weights(name: str) -> bool:
    """Whether a file may be one of weights if its content says so."""
    is_known = is_training_state(name) or re.fullmatch(_ARGUMENTS, name) is not None
    return not is_known and not name.lower().endswith(_ARCHIVES)


def is_plain(name: str) -> bool:
    """Whether an index may name such a file: it lies in the same folder."""
    separators = "/\\\0"
    return (
        name not in ("", ".", "..")
        and not any(char in name for char in separators)
        and not is_index(name)
    )
