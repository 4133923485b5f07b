"""Let the configs of a folder follow what becomes of its tensors.

transformers builds a model from `config.json`, and refuses weights of other shapes. What it
says of a tensor that is resized, cast or untied is changed with it; what cannot be known is
a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from reinit_cli.lazy import dataclass
from reinit_cli.planning.change import Change
from reinit_cli.planning.config_sizes import Resized, Sizes
from reinit_cli.planning.counted import is_embedding, is_head
from reinit_cli.planning.json_edit import Edit, Node, adding, edited, objects, parse, replacing
from reinit_cli.planning.plan import Plan
from reinit_cli.planning.tokens import token_notes
from reinit_cli.tensors.dtype import DTYPES, FLOATS
from reinit_cli.tensors.info import TensorInfo, tied_groups

CONFIG = "config.json"
"""What transformers, diffusers and timm build a model from."""

ADAPTER = "adapter_config.json"
"""What PEFT builds an adapter from."""

CONFIGS = (CONFIG, ADAPTER, "generation_config.json")
"""The files that say something about tensors, or numbers of tokens."""

_QUANTIZATION = "quantization_config"

_TIES = "tie_word_embeddings"

_WHOLE = frozenset((_QUANTIZATION, "id2label", "label2id", "task_specific_params"))
"""The objects of a config that are not configs themselves."""

_RUNNABLE = frozenset(("float64", "float32", "float16", "bfloat16"))
"""The dtypes in which transformers builds a model; torch takes no other for its default."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How configs follow.

    Attributes:
        changes: each member that changes.
        texts: for each file that changes, what becomes of it.
        warnings: what cannot be known, or does not fit.
    """

    changes: tuple[Change, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """What becomes of tensors, as far as configs say something about it.

    Attributes:
        resized: those of which a config may count the rows.
        keys: the keys of all tensors.
        dtypes: those of floating tensors after a cast; none where nothing is cast.
        untied: the groups of keys that are no longer one tensor.
    """

    resized: tuple[Resized, ...]
    keys: tuple[str, ...]
    dtypes: tuple[str, ...]
    untied: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, plan: Plan, before: Sequence[TensorInfo]) -> Changed:
        """Return what becomes of tensors.

        Args:
            plan: what happens to them.
            before: those of the source.
        """
        resized = (
            Resized(step.key, step.was[0], step.tensor.shape[0])
            for step in plan.steps
            if step.was is not None and not step.resized_with
            if len(step.was) > 1 and "bias" not in step.key.rpartition(".")[2]
        )
        floats = {step.tensor.dtype for step in plan.steps if _is_float(step.tensor)}
        groups = tied_groups(tuple(before)).values() if plan.request.untie else ()
        return cls(
            tuple(each for each in resized if each.was != each.now),
            tuple(step.key for step in plan.steps),
            tuple(sorted(floats)) if plan.request.dtype else (),
            tuple(dict.fromkeys(groups)),
        )

    @property
    def is_nothing(self) -> bool:
        """Whether no config has to follow."""
        return not (self.resized or self.dtypes or self.untied)


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.fillable_dtype in FLOATS


def follow(texts: Mapping[str, str], changed: Changed) -> Followed:
    """Return how the configs of a folder follow.

    Args:
        texts: its configs, and the files of its tokenizer, by name.
        changed: what becomes of its tensors.
    """
    if changed.is_nothing:
        return Followed()
    nodes, warnings = _parsed(texts)
    if CONFIG not in nodes:
        warnings += _notes_of_adapter(nodes.get(ADAPTER), changed.resized)
        return Followed(warnings=tuple(warnings))
    text, root = texts[CONFIG], nodes[CONFIG]
    following = _Following(text, root)
    warnings += [*following.sizes(changed), *following.dtype(changed), *following.ties(changed)]
    words = [each for each in changed.resized if is_embedding(each.key) or is_head(each.key)]
    warnings += token_notes(texts, nodes, [each for each in words if following.is_of_words(each)])
    new = {CONFIG: edited(text, following.edits)} if following.edits else {}
    return Followed(tuple(following.changes), new, tuple(warnings))


def _parsed(texts: Mapping[str, str]) -> tuple[dict[str, Node], list[str]]:
    """Return what configs hold, and which of them cannot be read."""
    nodes: dict[str, Node] = {}
    notes: list[str] = []
    for name in CONFIGS:
        if name in texts:
            try:
                nodes[name] = parse(texts[name], _WHOLE)
            except ValueError as error:
                notes.append(f"{name} is not read: {error}")
    return nodes, notes


def _notes_of_adapter(node: Node | None, resized: Sequence[Resized]) -> Iterator[str]:
    """Say that the model under an adapter has to have the same shapes."""
    if node is None or not resized:
        return
    base = node.get("base_model_name_or_path")
    named = repr(base) if isinstance(base, str) and base else "its base model"
    for each in resized:
        yield f"{ADAPTER}: {named} has to be built with {each.now} rows in {each.key!r} too"


class _Following:
    """One config, its changes, and the edits that make them."""

    def __init__(self, text: str, root: Node) -> None:
        self._text = text
        self._root = root
        self._sizes: Sizes | None = None
        self.changes: list[Change] = []
        self.edits: list[Edit] = []

    def sizes(self, changed: Changed) -> Iterator[str]:
        """Change what counts rows; yield what is not certain."""
        if not changed.resized:
            return
        self._sizes = sizes = Sizes(CONFIG, self._root, changed.keys)
        for count in sizes.followed(changed.resized):
            for name, value in count.values:
                is_new = name not in (count.node.members or {})
                self.edits.append(
                    (adding if is_new else replacing)(self._text, count.node, name, value)
                )
                self.changes.append(count.change(name))
        yield from sizes.notes

    def is_of_words(self, resized: Resized) -> bool:
        """Whether a resized tensor was found to be of a vocabulary, or of nothing else."""
        return self._sizes is None or self._sizes.kind_of(resized) in ("", "vocabulary")

    def dtype(self, changed: Changed) -> Iterator[str]:
        """Change the dtype of models; yield what is not certain."""
        if not changed.dtypes:
            return
        (wanted, *others) = changed.dtypes
        if isinstance(self._root.get(_QUANTIZATION), dict):
            yield f"{CONFIG}: {_QUANTIZATION} may not fit tensors that are cast"
        for path, node in objects(self._root):
            for name in ("dtype", "torch_dtype"):
                was = node.get(name)
                if not isinstance(was, str) or was.removeprefix("torch.") not in DTYPES:
                    continue
                member = ".".join((*path, name))
                if others or wanted not in _RUNNABLE:
                    yield f"{CONFIG} keeps {member} {was}, and tensors are {' and '.join(changed.dtypes)}"
                elif was.removeprefix("torch.") != wanted:
                    self.changes.append(Change(CONFIG, member, was, wanted))
                    self.edits.append(replacing(self._text, node, name, wanted))

    def ties(self, changed: Changed) -> Iterator[str]:
        """Say that a head is no longer tied; yield what is not certain."""
        if not changed.untied:
            return
        if not any(_is_pair(group) for group in changed.untied):
            for group in changed.untied:
                yield f"{CONFIG} does not say whether {' and '.join(map(repr, group))} are tied"
            return
        said = [each for each in objects(self._root) if _TIES in (each[1].members or {})]
        for path, node in said:
            if node.get(_TIES) is True:
                self.changes.append(Change(CONFIG, ".".join((*path, _TIES)), was=True, now=False))
                self.edits.append(replacing(self._text, node, _TIES, value=False))
        if not said:
            self.changes.append(Change(CONFIG, _TIES, None, now=False))
            self.edits.append(adding(self._text, self._root, _TIES, value=False))


def _is_pair(group: Sequence[str]) -> bool:
    """Whether some keys are an embedding and its head."""
    return any(map(is_head, group)) and any(map(is_embedding, group))
