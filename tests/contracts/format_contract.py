"""The contract of checkpoint formats: a format passes it by a class of a few lines.

The bytes of an output are put together here from its segments, without the engine, and
read by whoever else reads the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from reinit_cli.checkpoints.formats import FORMATS, format_of
from reinit_cli.checkpoints.formats.base import (
    Content,
    Files,
    Format,
    Located,
    NewFormat,
    Recorded,
    Supply,
)
from reinit_cli.errors import ReinitError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Literal, Segment
from tests.contracts.segments import rendered
from tests.contracts.toy import elements

STATE = {
    "b.weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "b.bias": torch.arange(4).half(),
    "a.weight": torch.arange(10).bfloat16().view(2, 5),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 3),
    "mask": torch.tensor([True, False, True]),
}


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """Open a checkpoint, a lone file or a folder."""
    with ExitStack() as stack:
        if path.is_file():
            yield Files.lone(stack.enter_context(InputFile(str(path))))
            return
        paths = sorted(each for each in path.rglob("*") if each.is_file())
        readers = {
            str(each.relative_to(path)): stack.enter_context(InputFile(str(each))) for each in paths
        }
        yield Files(str(path), readers)


def content_of(path: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a checkpoint."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }


def save(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a checkpoint."""
    for name, data in files.items():
        place = path / name if name else path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


class FormatContract:
    """What every format does.

    Attributes:
        format: the format.
        dependent_nbytes: how many bytes of a file may change with those of one tensor.
    """

    format: ClassVar[Format]
    dependent_nbytes = 0

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint as others do."""
        raise NotImplementedError

    def read(self, path: Path) -> Mapping[str, Tensor]:
        """Read a checkpoint as others do, and check what can be checked of it."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / f"source{'' if self.format.is_folder else self.format.suffixes[0]}"
        self.write(path, STATE)
        return path

    @pytest.fixture
    def output(self, tmp_path: Path) -> Path:
        return tmp_path / f"output{'' if self.format.is_folder else self.format.suffixes[0]}"

    def test_its_name_and_suffixes_are_its_own(self) -> None:
        assert self.format.name
        assert self.format.suffixes or self.format.is_folder  # some have no index
        assert all(each.startswith(".") for each in self.format.suffixes)

    def test_a_checkpoint_of_it_is_recognized_by_no_other(self, source: Path) -> None:
        with opened(source) as files:
            head = b"" if self.format.is_folder else files[""].head(512)
            names = tuple(files.readers) if self.format.is_folder else ()
            others = [each for each in FORMATS if each.name != self.format.name]
            taken = [each.name for each in (self.format, *others) if each.recognizes(head, names)]

        assert taken == [self.format.name]

    def test_its_tensors_are_those_that_others_read(self, source: Path) -> None:
        located = self._located(source)

        theirs = self.read(source)
        assert {each.key: each.shape for each in located.tensors} == {
            key: tuple(tensor.shape) for key, tensor in theirs.items()
        }
        assert {each.key: each.dtype for each in located.tensors} == {
            key: str(tensor.dtype).removeprefix("torch.") for key, tensor in theirs.items()
        }

    def test_places_hold_the_bytes_of_the_tensors(self, source: Path) -> None:
        located, content = self._located(source), content_of(source)

        for key, tensor in self.read(source).items():
            count = 0
            for place in located.places[key]:
                here = content[place.file][place.offset : place.offset + place.nbytes]
                part = elements(tensor, place.box)
                assert here == part.contiguous().flatten().view(torch.uint8).numpy().tobytes(), (
                    key,
                    place,
                )
                count += part.numel()
            assert count == tensor.numel()

    def test_rewritten_without_edits_it_is_the_same(self, source: Path) -> None:
        with opened(source) as files:
            located = self.format.locate(files)
            again = rendered(self.format.rewritten(located, files, {}))

        assert again == content_of(source)

    @pytest.mark.parametrize("key", [key for key, tensor in STATE.items() if tensor.numel()])
    def test_an_edit_changes_its_tensor_alone(self, source: Path, output: Path, key: str) -> None:
        new = _inverted(STATE[key])
        before = content_of(source)
        with opened(source) as files:
            located = self.format.locate(files)
            edits: dict[str, dict[int, Segment]] = {}
            for place in located.places[key]:
                data = (
                    elements(new, place.box)
                    .contiguous()
                    .flatten()
                    .view(torch.uint8)
                    .numpy()
                    .tobytes()
                )
                edits.setdefault(place.file, {})[place.offset] = Literal(data)
            after = rendered(self.format.rewritten(located, files, edits))
        save(output, after)

        read = self.read(output)
        assert list(read) == list(self.read(source))
        for other, tensor in self.read(source).items():
            assert torch.equal(read[other], new if other == key else tensor), other
        inside = {
            (place.file, at)
            for place in located.places[key]
            for at in range(place.offset, place.offset + place.nbytes)
        }
        outside = [
            (name, at)
            for name, data in before.items()
            for at, (old, now) in enumerate(zip(data, after[name], strict=True))
            if old != now and (name, at) not in inside
        ]
        assert len(outside) <= self.dependent_nbytes

    def test_a_file_that_is_cut_off_is_refused_or_named(self, source: Path, output: Path) -> None:
        content = content_of(source)
        name = max(content, key=lambda each: len(content[each]))
        whole = content[name]
        for length in {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}:
            save(output, {**content, name: whole[:length]})
            with opened(output) as files:
                try:
                    format_ = format_of(files[""]) if "" in files.readers else self.format
                    located = format_.locate(files)
                except ReinitError:
                    continue
            assert [name in fault.problem for fault in located.faults] == [True]

    def test_a_record_is_found_again_or_refused(self, source: Path, output: Path) -> None:
        record = '{"made": "by \\"this\\""}'
        with opened(source) as files:
            located = self.format.locate(files)
            if not self.format.holds_record:
                with pytest.raises(ReinitError):
                    self.format.rewritten(located, files, {}, record)
                return
            save(output, rendered(self.format.rewritten(located, files, {}, record), record))

        assert [each.text for each in self._recorded(output).values()] == [record]
        assert self.read(output).keys() == STATE.keys()

    def test_nothing_but_the_ranges_of_a_record_depends_on_it(
        self, source: Path, tmp_path: Path
    ) -> None:
        if not self.format.holds_record:
            return
        for name, record in (("one", '{"a": 1}'), ("two", '{"b": 2}')):
            with opened(source) as files:
                located = self.format.locate(files)
                made = self.format.rewritten(located, files, {}, record)
                save(tmp_path / name, rendered(made, record))

        one, two = content_of(tmp_path / "one"), content_of(tmp_path / "two")
        recorded = self._recorded(tmp_path / "one")
        for name, data in one.items():
            ranges = recorded[name].ranges if name in recorded else ()
            for at, (old, now) in enumerate(zip(data, two[name], strict=True)):
                assert old == now or any(start <= at < end for start, end in ranges)

    def test_a_record_is_not_copied_to_another_checkpoint(
        self, source: Path, output: Path, tmp_path: Path
    ) -> None:
        if not self.format.holds_record:
            return
        for before, after, record in ((source, output, '{"a": 1}'), (output, tmp_path / "x", "")):
            with opened(before) as files:
                located = self.format.locate(files)
                made = self.format.rewritten(located, files, {}, record)
                save(after, rendered(made, record))

        assert self._located(output).has_record
        assert not self._located(tmp_path / "x").has_record
        assert self._recorded(tmp_path / "x") == {}

    def _located(self, path: Path) -> Located:
        with opened(path) as files:
            return self.format.locate(files)

    def _recorded(self, path: Path) -> Mapping[str, Recorded]:
        with opened(path) as files:
            return self.format.recorded(self.format.locate(files), files)


