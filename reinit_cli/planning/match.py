"""Match rules against keys, with ties settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.owner import Owner
from reinit_cli.planning.parts import Owners, refuse_ambiguous, settled_parts
from reinit_cli.planning.units import HeadCounts, parts_meant
from reinit_cli.request.pattern import KeyIndex, Missed, Pattern
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import quoted


@dataclass(frozen=True, slots=True)
class Matches:
    """The result of matching rules against keys.

    Attributes:
        owners: the owner of each key, with ties settled.
        named: for each rule, how many keys its pattern matches.
        counts: for each rule, how many of them have the dimensions that it asks for.
        shadowed: for each rule, how many of them a later one decides.
        parts: the owners of parts of tensors, with ties settled.
        missed: for each rule for a kind of layer that there is not, what there is.
    """

    owners: Mapping[str, Owner | None]
    named: tuple[int, ...]
    counts: tuple[int, ...]
    shadowed: tuple[int, ...]
    parts: Owners = field(default_factory=dict)
    missed: Mapping[int, Missed] = field(default_factory=dict)


def match(
    tensors: Sequence[TensorInfo],
    rules: Sequence[Rule],
    heads: Sequence[str],
    ties: Mapping[str, tuple[str, ...]],
    layers: Layers | None = None,
    counts_of_heads: Callable[[], HeadCounts] = HeadCounts,
) -> Matches:
    """Match every rule against all keys; the last that matches a key decides.

    Args:
        tensors: all of them.
        rules: in the order in which they were given.
        heads: the keys that are filled as their model does, where no rule says otherwise.
        ties: for each key that shares its tensor, all keys of it.
        layers: the layers of the tensors.
        counts_of_heads: returns how many heads the model's attentions have.

    Raises:
        RuleError: two rules say different things of one tensor.
    """
    keys = [tensor.key for tensor in tensors]
    matched: dict[str, Owner | None] = dict.fromkeys(keys)
    for at, key in enumerate(heads):
        matched[key] = Owner(head_rule(key), at - len(heads), key)
    index = KeyIndex(keys, layers)
    named, counts = [], []
    missed: dict[int, Missed] = {}
    parts: dict[str, list[Owner]] = {}
    for at, rule in enumerate(rules):
        refuse_ambiguous(rule, keys, index)
        selected = index.select(rule.pattern)
        named.append(len(selected))
        if not selected and rule.pattern.kinds is not None:
            missed[at] = index.missed(rule.pattern)
        # A rule for other dimensions leaves a tensor to the rules before it.
        selected = [each for each in selected if rule.init.takes_ndim(len(tensors[each].shape))]
        counts.append(len(selected))
        if rule.part is None:
            matched |= dict.fromkeys((keys[position] for position in selected), Owner(rule, at))
        else:
            for position in selected:
                found = parts_meant(rule, tensors[position], layers, counts_of_heads)
                owned = [Owner(each, at) for each in found]
                parts.setdefault(keys[position], []).extend(owned)
    owners = _settled(matched, ties)
    shapes = {tensor.key: tensor.shape for tensor in tensors if tensor.key in parts}
    of_parts = settled_parts(parts, owners, ties, shapes)
    kept = Counter(
        owner.rank for key, owner in matched.items() if owner is not None and owners[key] == owner
    )
    ranks = {key: {owner.rank for owner in owned} for key, owned in of_parts.items()}
    kept += Counter(
        rank for key, found in parts.items() for rank in {*map(_rank, found)} & ranks[key]
    )
    return Matches(
        owners,
        tuple(named),
        tuple(counts),
        tuple(count - kept[at] for at, count in enumerate(counts)),
        of_parts,
        missed,
    )


def _rank(owner: Owner) -> int:
    return owner.rank


def head_rule(key: str) -> Rule:
    """Return the rule that a user would write to fill a key as its model does."""
    return Rule.of(Pattern.escape(key), "default")


def _settled(
    matched: Mapping[str, Owner | None], ties: Mapping[str, tuple[str, ...]]
) -> dict[str, Owner | None]:
    """Give all keys of one tensor to the last owner of any of them."""
    settled = dict(matched)
    for group in dict.fromkeys(ties.values()):
        owned = [(owner, key) for key in group if (owner := matched[key]) is not None]
        if not owned:
            continue
        last, winner = max(owned, key=lambda pair: pair[0].rank)
        for owner, key in owned:
            if owner.insists and owner.rule.init != last.rule.init:
                problem = (
                    f"{key!r} and {winner!r} are tied, but rule {quoted(owner.rule.text)} "
                    f"and rule {quoted(last.rule.text)} disagree"
                )
                raise RuleError(owner.rule.text, problem, kind="tied")
        settled |= dict.fromkeys(group, last)
    return settled
