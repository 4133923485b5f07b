"""Compare an output with the files that are there, instead of writing it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from reinit_cli.provenance.compare import ComparingOutput
from reinit_cli.storage.local import LocalStore
from tests.contracts.output_contract import DATA, OutputContract


class TestComparingOutput(OutputContract):
    files: ClassVar = {"one": DATA, "two": DATA[::-1]}
    writes_elsewhere = False

    def make(self) -> ComparingOutput:
        store = LocalStore()
        for name, data in self.files.items():
            Path(name).write_bytes(data)
        self.output = ComparingOutput({name: store.open(name) for name in self.files}, {})
        return self.output

    def holds(self, files: Mapping[str, bytes]) -> bool:
        compared = {
            name: comparer.other is None and not comparer.gaps
            for name, comparer in self.output.comparers.items()
        }
        is_alike = compared == dict.fromkeys(files, True) and not self.output.unlike
        return (is_alike or not files) and sorted(os.listdir()) == sorted(self.files)


def _compared(written: Mapping[str, bytes], there: Mapping[str, bytes]) -> ComparingOutput:
    store = LocalStore()
    for name, data in there.items():
        Path(name).write_bytes(data)
    with ComparingOutput({name: store.open(name) for name in there}, {}) as output:
        for name, data in written.items():
            output.file(name, len(data)).write_at(0, data)
        output.commit()
    return output


def test_the_first_byte_that_differs_is_found() -> None:
    output = _compared({"one": b"abcdef"}, {"one": b"abXdeX"})

    assert (output.comparers["one"].other, output.unlike) == (2, [])


def test_a_file_of_another_size_is_unlike_and_one_that_would_not_be_written_too() -> None:
    output = _compared({"one": b"abc", "new": b"x"}, {"one": b"abcd", "old": b"y"})

    assert sorted(output.unlike) == ["new", "old", "one"]
