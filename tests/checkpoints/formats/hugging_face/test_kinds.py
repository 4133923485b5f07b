"""Every kind of folder is read, or named for what it is with the way on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinit_cli.cli import main
from tests.checkpoints.formats.folders import KINDS, READ, Kind
from tests.checkpoints.formats.hugging_face.making import index, save, state


def make(kind: Kind, folder: str = "kind") -> None:
    """Make a folder of a kind."""
    Path(folder).mkdir()
    for name, keys in kind.weights.items():
        save(f"{folder}/{name}", state(1, *keys))
    for name, start in kind.indices.items():
        weights = kind.weights.items()
        weight_map = {key: file for file, keys in weights for key in keys if file.startswith(start)}
        index(f"{folder}/{name}", weight_map)
    for name in kind.others:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_a_folder_is_read_or_named(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    make(kind)

    assert main(["keys", "kind"]) == (0 if kind.reads else 2)

    said = capsys.readouterr()
    assert said.out.split() == list(kind.reads)
    assert kind.says in said.err
    assert kind.way in said.err
    assert bool(said.err) == bool(kind.says)
    assert (kind.happens == READ) == (bool(kind.reads) and not kind.says)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.reads], ids=lambda kind: kind.what
)
def test_a_folder_that_is_refused_is_not_written(kind: Kind) -> None:
    make(kind)

    assert main(["kind", "-r", "*=zeros", "--fix-index", "-o", "new"]) == 2

    assert [path.name for path in Path().iterdir()] == ["kind"]


def test_the_commands_of_a_pipeline_work(capsys: pytest.CaptureFixture[str]) -> None:
    make(next(kind for kind in KINDS if kind.what == "a diffusers pipeline"))

    assert main(["kind", "-r", "a.weight=zeros"]) == 2

    commands = capsys.readouterr().err.partition("one of them: ")[2].strip().split(" or ")
    assert len(commands) == 2
    for command in commands:
        assert main([*command.split()[1:2], "-r", "a.weight=zeros"]) == 0
    assert {path.name for path in Path("kind").iterdir()} >= {"unet-reinit", "text_encoder-reinit"}
