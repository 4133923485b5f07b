"""Find the members of a config that count the rows of resized tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import NamedTuple

from reinit_cli.lazy import dataclass
from reinit_cli.planning.change import Change
from reinit_cli.planning.counted import (
    LABELS,
    VOCABULARY,
    Counted,
    counted_as,
    is_embedding,
    is_head,
    module_of,
)
from reinit_cli.planning.json_edit import Node, objects

_NUMBERS_OF_LABELS = ("num_labels", "_num_labels", "num_classes")

_DEFAULT_LABELS = 2
"""How many labels a model of transformers has whose config does not say."""

_HALVES = {
    "decoder_vocab_size": ("decoder", "shared", "lm_head"),
    "tgt_vocab_size": ("decoder", "shared"),
    "src_vocab_size": ("encoder", "shared"),
    "text_vocab_size": ("text", "text_model", "text_encoder"),
    "max_source_positions": ("encoder",),
    "max_target_positions": ("decoder",),
}
"""The members that count what is in a part of a model, and the names of such parts."""

_LEAST_ALONE = 10
"""The least number of rows that says by itself what they are of; smaller ones coincide."""

_LABEL = re.compile(r"[0-9]{1,7}")
"""The name of a label in a map of labels."""

MAX_LABELS = 1_000_000
"""The most labels for which a config has names."""

_MOST_NAMED = 3
"""How many members or tensors are named."""


@dataclass(frozen=True, slots=True)
class Resized:
    """A tensor whose rows a config may count.

    Attributes:
        key: its key.
        was, now: its rows.
    """

    key: str
    was: int
    now: int


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows in a config.

    Attributes:
        file: the name of the config.
        path: the names on the way to the object that has it.
        node: that object.
        members: the names of the members that say it.
        was, now: the number.
        kind: what is counted.
    """

    file: str
    path: tuple[str, ...]
    node: Node
    members: tuple[str, ...]
    was: int
    now: int
    kind: Counted

    @property
    def place(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What tells it from other numbers of the config."""
        return self.path, self.members

    @property
    def values(self) -> Iterator[tuple[str, object]]:
        """What its members become."""
        labels: dict[str, str] = {}
        for name in self.members:
            if name == "id2label":
                labels = _labels(self.node.get(name), self.now)
                yield name, labels
            elif name == "label2id":
                yield name, _numbers(self.node.get(name), labels, self.now)
            elif name == "label_names":
                names = list(self.node.get(name))[: self.now]
                yield name, [*names, *(f"LABEL_{at}" for at in range(len(names), self.now))]
            else:
                yield name, self.now

    def change(self, name: str) -> Change:
        """Return the change of a member."""
        was = self.was if name in (self.node.members or {}) else None
        return Change(self.file, ".".join((*self.path, name)), was, self.now)


def _labels(known: object, count: int) -> dict[str, str]:
    """Return the labels that still are, and names for new ones."""
    labels = known if isinstance(known, dict) else {}
    kept = {
        name: label
        for name, label in labels.items()
        if isinstance(label, str) and _LABEL.fullmatch(name) and int(name) < count
    }
    new = (str(at) for at in range(count) if str(at) not in kept)
    return {**kept, **{name: f"LABEL_{name}" for name in new}}


def _numbers(known: object, labels: Mapping[str, str], count: int) -> dict[str, int]:
    """Return the numbers of labels, those that are known in their order."""
    numbers = known if isinstance(known, dict) else {}
    both: dict[str, int] = {
        label: number
        for label, number in numbers.items()
        if isinstance(number, int) and number < count
    }
    taken = set(both.values())
    both |= {label: int(name) for name, label in labels.items() if int(name) not in taken}
    in_order = list(numbers) == sorted(numbers)
    return dict(sorted(both.items())) if in_order else both


class Sizes:
    """The numbers of rows in a config."""

    def __init__(self, file: str, root: Node, keys: Iterable[str]) -> None:
        """Look at a config.

        Args:
            file: its name.
            root: what it holds.
            keys: those of all tensors.
        """
        self._file = file
        self._heads = _named_heads(root)
        self._numbers: dict[int, list[_Member]] = {}
        self._labels: dict[int, list[_Member]] = {}
        stems: set[str] = set()
        for path, node in objects(root):
            stems |= {name.removesuffix("_config") for name in path}
            for name, number in _numbers_in(node):
                self._numbers.setdefault(number, []).append(_Member(path, node, (name,)))
            for count in _counts_of_labels(node, is_root=node is root):
                members = _members_of_labels(node, count)
                self._labels.setdefault(count, []).append(_Member(path, node, members))
        self._parts = _parts(stems, {segment for key in keys for segment in key.split(".")})
        self._telling = {"shared", *chain(*self._parts.values(), *_HALVES.values())}
        self._found: dict[str, str] = {}
        self.notes: list[str] = []

    def kind_of(self, resized: Resized) -> str:
        """Return what the rows of a tensor were found to be of; "" where that is not known."""
        return self._found.get(resized.key, "")

    def followed(self, resized: Sequence[Resized]) -> Iterator[Count]:
        """Yield what changes; `notes` says then what is not certain."""
        alike: dict[object, list[Resized]] = {}
        for each in resized:
            alike.setdefault(self._what_tells(each), []).append(each)
        wanted: dict[object, dict[int, tuple[Count, str]]] = {}
        unknown: list[Resized] = []
        for group in alike.values():
            counts = self._counts_of(group[0])
            for count in counts:
                wanted.setdefault(count.place, {}).setdefault(count.now, (count, group[0].key))
            self._found |= {each.key: counts[0].kind.what for each in group if counts}
            unknown += group if not counts else ()
        for choices in wanted.values():
            (count, key), *others = choices.values()
            if others:
                other, other_key = others[0]
                self.notes.append(
                    f"{self._file} keeps {count.members[0]} {count.was}: "
                    f"{key!r} needs {count.now}, and {other_key!r} {other.now}"
                )
            else:
                yield count
        self.notes += self._notes_of(unknown)

    def _what_tells(self, resized: Resized) -> object:
        """Return all of a tensor that says which numbers count its rows."""
        key = resized.key
        telling = frozenset(self._telling.intersection(key.split(".")))
        return resized.was, resized.now, self._kinds(key), telling, is_embedding(key), is_head(key)

    def _kinds(self, key: str) -> tuple[Counted, ...]:
        return (LABELS,) if ".".join(module_of(key)) in self._heads else counted_as(key)

    def _counts_of(self, resized: Resized) -> list[Count]:
        """Return the numbers that surely count the rows of a tensor."""
        kinds = self._kinds(resized.key)
        if not kinds:
            return self._alone(resized)
        by_kind = [self._of_kind(kind, resized) for kind in kinds]
        found = [counts for counts in by_kind if counts]
        return found[0] if len(found) == 1 else []

    def _of_kind(self, kind: Counted, resized: Resized) -> list[Count]:
        """Return the numbers of a kind that count a tensor's rows."""
        for extra in kind.extra:
            counts = list(self._counting(kind, resized, extra))
            if counts:
                return counts
        return []

    def _counting(self, kind: Counted, resized: Resized, extra: int) -> Iterator[Count]:
        was, now, key = resized.was - extra, resized.now - extra, resized.key
        if kind is LABELS:
            found = self._labels.get(was, []) if 0 < now <= MAX_LABELS else []
        else:
            found = [
                each
                for each in self._numbers.get(was, [])
                if each.names[0] in kind.members and _counts(each.names[0], key)
            ]
        own = set(key.split("."))
        found = [each for each in found if self._is_of(each.path, own)]
        special = {each.path for each in found if each.names[0] in _HALVES}
        for path, node, names in found:
            if path not in special or names[0] in _HALVES or "shared" in own:
                yield Count(self._file, path, node, names, was, now, kind)

    def _is_of(self, path: tuple[str, ...], own: AbstractSet[str]) -> bool:
        """Whether a config within the config may be of the part that a tensor is in."""
        parts = (self._parts[name.removesuffix("_config")] for name in path)
        return all(not part or not part.isdisjoint(own) for part in parts)

    def _alone(self, resized: Resized) -> list[Count]:
        """Return the number that counts a tensor of any name, where no other is the same."""
        if resized.was < _LEAST_ALONE:
            return []
        kinds = [list(self._counting(kind, resized, 0)) for kind in (VOCABULARY, LABELS)]
        found = [counts for counts in kinds if counts]
        said = {name for counts in found for count in counts for name in count.members}
        others = [name for each in self._numbers.get(resized.was, []) for name in each.names]
        return found[0] if len(found) == 1 and said.issuperset(others) else []

    def _notes_of(self, unknown: Sequence[Resized]) -> Iterator[str]:
        """Say which tensors are resized without a change of the config."""
        by_rows: dict[tuple[int, int], list[str]] = {}
        for each in unknown:
            by_rows.setdefault((each.was, each.now), []).append(each.key)
        for (was, now), keys in by_rows.items():
            same = [".".join((*path, *names)) for path, _, names in self._numbers.get(was, [])]
            more = f" and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
            named = ", ".join(map(repr, keys[:_MOST_NAMED])) + more
            have = "has" if len(keys) == 1 else "have"
            what = f"keeps {', '.join(same[:_MOST_NAMED])} {was}" if same else "is left as it is"
            yield f"{self._file} {what}, and {named} now {have} {now} rows"


class _Member(NamedTuple):
    """Members of an object in a config that say one number."""

    path: tuple[str, ...]
    node: Node
    names: tuple[str, ...]


def _numbers_in(node: Node) -> Iterator[tuple[str, int]]:
    """Yield the numbers of an object and of lists in it, but for those that number something."""
    for name, member in (node.members or {}).items():
        if not name.endswith(("_id", "_ids", "_index", "_token")):
            values = member.value if isinstance(member.value, list) else [member.value]
            yield from ((name, each) for each in dict.fromkeys(_integers(values)))


def _integers(values: Iterable[object]) -> Iterator[int]:
    return (each for each in values if isinstance(each, int) and not isinstance(each, bool))


def _parts(stems: Iterable[str], segments: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return for each name of a config within a config the parts of the model that it is of."""
    parts: dict[str, set[str]] = {stem: set() for stem in stems}
    for segment in segments:
        words = segment.split("_")
        for at in range(1, len(words) + 1):
            stem = "_".join(words[:at])
            if stem in parts:
                parts[stem].add(segment)
    return {stem: frozenset(found) for stem, found in parts.items()}


def _counts(name: str, key: str) -> bool:
    """Whether a member may count the rows of a tensor, by what it says of a part of the model."""
    if name == "input_vocab_size":
        return is_embedding(key)
    if name == "output_vocab_size":
        return is_head(key)
    return name not in _HALVES or not set(_HALVES[name]).isdisjoint(key.split("."))


def _counts_of_labels(node: Node, *, is_root: bool) -> Iterator[int]:
    """Yield the numbers of labels that an object says, or that it has by default."""
    labels = node.get("id2label")
    said = [len(labels)] if isinstance(labels, dict) else []
    said += _integers(node.get(name) for name in _NUMBERS_OF_LABELS)
    says = any(node.get(name) is not None for name in ("id2label", *_NUMBERS_OF_LABELS))
    if is_root and not says and isinstance(node.get("architectures"), list):
        said.append(_DEFAULT_LABELS)
    yield from dict.fromkeys(said)


def _members_of_labels(node: Node, count: int) -> tuple[str, ...]:
    """Return the members that say that there are so many labels, or that are to say it."""
    labels, names = node.get("id2label"), node.get("label_names")
    members = [name for name in _NUMBERS_OF_LABELS if count in _integers([node.get(name)])]
    if isinstance(labels, dict) and len(labels) == count:
        has_numbers = isinstance(node.get("label2id"), dict)
        members = ["id2label", *(["label2id"] if has_numbers else []), *members]
    if members and isinstance(names, list) and len(names) == count:
        members.append("label_names")
    return tuple(members) or ("id2label", "label2id")


def _named_heads(root: Node) -> frozenset[str]:
    """Return the modules that a config of timm names as its heads."""
    within = (root.members or {}).get("pretrained_cfg")
    named = within.get("classifier") if within is not None else None
    names = named if isinstance(named, list) else [named]
    return frozenset(each for each in names if isinstance(each, str))
