"""Find the members of a config that count the rows of resized tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reinit_cli.planning.counted import (
    COUNTED,
    LABELS,
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

_LABEL = re.compile(r"[0-9]{1,7}")
"""The name of a label in a map of labels."""

_MOST_LABELS = 1_000_000
"""The most labels for which a config has names."""

_MOST_NAMED = 3
"""How many members or tensors are named."""


@dataclass(frozen=True, slots=True)
class Change:
    """A member of a config that changes.

    Attributes:
        file: the name of the config.
        member: its path, with dots.
        was, now: its values; of labels how many there are. It was None where it is added.
    """

    file: str
    member: str
    was: object
    now: object

    def __str__(self) -> str:
        """Say it as a table has it."""
        now = _shown(self.now)
        return (
            f"{self.member} {_shown(self.was)} → {now}"
            if self.was is not None
            else (f"{self.member} {now} (added)")
        )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        self._nodes = list(objects(root))
        self._root = root
        self._segments = {segment for key in keys for segment in key.split(".")}
        self._heads = _named_heads(root)
        self._found: dict[str, str] = {}
        self.notes: list[str] = []

    def kind_of(self, resized: Resized) -> str:
        """Return what the rows of a tensor were found to be of; "" where that is not known."""
        return self._found.get(resized.key, "")

    def followed(self, resized: Sequence[Resized]) -> Iterator[Count]:
        """Yield what changes; `notes` says then what is not certain."""
        wanted: dict[object, dict[int, tuple[Count, str]]] = {}
        unknown: list[Resized] = []
        for each in resized:
            counts = self._counts_of(each)
            for count in counts:
                wanted.setdefault(count.place, {}).setdefault(count.now, (count, each.key))
                self._found[each.key] = count.kind.what
            if not counts:
                unknown.append(each)
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

    def _counts_of(self, resized: Resized) -> list[Count]:
        """Return the numbers that surely count the rows of a tensor."""
        kinds = counted_as(resized.key)
        if ".".join(module_of(resized.key)) in self._heads:
            kinds = (LABELS,)
        if not kinds:
            return self._alone(resized)
        by_kind = {kind.what: self._of_kind(kind, resized) for kind in kinds}
        found = [counts for counts in by_kind.values() if counts]
        return found[0] if len(found) == 1 else []

    def _of_kind(self, kind: Counted, resized: Resized) -> list[Count]:
        """Return the numbers of a kind that count a tensor's rows."""
        for extra in kind.extra:
            counts = [
                each
                for path, node in self._nodes
                if self._is_of(path, resized.key)
                for each in self._in(path, node, kind, resized, extra)
            ]
            if counts:
                return counts
        return []

    def _in(
        self, path: tuple[str, ...], node: Node, kind: Counted, resized: Resized, extra: int
    ) -> list[Count]:
        was, now = resized.was - extra, resized.now - extra
        if kind is LABELS:
            members = _members_of_labels(node, was, is_root=node is self._root)
            members = members if 0 < now <= _MOST_LABELS else ()
            return [Count(self._file, path, node, members, was, now, kind)] if members else []
        names = [name for name in kind.members if _is_number(node.get(name), was)]
        fitting = [name for name in names if _counts(name, resized.key)]
        special = [name for name in fitting if name in _HALVES]
        if special and "shared" not in resized.key.split("."):
            fitting = special
        return [Count(self._file, path, node, (name,), was, now, kind) for name in fitting]

    def _is_of(self, path: tuple[str, ...], key: str) -> bool:
        """Whether a config within the config may be of the part that a tensor is in."""
        own = set(key.split("."))
        for name in path:
            stem = name.removesuffix("_config")
            parts = {each for each in self._segments if each == stem or each.startswith(f"{stem}_")}
            if parts and not parts & own:
                return False
        return True

    def _alone(self, resized: Resized) -> list[Count]:
        """Return the number that counts a tensor of any name, where no other is the same."""
        counts = [
            count
            for kind in COUNTED
            for path, node in self._nodes
            if self._is_of(path, resized.key)
            for count in self._in(path, node, kind, resized, 0)
            if all(name in (node.members or {}) for name in count.members)
        ]
        kinds = {count.kind.what for count in counts}
        said = {name for count in counts for name in count.members}
        others = [name for name in self._same(resized.was) if name.rpartition(".")[2] not in said]
        return counts if len(kinds) == 1 and not others else []

    def _same(self, number: int) -> list[str]:
        """Return the members that are a number, but for those that number something."""
        return [
            ".".join((*path, name))
            for path, node in self._nodes
            for name, member in (node.members or {}).items()
            if not _numbers_something(name)
            if _is_number(member.value, number)
            or (isinstance(member.value, list) and number in member.value)
        ]

    def _notes_of(self, unknown: Sequence[Resized]) -> Iterator[str]:
        """Say which tensors are resized without a change of the config."""
        by_rows: dict[tuple[int, int], list[str]] = {}
        for each in unknown:
            by_rows.setdefault((each.was, each.now), []).append(each.key)
        for (was, now), keys in by_rows.items():
            same = self._same(was)
            more = f" and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
            named = ", ".join(map(repr, keys[:_MOST_NAMED])) + more
            have = "has" if len(keys) == 1 else "have"
            what = f"keeps {', '.join(same[:_MOST_NAMED])} {was}" if same else "is left as it is"
            yield f"{self._file} {what}, and {named} now {have} {now} rows"


def _numbers_something(name: str) -> bool:
    return name.endswith(("_id", "_ids", "_index", "_token"))


def _is_number(value: object, number: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == number


def _counts(name: str, key: str) -> bool:
    """Whether a member may count the rows of a tensor, by what it says of a part of the model."""
    if name == "input_vocab_size":
        return is_embedding(key)
    if name == "output_vocab_size":
        return is_head(key)
    return name not in _HALVES or not set(_HALVES[name]).isdisjoint(key.split("."))


def _members_of_labels(node: Node, count: int, *, is_root: bool) -> tuple[str, ...]:
    """Return the members that say how many labels there are, if they are so many."""
    labels = node.get("id2label")
    numbers = [name for name in _NUMBERS_OF_LABELS if _is_number(node.get(name), count)]
    has_labels = isinstance(labels, dict) and len(labels) == count
    members = [*(["id2label"] if has_labels else []), *numbers]
    if isinstance(node.get("label2id"), dict) and has_labels:
        members.insert(1, "label2id")
    names = node.get("label_names")
    if members and isinstance(names, list) and len(names) == count:
        members.append("label_names")
    says = any(node.get(name) is not None for name in ("id2label", *_NUMBERS_OF_LABELS))
    is_default = is_root and not says and count == _DEFAULT_LABELS
    if is_default and isinstance(node.get("architectures"), list):
        return ("id2label", "label2id")
    return tuple(members)


def _named_heads(root: Node) -> frozenset[str]:
    """Return the modules that a config of timm names as its heads."""
    within = (root.members or {}).get("pretrained_cfg")
    named = within.get("classifier") if within is not None else None
    names = named if isinstance(named, list) else [named]
    return frozenset(each for each in names if isinstance(each, str))
