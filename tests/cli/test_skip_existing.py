"""A run that is repeated with `--skip-existing` makes what is missing, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import rewrite
from reinit_cli.errors import OutputError
from reinit_cli.operations import prepare
from reinit_cli.operations import rewrite as rewriting
from tests.cli.conftest import Done

RULE = ["-r", "*.weight=normal:std=0.5"]
STATE = {"x.weight": torch.zeros(30, 20), "x.bias": torch.ones(30)}


@pytest.fixture
def sources() -> None:
    """Three files, and two folders with shards."""
    for name in ("a", "b"):
        save_file(STATE, f"{name}.safetensors")
    torch.save(STATE, "c.pt")
    for name in ("hf", "other"):
        Path(name).mkdir()
        save_file(STATE, f"{name}/model.safetensors")
        Path(name, "config.json").write_text("{}")


def _files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that are looked into, in their order."""
    found: list[str] = []
    prepared = prepare.prepare

    def noting(request: prepare.Request, *args: object) -> object:
        found.append(request.source)
        return prepared(request, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "prepare", noting)
    return found


COMMANDS = {
    "next to the sources": ["a.safetensors", "b.safetensors", "c.pt"],
    "in a folder": ["a.safetensors", "b.safetensors", "c.pt", "-o", "out/"],
    "in a folder without a slash": ["a.safetensors", "c.pt", "-o", "d"],
    "by a form": ["a.safetensors", "c.pt", "-o", "{parent}/new/{stem}{suffix}"],
    "side by side": ["a.safetensors", "b.safetensors", "c.pt", "-o", "out/", "-j", "3"],
    "with several seeds": ["a.safetensors", "c.pt", "-s", "0..2", "-o", "out/"],
    "folders": ["hf", "other", "-o", "out/"],
    "folders next to the sources": ["hf", "other/"],
    "a folder and a file": ["hf", "c.pt", "-o", "out/"],
    "an index": ["hf/model.safetensors", "other", "-o", "out/"],
    "shards": ["a.safetensors", "c.pt", "--shard-size", "2kB", "-o", "out/"],
    "going on": ["a.safetensors", "nope.pt", "c.pt", "-o", "out/", "--keep-going"],
}


