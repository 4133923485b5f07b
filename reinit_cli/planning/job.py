"""Define a job: a request after every check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from reinit_cli.checkpoints.references import References
from reinit_cli.checkpoints.source import Source
from reinit_cli.lazy import dataclass
from reinit_cli.planning.output import Layout
from reinit_cli.planning.plan import Plan
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import CHECKPOINT, Destination, InUse


@dataclass(frozen=True, slots=True)
class Job:
    """A request after every check, ready to run.

    Attributes:
        source: what is read.
        plan: what happens to every key.
        destination: where the output goes.
        layout: how its files come about.
        pictured: the filled keys of which histograms are counted.
        references: what the rules refer to besides the source.
        written: the paths that all jobs of the command write, where there are several.
        texts: the other files of a folder that change, by name.
    """

    source: Source
    plan: Plan
    destination: Destination
    layout: Layout
    pictured: frozenset[str] = frozenset()
    references: References = field(default_factory=References)
    written: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.plan.request

    @property
    def reads(self) -> InUse:
        """Every file that is read."""
        order = self.request.optimizer_order
        listed = {order: "a list of keys"} if order is not None else {}
        reads = dict.fromkeys((*self.source.reads, *self.references.reads), CHECKPOINT)
        return listed | reads

    @property
    def writes(self) -> InUse:
        """The output, and the record where it is a file of its own."""
        record = self.request.record
        beside = {record: "the record"} if isinstance(record, str) and record else {}
        path = self.destination.path
        return ({path: CHECKPOINT} if path is not None else {}) | beside

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where the output goes, and the record where it is a file of its own."""
        request = self.request
        if not isinstance(request.record, str) or not request.record:
            return (self.destination,)
        record = Destination(request.record, request.force, kind="record", makes_folders=True)
        return (self.destination, record)

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, about those of the output."""
        return sum(step.tensor.nbytes for step in self.plan.steps)