class NewFormatContract(FormatContract):
    """What every format of new checkpoints does besides."""

    format: ClassVar[NewFormat]

    @pytest.mark.parametrize("record", ["", '{"a": "\\u00e9"}'], ids=["alone", "recorded"])
    def test_a_new_checkpoint_is_what_others_read(
        self, source: Path, output: Path, record: str
    ) -> None:
        located = self._located(source)
        content = Content(located.tensors)
        data = {
            key: [Literal(tensor.flatten().view(torch.uint8).numpy().tobytes())]
            for key, tensor in STATE.items()
        }
        supply = Supply(data, lambda: dict(STATE), name=output.name, record=record)

        assert self.format.refuses(content).beyond == ()
        save(output, rendered(self.format.created(content, supply), record))

        read = self.read(output)
        assert read.keys() == STATE.keys()
        assert all(torch.equal(read[key], tensor) for key, tensor in STATE.items())
        again = self._located(output)
        assert [(each.key, each.dtype, each.shape) for each in again.tensors] == [
            (each.key, each.dtype, each.shape) for each in located.tensors
        ]
        assert [each.text for each in self._recorded(output).values()] == [record] * bool(record)


def _inverted(tensor: Tensor) -> Tensor:
    """Return a tensor in which every byte can be another one."""
    return ~tensor if tensor.dtype == torch.bool else -tensor - 1