@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("is_json", [False, True], ids=["table", "JSON"])
@pytest.mark.usefixtures("sources")
def test_a_rerun_after_an_interruption_finishes_the_rest(
    args: list[str], reinit: Callable[..., Done], planned: list[str], *, is_json: bool
) -> None:
    Path("d").mkdir()
    first = reinit(*args, *RULE, "--keep-going", "--json")
    whole = _files()
    forms = map(json.loads, first.out.splitlines())
    outputs = [form["output"]["path"] for form in forms if "output" in form]
    for path in map(Path, outputs[1:]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert len(outputs) > 1
    assert _files() != whole
    planned.clear()

    done = reinit(*args, *RULE, "--skip-existing", *(["--json"] if is_json else []))

    assert done.code in (0, 3)
    assert _files() == whole
    assert " skipped" in done.err.splitlines()[-1]
    if is_json:
        skipped, *others = map(json.loads, done.out.splitlines())
        assert skipped == {
            "version": 1,
            "seed": 0,
            "source": {"name": args[0]},
            "output": {"path": outputs[0]},
            "skipped": True,
        }
        assert len(others) == len(planned)

    planned.clear()
    again = reinit(*args, *RULE, "--skip-existing")

    assert again.code in (0, 3)
    assert planned in ([], ["nope.pt"])
    assert _files() == whole


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (["a.safetensors"], "a-reinit.safetensors"),
        (["a.safetensors", "-o", "new.pt"], "new.pt"),
        (["a.safetensors", "-o", "out/"], "out/a.safetensors"),
        (["hf"], "hf-reinit"),
        (["hf", "-o", "new"], "new"),
        (["hf", "-o", "new/"], "new/hf"),
        (["a.safetensors", "--shard-size", "2kB", "-o", "new"], "new"),
        (["squeezenet1_1", "--weights", "none"], "squeezenet1_1-reinit.safetensors"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
@pytest.mark.usefixtures("sources")
def test_one_source_is_skipped_where_its_output_exists(
    args: list[str], output: str, reinit: Callable[..., Done]
) -> None:
    assert reinit(*args, *RULE, "--skip-existing").code == 0
    whole = _files()
    assert Path(output).exists()

    done = reinit(*args, *RULE, "--skip-existing")

    assert done == Done(0, "", f"skipped: the output {output!r} exists\n")
    assert reinit(*args, *RULE, "--skip-existing", "-q") == Done(0, "", "")
    form = json.loads(reinit(*args, *RULE, "--skip-existing", "--json").out)
    assert (form["output"], form["skipped"]) == ({"path": output}, True)
    assert _files() == whole


@pytest.mark.usefixtures("sources")
def test_a_folder_that_exists_takes_the_output_of_a_folder_and_the_rerun_skips_it(
    reinit: Callable[..., Done],
) -> None:
    Path("d").mkdir()
    args = ["hf", *RULE, "-o", "d", "--skip-existing"]

    assert reinit(*args).code == 0
    assert sorted(os.listdir("d/hf")) == ["config.json", "model.safetensors"]
    assert reinit(*args).err == "skipped: the output 'd/hf' exists\n"


@pytest.mark.parametrize("kind", ["empty", "folder", "link to nowhere", "no permission"])
@pytest.mark.usefixtures("sources")
def test_whatever_exists_is_left_as_it_is(kind: str, reinit: Callable[..., Done]) -> None:
    output = Path("a-reinit.safetensors")
    if kind == "folder":
        output.mkdir()
    elif kind == "link to nowhere":
        output.symlink_to("nowhere")
    else:
        output.touch(mode=0o000 if kind == "no permission" else 0o644)
    before = output.lstat()

    done = reinit("a.safetensors", *RULE, "--skip-existing")

    assert (done.code, done.err) == (0, f"skipped: the output {str(output)!r} exists\n")
    after = output.lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    if kind != "link to nowhere":  # to ask where it leads counts as an access
        assert after.st_atime_ns == before.st_atime_ns


@pytest.mark.usefixtures("sources")
def test_the_number_that_was_skipped_is_reported(reinit: Callable[..., Done]) -> None:
    names = ["a.safetensors", "b.safetensors", "c.pt"]
    reinit("b.safetensors", *RULE, "-o", "out/")

    planned = reinit(*names, *RULE, "-o", "out/", "--skip-existing", "-n")
    done = reinit(*names, "nope.pt", *RULE, "-o", "out/", "--skip-existing", "--keep-going")

    assert planned.err.splitlines()[-1] == "2 of 3 planned, 1 skipped"
    assert done.code == 3
    assert done.err.splitlines()[-1] == "2 of 4 done, 1 skipped, 1 failed"


@pytest.mark.parametrize("at_once", ["1", "2"])
@pytest.mark.usefixtures("sources")
def test_what_another_run_writes_meanwhile_is_skipped_too(
    at_once: str, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = rewriting.execute

    def meanwhile(job: prepare.Job, *args: object, **options: object) -> rewriting.Outcome:
        Path("out/b.safetensors").write_bytes(b"theirs")
        return execute(job, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rewriting, "execute", meanwhile)
    args = ["a.safetensors", "b.safetensors", *RULE, "-o", "out/", "-j", at_once]

    done = reinit(*args, "--skip-existing")

    assert (done.code, done.err.splitlines()[-1]) == (0, "1 of 2 done, 1 skipped")
    assert Path("out/b.safetensors").read_bytes() == b"theirs"


@pytest.mark.usefixtures("sources")
def test_a_batch_that_finds_outputs_offers_to_skip_them(reinit: Callable[..., Done]) -> None:
    names = ["a.safetensors", "b.safetensors"]
    assert reinit(names[1], *RULE, "-o", "out/").code == 0

    done = reinit(*names, *RULE, "-o", "out/")

    assert done == Done(
        2,
        "",
        "error: b.safetensors: 'out/b.safetensors' already exists\n"
        "hint: add --skip-existing to make only those that are missing\n",
    )
    assert reinit(*names, *RULE, "-o", "out/", "--skip-existing").code == 0


@pytest.mark.parametrize("other", ["--force", "--in-place"])
@pytest.mark.parametrize("sources_", [["a.safetensors"], ["a.safetensors", "b.safetensors"]])
@pytest.mark.usefixtures("sources")
def test_what_is_skipped_is_not_replaced_too(
    other: str, sources_: list[str], reinit: Callable[..., Done]
) -> None:
    before = _files()

    done = reinit(*sources_, *RULE, "--skip-existing", other, "--keep-going")

    assert done == Done(2, "", f"error: --skip-existing and {other} cannot be combined\n")
    assert _files() == before


@pytest.mark.usefixtures("sources")
def test_a_recipe_can_skip_and_the_command_line_is_over_it(reinit: Callable[..., Done]) -> None:
    Path("r.toml").write_text('skip_existing = true\n[[rule]]\nmatch = "*"\ninit = "ones"\n')
    Path("a-reinit.safetensors").touch()

    assert reinit("a.safetensors", "-c", "r.toml").err.startswith("skipped: ")
    assert reinit("a.safetensors", "-c", "r.toml", "--no-skip-existing").code == 2
    assert Path("a-reinit.safetensors").stat().st_size == 0
    assert reinit("a.safetensors", "-c", "r.toml", "--force").code == 0
    assert Path("a-reinit.safetensors").stat().st_size > 0


@pytest.mark.usefixtures("sources")
def test_the_source_itself_is_not_an_output_that_exists(reinit: Callable[..., Done]) -> None:
    Path("twin.safetensors").hardlink_to("a.safetensors")

    for output in ("a.safetensors", "./", "twin.safetensors"):
        done = reinit("a.safetensors", *RULE, "-o", output, "--skip-existing")
        assert done.code == 2
        assert "is the source itself" in done.err


@pytest.mark.usefixtures("sources")
def test_a_missing_source_is_an_error_though_its_output_exists(
    reinit: Callable[..., Done],
) -> None:
    Path("nope-reinit.pt").touch()

    assert reinit("nope.pt", *RULE, "--skip-existing").code == 2


@pytest.mark.usefixtures("sources")
def test_a_record_and_a_plan_are_those_of_a_run_that_skips_nothing(
    reinit: Callable[..., Done],
) -> None:
    plans = [
        reinit("a.safetensors", *RULE, "-o", "new.pt", "-n", "--json", *more).out
        for more in ([], ["--skip-existing"])
    ]
    reinit("a.safetensors", *RULE, "-o", "one.safetensors", "--record")
    reinit("a.safetensors", *RULE, "-o", "two.safetensors", "--record", "--skip-existing")

    assert plans[0] == plans[1]
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


@pytest.mark.usefixtures("sources")
def test_in_python_a_skipped_rewrite_says_so() -> None:
    first = rewrite("a.safetensors", ["x.bias=zeros"], skip_existing=True)
    content = Path("a-reinit.safetensors").read_bytes()
    second = rewrite("a.safetensors", ["x.bias=ones"], skip_existing=True)

    assert (first.is_skipped, second.is_skipped) == (False, True)
    assert Path("a-reinit.safetensors").read_bytes() == content
    with pytest.raises(OutputError, match="cannot be combined"):
        rewrite("a.safetensors", ["x.bias=ones"], skip_existing=True, force=True)
