"""An archive is laid out again as torch would have written it with other contents."""

from __future__ import annotations

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.checkpoints.formats.torch.files.archive import read_entries
from reinit_cli.checkpoints.formats.torch.files.assembly import Layout, layout_of
from reinit_cli.checkpoints.formats.torch.files.relaid import Contents, relaid
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Copy, Literal, Segment
from tests.contracts.segments import rendered
from tests.tools import needs_torch, tool


def _layout(file: Reader) -> Layout:
    return layout_of(file, read_entries(file))


def _bytes(path: Path, contents: Contents, record: str = "") -> bytes:
    """Return the archive laid out again."""
    with InputFile(str(path)) as file:
        return rendered({"": relaid(file, _layout(file), contents, record)}, record)[""]


def _entries(path: Path) -> dict[str, bytes]:
    """Return the data of each entry, as Python reads it."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _changed(before: Path, after: Path) -> Contents:
    """Return what makes one archive the other."""
    old, new = _entries(before), _entries(after)
    changed = {
        name: [Literal(data)]
        for name, data in new.items()
        if old.get(name) != data and not name.endswith("serialization_id")
    }
    return Contents(changed, old.keys() - new.keys())


SAVED: dict[str, Callable[[], Any]] = {
    "tensors of many shapes": lambda: {
        f"t{at}": torch.arange(at * 7, dtype=torch.float32) for at in range(40)
    },
    "empty storages": lambda: {"a": torch.ones(3), "e": torch.zeros(0, 4), "b": torch.ones(2)},
    "nothing but an empty storage": lambda: {"e": torch.zeros(0)},
    "no tensor": lambda: {"lr": 0.1},
    "a pickle of 200 KB": lambda: {"a": torch.ones(3), "text": "ä" * 100_000},
    "float8 and int": lambda: {"a": torch.ones(5).to(torch.float8_e5m2), "n": torch.tensor(3)},
    "a module": lambda: torch.nn.Linear(2, 3).state_dict(),
}


def _aligned(alignment: int) -> AbstractContextManager[object]:
    if alignment == 64:  # torch's own, and the only one before
        return nullcontext()
    needs_torch("2.7", "storages are aligned as one likes")
    from torch.utils.serialization import config

    return config.patch({"save.storage_alignment": alignment})


@pytest.mark.parametrize("alignment", [64, 1, 4096])
@pytest.mark.parametrize("name", SAVED)
def test_an_archive_without_a_change_is_the_same_bytes(
    name: str, alignment: int, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    with _aligned(alignment):
        torch.save(SAVED[name](), path)

    assert _bytes(path, Contents({})) == path.read_bytes()


def test_an_archive_without_crcs_is_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        torch.save({"a": torch.ones(3), "b": torch.ones(100)}, path)
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)

    assert _bytes(path, Contents({})) == path.read_bytes()


def _assert_as_it_was(segments: Sequence[Segment], file: Reader) -> None:
    """Compare an archive too large for memory with its segments."""
    reached = 0
    for segment in segments:
        if isinstance(segment, Copy):
            assert segment.offset == reached
        elif isinstance(segment, Literal):
            assert segment.data == file.read(reached, segment.nbytes)
        reached += segment.nbytes
    assert reached == file.nbytes


def test_sizes_and_places_beyond_32_bits_are_written_as_torch_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    large = torch.empty(2**32 + 5, dtype=torch.uint8)
    with torch.serialization.skip_data():
        torch.save(
            {
                "a": large,
                "b": torch.empty(7),
                "c": torch.empty(2**32, dtype=torch.uint8),
                "e": torch.empty(0),
            },
            path,
        )

    with InputFile(str(path)) as file:
        _assert_as_it_was(relaid(file, _layout(file), Contents({})), file)


_SIZES = st.lists(st.sampled_from([0, 1, 3, 16, 17, 100, 5000]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_other_contents_are_the_bytes_that_torch_writes_for_them(data: st.DataObject) -> None:
    before = data.draw(_SIZES)
    after = [data.draw(st.sampled_from([each, 0, 2, 40, 4000])) for each in before]

    def saved(sizes: Sequence[int], value: float) -> bytes:
        stream = io.BytesIO()
        torch.save({f"t{at}": torch.full((each,), value) for at, each in enumerate(sizes)}, stream)
        return stream.getvalue()

    one, two = saved(before, 1.0), saved(after, 2.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "1.pt").write_bytes(one)
        (folder / "2.pt").write_bytes(two)
        assert _bytes(folder / "1.pt", _changed(folder / "1.pt", folder / "2.pt")) == two


def _write_older(path: Path, records: Mapping[str, bytes]) -> None:
    """Write records in the order of older versions, by the writer that torch has in C++."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in records.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def test_an_order_of_older_versions_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.ones(3), "b": torch.ones(100)}, path)
    parts = {name.partition("/")[2]: each for name, each in _entries(path).items()}
    older = {name: parts[name] for name in ("data.pkl", "data/0", "data/1")}
    _write_older(tmp_path / "old.pt", older)
    _write_older(tmp_path / "new.pt", {**older, "data/0": bytes(range(200)), "data/1": b""})
    (tmp_path / "2").mkdir()
    (tmp_path / "new.pt").rename(tmp_path / "2/old.pt")
    _write_older(tmp_path / "2/old.pt", {**older, "data/0": bytes(range(200)), "data/1": b""})

    changed = _changed(tmp_path / "old.pt", tmp_path / "2/old.pt")

    assert _bytes(tmp_path / "old.pt", Contents({})) == (tmp_path / "old.pt").read_bytes()
    assert _bytes(tmp_path / "old.pt", changed) == (tmp_path / "2/old.pt").read_bytes()


