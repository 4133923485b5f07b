"""Define a plan: what happens to every key."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from reinit_cli.initializers import Constant, Fans, Init, Law, Normal, Statistic, Transform, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.lazy import dataclass
from reinit_cli.planning.change import Change
from reinit_cli.request.part import Part, Ranges
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.streams.stream import seed_form
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.optimizer import NewNumber
from reinit_cli.text import Field, html_section, html_table, html_text, named, plural
from reinit_cli.text import shape as dims

Action = Literal["fill", "keep", "skip", "copy", "resize"]
"""fill: drawn; keep: left alone by a rule; skip: not fillable by a wildcard; copy: no rule;
resize: what fits is kept, and new rows are filled."""


LEAST_NUMEL = 100
"""The fewest elements of a tensor whose statistics are tested."""


Overflow = Literal["error", "largest", "rounded"]
"""What becomes of numbers that are drawn and that a dtype does not have."""


KEEP_ZEROS = "keep_zeros"
"""The name under which records have the version of how zeros are kept."""

KEEP_ZEROS_VERSION = 2
"""In 2 a zero keeps its sign, and transforms move and measure only what is not zero."""


FALSE_ALARMS = 1e-9
"""The highest probability that a run with correct draws fails a test."""


INDEPENDENT = (Constant, Uniform, Normal, TruncatedNormal)
"""The laws by which all elements are alike and independent, so that any of them follow the law."""


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """What happens to one key.

    Attributes:
        tensor: facts about the tensor: its key, dtype, shape and size.
        action: the action for this key.
        rule: the position of the rule that decides, or None.
        reason: why it is skipped, or "".
        law: the distribution that fills it, or None.
        seed_key: the key under which it is drawn: its own, or the first of its ties.
        stream_key: the key whose stream it is drawn from, where that is neither; otherwise "".
        law_key: the key that its law is of, where that is another of its ties; otherwise "".
        needs_arch: whether the code of its layer says how it starts, and names tell it otherwise.
        seed: the seed of that stream.
        stream: the exact name of the stream that it is the seed of, or "".
        tied: the other keys of the same tensor.
        keeps_zeros: whether zeros stay zero.
        zeros_version: the version of how they do.
        overflow: what becomes of numbers that are too large for its dtype: an error, the largest
            that it has, or what rounding gives.
        init: the initializer that fills it, or None.
        was: the shape before, if it changes.
        kept_rows: how many rows are kept, if it is resized.
        first_element: the index of its first element in the tensor that it is the new rows of.
        fans: the fans that its initializer uses, if it is filled and has them.
        head: the key of the new classification head that it belongs to, or "".
        source_key: its key in the source, if it is renamed, or None.
        resized_with: the key of the weight whose bias it is and that it is resized with, or "".
        norm_of: the key of the weight whose norms fill it (of ties, the first), or "".
        patches: what rules do with parts of the tensor, in their order: the last that covers an
            element decides. Everything above is about the rest.
        part: the part of a tensor that it is about, or None.
        ranges: the elements of this part in each dimension of the tensor.
        mask_key: the key of the mask that says which of them, in its own checkpoint, or "".
        layer: the layer that its tensor is of, where that decides anything; otherwise None.
        is_partial: whether it is about some elements of a tensor, whose others may be decided
            by other steps.
    """

    tensor: TensorInfo
    action: Action
    rule: int | None = None
    reason: str = ""
    law: Law | None = None
    seed_key: str = ""
    stream_key: str = ""
    law_key: str = ""
    needs_arch: bool = False
    seed: int = 0
    stream: str = ""
    tied: tuple[str, ...] = ()
    keeps_zeros: bool = False
    zeros_version: int = KEEP_ZEROS_VERSION
    overflow: Overflow = "error"
    init: Init | None = None
    was: tuple[int, ...] | None = None
    kept_rows: int = 0
    first_element: int = 0
    fans: Fans | None = None
    head: str = ""
    source_key: str | None = None
    resized_with: str = ""
    norm_of: str = ""
    patches: tuple[Step, ...] = ()
    part: Part | None = None
    ranges: Ranges = ()
    mask_key: str = ""
    layer: Layer | None = None
    is_partial: bool = False

    def __repr__(self) -> str:
        """Show what happens to which key."""
        how = f" with {named(str(self.init))}" if self.init is not None else ""
        return f"<Step {named(self.key)}: {self.action}{how}>"

    @property
    def shares(self) -> tuple[Step, ...]:
        """The step of each part of its tensor, and before them that of the rest; or itself."""
        if not self.patches:
            return (self,)
        return (replace(self, patches=(), is_partial=True), *self.patches)

    @property
    def draws(self) -> tuple[Step, ...]:
        """Those of its shares that are filled."""
        return tuple(share for share in self.shares if share.action == "fill")

    @property
    def is_filled(self) -> bool:
        """Whether any of its tensor is filled."""
        return self.action == "fill" or any(each.action == "fill" for each in self.patches)

    @property
    def origin(self) -> str:
        """The key in the source."""
        return self.key if self.source_key is None else self.source_key

    @property
    def key(self) -> str:
        """The state_dict key."""
        return self.tensor.key

    @property
    def whole_key(self) -> str:
        """The key of its tensor, of which it may be a part."""
        return self.key if self.part is None else self.key.removesuffix(str(self.part))

    @property
    def seed_form(self) -> int | str:
        """The seed of its stream as JSON and people see it."""
        return seed_form(self.seed, self.stream) if self.stream else self.seed

    @property
    def axis(self) -> int:
        """The resized dimension: the first, or the second if there is only one row."""
        shape = self.tensor.shape
        if self.was is None:  # as a record has it, which says where new rows start
            return int(shape[:1] == (1,) and len(shape) > 1)
        changes = (at for at, dim in enumerate(shape) if dim != self.was[at])
        return next(changes, 0)

    @property
    def shape_of_kept_rows(self) -> tuple[int, ...]:
        """The shape of the rows that are kept."""
        return self._shape_with(self.kept_rows)

    @property
    def shape_of_new_rows(self) -> tuple[int, ...]:
        """The shape of the new rows, if it is resized."""
        return self._shape_with(self.tensor.shape[self.axis] - self.kept_rows)

    def _shape_with(self, count: int) -> tuple[int, ...]:
        shape, axis = self.tensor.shape, self.axis
        return (*shape[:axis], count, *shape[axis + 1 :])

    @property
    def donor_key(self) -> str:
        """The key in another checkpoint that it is copied from, if it differs; or ""."""
        return self.law.donor_key if isinstance(self.law, Transform) else ""

    @property
    def drawn_from(self) -> str:
        """The key whose stream it is drawn from; for norms, the key of their weight."""
        return self.stream_key or self.norm_of or self.seed_key

    @property
    def drawn_as(self) -> str:
        """The key under which its draw is reported: of ties, the first."""
        return self.seed_key or self.key

    @property
    def is_repeated(self) -> bool:
        """Whether its tensor is already counted under the first of its ties."""
        return bool(self.tied) and self.key != min((self.key, *self.tied))

    @property
    def follows(self) -> Law | None:
        """The distribution of all of its elements, if known in advance."""
        is_drawn = self.action == "fill" and not self.keeps_zeros and not self.norm_of
        is_known = is_drawn and not isinstance(self.law, Transform)
        return self.law if is_known else None

    @property
    def bound(self) -> float | None:
        """The upper bound of its distribution, if it is random and has one."""
        is_bounded = self.law is not None and self.law.is_random and self.law.high < math.inf
        return self.law.high if self.law is not None and is_bounded else None

    @property
    def gain(self) -> float | None:
        """The gain of its initializer, if it is filled and has one."""
        return self.init.gain if self.init is not None and self.action == "fill" else None

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The statistics of its draw to test."""
        law = self.follows
        is_testable = law is not None and law.is_random and law.std > 0
        if self.is_partial and not isinstance(law, INDEPENDENT):
            return ()
        enough = self.tensor.numel >= LEAST_NUMEL
        return law.statistics if law is not None and is_testable and enough else ()


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """The plan of a run: one step for every key, in the order of the source.

    Attributes:
        source: the name of the source, for people.
        rules: the rules in order; the last matching rule wins.
        steps: one for each key of the output.
        shadowed: for each rule, how many of its matches a later rule takes.
        request: the request, with a device that this machine has.
        warnings: the warnings, one line each.
        slots: one for each tensor of optimizer state that is reset.
        heads: the keys of a new classification head, filled by its model's default unless a
            rule says otherwise.
        config: the fields of a folder's configs that are updated to match the tensors.
        dropped: the keys of the source that are left out.
        numbers: the numbers of optimizer state that are reset.
        forgotten: the keys of optimizer state that are removed, because a new optimizer has none.
    """

    source: str
    rules: tuple[Rule, ...]
    steps: tuple[Step, ...]
    shadowed: tuple[int, ...]
    request: Request
    warnings: tuple[str, ...] = ()
    slots: tuple[Step, ...] = ()
    heads: tuple[str, ...] = ()
    config: tuple[Change, ...] = ()
    dropped: tuple[str, ...] = ()
    numbers: tuple[NewNumber, ...] = ()
    forgotten: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show how much of what is filled."""
        warned = f", {plural(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<Plan for {named(self.source)}: {self.summary}{warned}>"

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return self.as_html(f"Plan for {self.source}: {self.summary}")

    def as_html(self, title: str, stds: Mapping[str, float] = MappingProxyType({})) -> str:
        """Return it as a table of its rules, one of what is filled, and its warnings.

        Args:
            title: what it is called.
            stds: for keys that were drawn, the standard deviations of the draws.
        """
        rules = zip(self.rules, self.by_rule(), strict=True)
        columns = ("pattern", "initializer", "tensors", "parameters", "notes")
        page = html_table(columns, [_rule_row(rule, steps) for rule, steps in rules])
        if self.draws:
            of_fill = ("key", "shape", "dtype", "initializer", "expected std", "std")
            filled = html_table(of_fill, [_fill_row(step, stds) for step in self.draws])
            is_short = len(self.draws) <= _SHORT
            page += html_section(f"{plural(len(self.fills), 'tensor')}", filled, is_open=is_short)
        warnings = "".join(f"<p>{html_text(f'warning: {each}')}</p>" for each in self.warnings)
        return html_section(title, warnings + page)

    @property
    def summary(self) -> str:
        """How many of its tensors are filled, by how many rules."""
        filled = sum(step.is_filled for step in self.steps)
        return (
            f"{filled:,} of {plural(len(self.steps), 'tensor')} filled "
            f"by {plural(len(self.rules), 'rule')}"
        )

    @property
    def fills(self) -> tuple[Step, ...]:
        """The steps that fill a tensor, once per tensor: of ties, the one that names the stream."""
        return tuple(step for step in self.steps if step.is_filled and step.key == step.seed_key)

    @property
    def draws(self) -> tuple[Step, ...]:
        """What is drawn: each tensor that is filled, or the parts of it that are, each once."""
        return tuple(draw for step in self.fills for draw in step.draws)

    @property
    def taken(self) -> Mapping[str, Collection[str]]:
        """The keys of the tensors that are taken from each other checkpoint."""
        taken: dict[str, set[str]] = {}
        for draw in self.draws:
            if isinstance(draw.law, Transform) and draw.law.donor is not None:
                taken.setdefault(draw.law.donor, set()).add(draw.law.donor_key or draw.key)
        return taken

    @property
    def least_p(self) -> float:
        """The threshold p of each test: `FALSE_ALARMS` divided by their number (Bonferroni)."""
        return FALSE_ALARMS / max(1, sum(len(step.statistics) for step in self.draws))

    def by_rule(self) -> list[list[Step]]:
        """Return, for each rule, the steps that it owns."""
        owned: list[list[Step]] = [[] for _ in self.rules]
        for step in self.steps:
            for share in step.shares:
                if share.rule is not None:
                    owned[share.rule].append(share)
        return owned


_SHORT = 20
"""The most tensors that a notebook shows unasked."""


def _rule_row(rule: Rule, steps: Sequence[Step]) -> tuple[Field, ...]:
    taken = [step for step in steps if step.action in ("fill", "keep") and not step.is_repeated]
    skipped = [step.reason for step in steps if step.action == "skip"]
    notes = f"{len(skipped):,} skipped: {'; '.join(dict.fromkeys(skipped))}" if skipped else ""
    numel = sum(step.tensor.numel for step in taken)
    count = len({step.whole_key for step in taken})
    return rule.match, str(rule.init), count, numel, notes


def _fill_row(step: Step, stds: Mapping[str, float]) -> tuple[Field, ...]:
    expected = step.follows.std if step.follows is not None else None
    named = (step.key, dims(step.tensor.shape), step.tensor.dtype, str(step.init))
    return (*named, expected, stds.get(step.key))
