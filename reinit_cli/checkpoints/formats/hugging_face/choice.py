"""Choose which files of a folder hold its weights, as the libraries that load them do.

Sources: `_get_resolved_checkpoint_files` in transformers/modeling_utils.py (5.24),
`ModelMixin.from_pretrained` in diffusers/models/modeling_utils.py (0.42), and
`load_peft_weights` in peft/utils/save_and_load.py (0.21).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from reinit_cli.checkpoints.formats.base import Files
from reinit_cli.checkpoints.formats.hugging_face.names import (
    Series,
    indexed_by,
    is_index,
    series_of,
    shard_number,
)
from reinit_cli.checkpoints.formats.strict_json import JsonError, parse_object

_ORDER = (
    ("model", "safetensors", False),
    ("model", "safetensors", True),
    ("pytorch_model", "bin", False),
    ("pytorch_model", "bin", True),
    ("diffusion_pytorch_model", "safetensors", True),
    ("diffusion_pytorch_model", "safetensors", False),
    ("diffusion_pytorch_model", "bin", False),
    ("diffusion_pytorch_model", "bin", True),
    ("adapter_model", "safetensors", False),
    ("adapter_model", "bin", False),
    ("open_clip_model", "safetensors", False),
    ("open_clip_pytorch_model", "bin", False),
)
"""What each library loads first: the stem, the kind, and whether it is the index of shards."""

_RANKS = {each: rank for rank, each in enumerate(_ORDER)}

_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "consolidated")
_STARTS = tuple(f"{stem}{end}" for stem in _STEMS for end in ".-")
"""Names of which one is read whatever its suffix is, where no library would load another."""

_MAX_CONFIG_NBYTES = 2**20


class WeightsSet(NamedTuple):
    """Files that hold all weights together.

    Attributes:
        name: the file that stands for them: the index, or the first file.
        series: what the name says of them.
        files: their names; none where an index has to be asked.
        is_indexed: whether the name is that of an index.
    """

    name: str
    series: Series
    files: tuple[str, ...] = ()
    is_indexed: bool = False

    @classmethod
    def of_file(cls, name: str) -> Self:
        """Return those that are one file, whatever its name."""
        return cls(name, Series(name, "", ""), (name,))

    @classmethod
    def of_index(cls, name: str) -> Self:
        """Return those that an index names."""
        return cls(name, indexed_by(name) or Series(name, "", ""), is_indexed=True)

    @property
    def index_name(self) -> str | None:
        """The name of the index, if there is one."""
        return self.name if self.is_indexed else None

    @property
    def new_index(self) -> str | None:
        """The name that an index of its shards would have; None where there is one file."""
        return self.series.index_name if self.series.shards else None

    @property
    def is_complete(self) -> bool:
        """Whether all shards are there, as far as their names tell."""
        return {shard_number(name) for name in self.files} == {*range(1, self.series.shards + 1)}

    @property
    def rank(self) -> int:
        """Its place among what the libraries load; the last for anything else."""
        return _RANKS.get((self.series.stem, self.series.kind, self.is_indexed), len(_ORDER))


class Sets(NamedTuple):
    """All sets of weights of a folder.

    Attributes:
        indexed: those with an index.
        shards: those of shards, whether or not an index names them.
        lone: those of one file.
        likely: all files that most likely hold weights of the same model, and all indices.
    """

    indexed: tuple[WeightsSet, ...]
    shards: tuple[WeightsSet, ...]
    lone: tuple[WeightsSet, ...]
    likely: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Sets:
        """Find them among the names in a folder."""
        indexed, lone = [], []
        shards: dict[Series, list[str]] = defaultdict(list)
        for name in names:
            series = series_of(name)
            if is_index(name):
                indexed.append(WeightsSet.of_index(name))
            elif series is not None and series.shards:
                shards[series].append(name)
            elif series is not None:
                lone.append(WeightsSet(name, series, (name,)))
        together = tuple(
            WeightsSet(found[0], series, tuple(found))
            for series, found in ((series, sorted(found)) for series, found in shards.items())
        )
        sets = (*together, *(each for each in lone if each.series.is_like_weights))
        likely = {each.name for each in indexed}.union(*(each.files for each in sets))
        return cls(tuple(indexed), together, tuple(lone), frozenset(likely))

    @property
    def names(self) -> list[str]:
        """What stands for each of them; of shards with an index, the index alone."""
        indexed = {(each.series.base, each.series.kind) for each in self.indexed}
        shards = (
            each for each in self.shards if (each.series.base, each.series.kind) not in indexed
        )
        return [each.name for each in (*self.indexed, *shards, *self.lone)]

    @property
    def has_known(self) -> bool:
        """Whether a library loads one of them by its name."""
        return any(each.rank < len(_ORDER) for each in (*self.indexed, *self.lone))

    def chosen(self, files: Files) -> WeightsSet | None:
        """Return the set that the libraries load, or the only one; None where that is not clear.

        Args:
            files: the folder, whose configuration may name the file.
        """
        config = _config(files) if len(self.indexed) + len(self.lone) > 1 else {}
        named = [
            each
            for each in (*self.indexed, *self.lone)
            if each.name == config.get("transformers_weights")
        ]
        if named:
            return named[0]
        known = [each for each in (*self.indexed, *self.lone) if each.rank < len(_ORDER)]
        plain = [each for each in known if not each.series.variant]
        if plain:
            first = _first_library(config, files)
            return min(plain, key=lambda each: _order(each, first))
        if known and len({each.series.variant for each in known}) == 1:
            return min(known, key=lambda each: each.rank)
        if known:
            return None
        if self.indexed:
            return self.indexed[0] if len(self.indexed) == 1 else None
        return self._only_shards() if self.shards else None

    def beside(self, found: WeightsSet) -> tuple[str, ...]:
        """Return the shards that an index is of by its name; none if there are several sets."""
        of = found.series
        sets = [
            each.files
            for each in self.shards
            if (each.series.base, each.series.kind) == (of.base, of.kind)
        ]
        return sets[0] if len(sets) == 1 else ()

    def any_name(self) -> WeightsSet | None:
        """Return the only file of weights, whatever it is called; None if there are several."""
        if self.indexed or self.shards:
            return None
        usual = [
            each
            for each in self.lone
            if each.series.kind == "safetensors" or each.name.startswith(_STARTS)
        ]
        found = usual or self.lone
        return found[0] if len(found) == 1 else None

    def unread(self, index: str | None, read: Iterable[str]) -> list[str]:
        """Return the names of the other sets: their index, or their first file.

        Args:
            index: the index of the set that is read, or None.
            read: its files.
        """
        taken = {*read, index}
        found = {each.name: each.files for each in (*self.indexed, *self.shards, *self.lone)}
        return [name for name in self.names if name not in taken and taken.isdisjoint(found[name])]

    def _only_shards(self) -> WeightsSet | None:
        whole = [each for each in self.shards if each.is_complete]
        found = whole or list(self.shards)
        first = min(found, key=lambda each: (each.series.kind != "safetensors", each.name))
        rivals = [each for each in found if each.series.kind == first.series.kind]
        return first if len(rivals) == 1 else None


def _order(found: WeightsSet, first: str) -> tuple[bool, int]:
    return found.series.library != first, found.rank


def _first_library(config: Mapping[str, object], files: Files) -> str:
    """Return the library whose weights come first where a folder has those of several."""
    if "_class_name" in config or "_diffusers_version" in config:
        return "diffusers"
    is_adapter = "adapter_config.json" in files.readers and "config.json" not in files.readers
    return "PEFT" if is_adapter else "transformers"


def _config(files: Files) -> dict[str, object]:
    """Return the configuration of a model, as far as it can be read."""
    file = files.readers.get("config.json")
    if file is None or "config.json" in files.outside or file.nbytes > _MAX_CONFIG_NBYTES:
        return {}
    try:
        data = file.read(0, file.nbytes).strip(b" \n\t\r")
        return dict(parse_object(data, "it", allows_floats=True))
    except JsonError:
        return {}


def siblings(shards: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the names that are those of further shards of the same series."""
    series = {found for found in map(series_of, shards) if found is not None and found.shards}
    return [name for name in names if name not in shards and series_of(name) in series]