@pytest.mark.parametrize("packer", ["zip", "zipfile"])
def test_an_archive_that_another_tool_packed_loads_with_its_new_contents(
    packer: str, tmp_path: Path
) -> None:
    state = {"a": torch.ones(3), "b": torch.ones(100), "e": torch.ones(5)}
    other = {"a": torch.zeros(300), "b": torch.full((7,), 2.0), "e": torch.ones(0)}
    path, new = tmp_path / "m.pt", tmp_path / "new" / "m.pt"
    new.parent.mkdir()
    torch.save(state, path)
    torch.save(other, new)
    contents = _changed(path, new)
    entries = _entries(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
        infos = archive.infolist()
    path.unlink()
    if packer == "zip":
        command = [tool("zip"), "-q", "-0", "-X", "-r", "-D", str(path), "m"]
        subprocess.run(command, cwd=tmp_path / "unpacked", check=True)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for info in infos:  # with the extra fields that torch wrote
                archive.writestr(info, entries[info.filename])

    out = tmp_path / "out.pt"
    out.write_bytes(_bytes(path, contents))

    subprocess.run([tool("unzip"), "-tqq", str(out)], check=True)
    found = torch.load(out)
    assert {key: each.tolist() for key, each in found.items()} == {
        key: each.tolist() for key, each in other.items()
    }
    assert _bytes(path, Contents({})).endswith(path.read_bytes()[-22:])


def test_entries_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"a": torch.ones(3), "b": torch.ones(100)}, path)
    contents = Contents({"m/data/7": [Literal(b"new"), Literal(b" bytes")]}, {"m/data/0"})

    out = tmp_path / "out.pt"
    out.write_bytes(_bytes(path, contents))

    subprocess.run([tool("unzip"), "-tqq", str(out)], check=True)
    entries = _entries(out)
    names = [name for name in _entries(path) if name != "m/data/0"]
    at = names.index("m/data/1") + 1
    assert list(entries) == [*names[:at], "m/data/7", *names[at:]]
    assert entries["m/data/7"] == b"new bytes"
    reader = torch._C.PyTorchFileReader(str(out))
    assert reader.get_record("data/7") == b"new bytes"
    assert reader.get_record_offset("data/7") % 64 == 0


def test_a_record_takes_the_place_of_another(tmp_path: Path) -> None:
    path, out = tmp_path / "m.pt", tmp_path / "out.pt"
    torch.save({"a": torch.ones(3)}, path)
    plain = path.read_bytes()
    out.write_bytes(_bytes(path, Contents({}), '{"first": 1}'))
    again = tmp_path / "again.pt"
    again.write_bytes(_bytes(out, Contents({}), '{"the": "second"}'))

    assert _entries(again)["m/reinit.json"] == b'{"the": "second"}'
    subprocess.run([tool("unzip"), "-tqq", str(again)], check=True)
    assert torch.load(again)["a"].tolist() == [1, 1, 1]
    assert _bytes(again, Contents({})) == plain
