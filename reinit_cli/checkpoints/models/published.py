"""Read what torchvision publishes about the weights of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Some weights of a model.

    Attributes:
        name: the name of the member of the enum of weights.
        metrics: what torchvision measured, such as "acc@1", by its name.
        file_nbytes: the size of the file, or None.
    """

    name: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    file_nbytes: int | None = None


def published_weights(model: str) -> tuple[PublishedWeights, ...]:
    """Return the weights of a model, the default first."""
    import torchvision

    members = torchvision.models.get_model_weights(model).__members__
    default = members.get("DEFAULT")
    # Aliases, DEFAULT among them, are names of members too.
    known = {member.name: member.meta for member in members.values()}
    order = sorted(known, key=lambda name: default is None or name != default.name)
    return tuple(
        PublishedWeights(name, dict(_metrics(known[name])), file_nbytes(known[name]))
        for name in order
    )


def file_nbytes(meta: Mapping[str, Any]) -> int | None:
    """Return the size of a file of weights; None where torchvision does not give it."""
    megabytes = meta.get("_file_size")
    # torchvision gives the size in units of 2^20 bytes, to three decimals.
    return round(megabytes * 2**20) if megabytes is not None else None


def _metrics(meta: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what was measured; the data set is named where there are several."""
    sets = meta.get("_metrics") or {}
    for data, measured in sets.items():
        for name, value in measured.items():
            yield name if len(sets) == 1 else f"{data} {name}", float(value)
