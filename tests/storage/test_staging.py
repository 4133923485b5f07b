"""The temporary that several processes share: its name, its texts, signs of life."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reinit_cli.errors import OutputError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.staging import staging as module
from reinit_cli.storage.staging.output import FirstOutput, OtherOutput
from reinit_cli.storage.staging.pulse import Pulse, Sign
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.staging import Staging
from reinit_cli.storage.staging.texts import Form, put_text, text_at
from reinit_cli.storage.temporary import is_temporary, remove_stale


def _staging(path: str = "folder/out", run_id: str = "a", rank: int = 0) -> Staging:
    return Staging(path, Ranks(rank, 3, run_id, 0.3))


def test_the_name_of_a_staging_follows_from_the_output_and_the_run() -> None:
    mine, of_another = _staging().outer, _staging(rank=2).outer
    assert mine == of_another
    assert os.path.dirname(mine) == "folder"
    assert is_temporary(os.path.basename(mine))
    assert len({mine, _staging(run_id="b").outer, _staging("folder/other").outer}) == 3
    assert len(os.path.basename(_staging("n" * 255).outer)) <= 255


def test_a_text_is_seen_when_it_is_whole() -> None:
    put_text("note-1", {"a": [1, 2.5, float("inf")], "\udcff": None})
    assert text_at("note-1") == {"a": [1, 2.5, float("inf")], "\udcff": None}
    Path("note-1").write_text('{"a": ')
    assert text_at("note-1") is None
    Path("note-1").write_text("[" * 100_000)
    assert text_at("note-1") is None
    assert text_at("note-2") is None


def test_a_rank_lives_while_its_sign_changes() -> None:
    Path("folder").mkdir()
    staging = _staging(rank=1)
    os.mkdir(staging.outer)
    sign, pulse = Sign(staging), Pulse(staging, 1)
    sign.give(10)
    pulse.feel()
    assert not pulse.has_come  # only the first sign makes the file
    sign.give(10, is_first=True)
    pulse.feel()
    assert (pulse.has_come, pulse.changes, pulse.done) == (True, 0, 10)
    pulse.feel()
    assert pulse.changes == 0
    sign.give(30)
    pulse.feel()
    assert (pulse.changes, pulse.done) == (1, 30)
    Path(staging.text("beat", 1)).write_bytes(b"half a si")  # read while it is written
    pulse.feel()
    assert (pulse.changes, pulse.done) == (2, 30)


def _first(**more: str) -> FirstOutput:
    ranks = Ranks(0, 2, "a", 0.3)
    first = FirstOutput(Destination("out"), Modes(), ranks)
    first.begin({"": 100}, {"seed": "0", **more})
    return first


def test_a_rank_that_came_and_died_is_named() -> None:
    with (
        pytest.raises(OutputError, match="rank 1 has given no sign of life"),
        _first() as first,
    ):
        first.leave({"note": 0})
        (staging,) = Path().glob(".out.reinit-*")
        (staging / "beat-1").write_text("1 0")
        first.notes()


def test_a_rank_whose_staging_is_taken_away_is_told() -> None:
    other = OtherOutput(Destination("out"), Modes(), Ranks(1, 2, "a", 20.0))
    with pytest.raises(OutputError, match="rank 0 has ended the run"), other:
        with _first() as first:
            other.begin({"": 100}, {"seed": "0"})
            first._watched.end()  # it dies, and somebody removes what it left
            first._staging.remove()
        other.commit()


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_of_two_first_ranks_that_start_together_one_goes_on(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a shell that fills in its own rank for all: each removes what it finds."""
    Path("folder").mkdir()
    mine, other = _staging(), _staging()
    fill, put = Staging._fill, module.put_text

    def begin_other(self: Staging, *args: Any) -> None:
        if self is mine and moment == "before":
            other.make({"": 10}, {}, Modes())
        fill(self, *args)
        if self is mine and moment == "after":
            with pytest.raises(OutputError, match="another rank 0"):
                other.make({"": 10}, {}, Modes())

    def begin_within(path: str, form: Form) -> None:
        put(path, form)
        monkeypatch.setattr(module, "put_text", put)
        if moment == "within":
            other.make({"": 10}, {}, Modes())

    monkeypatch.setattr(Staging, "_fill", begin_other)
    monkeypatch.setattr(module, "put_text", begin_within)
    if moment == "after":
        mine.make({"": 10}, {}, Modes())
    else:
        with pytest.raises(OutputError) as refused:
            mine.make({"": 10}, {}, Modes())
        assert str(refused.value) == "another rank 0 of the run 'a' is writing 'folder/out'"

    assert os.listdir("folder") == [os.path.basename(mine.outer)]
    assert Path(mine.place("")).stat().st_size == 10
    (mine if moment == "after" else other).remove()


def test_a_run_that_removes_what_killed_runs_left_keeps_no_other_from_the_same_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("folder").mkdir()
    mine = _staging()
    put = module.put_text

    def clean(path: str, form: Form) -> None:
        if path.startswith(mine._draft):
            monkeypatch.setattr(module, "put_text", put)
            remove_stale("folder/out")
            assert os.listdir("folder") == []
        put(path, form)

    monkeypatch.setattr(module, "put_text", clean)
    mine.make({"": 10}, {}, Modes())

    assert os.listdir("folder") == [os.path.basename(mine.outer)]
    mine.remove()


def test_files_stand_at_their_sizes_and_nothing_is_at_the_destination() -> None:
    destination = Destination("out")
    first = FirstOutput(destination, Modes(), Ranks(0, 2, "a", 0.3))
    with first:
        first.begin({"a.bin": 1000, "b/c.bin": 0}, {})
        (staging,) = Path().glob(".out.reinit-*")
        sizes = {
            str(each.relative_to(staging / "folder")): each.stat().st_size
            for each in (staging / "folder").rglob("*.bin")
        }
        assert sizes == {"a.bin": 1000, "b/c.bin": 0}
        assert not os.path.lexists("out")
    assert os.listdir() == []
