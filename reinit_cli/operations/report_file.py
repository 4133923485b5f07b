"""Write a report with the output that it is about, or alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.writer import Output

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class ReportFile(Generic[Done]):
    """A report that is written when what it is about is done.

    Attributes:
        destination: where it goes, checked.
        make: returns its bytes for what was done.
    """

    destination: Destination
    make: Callable[[Done], bytes]

    def write_with(self, output: Output, done: Done) -> None:
        """Write it as a file of an output that is not committed yet.

        Raises:
            OutputUnwritableError: the disk is full or the folder refuses.
        """
        _write(output, self.destination, self.make(done))


def write_alone(destination: Destination, data: bytes) -> None:
    """Write a report, whole or not at all.

    Raises:
        OutputUnwritableError: the disk is full or the folder refuses.
    """
    with LocalOutput(destination) as output:
        _write(output, destination, data)
        output.commit()


def _write(output: Output, destination: Destination, data: bytes) -> None:
    writer = output.file_at(destination, len(data))
    writer.write_at(0, data)
    writer.close()
