"""Whatever a user gets wrong is one line, a way on, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

CASES = {
    "no rule": (
        ["run", "model.safetensors"],
        "error: no rule was given, so there is nothing to do",
        'hint: give one, such as -r "*.weight=xavier_uniform:relu"; reinit info model.safetensors '
        "shows what there is",
    ),
    "an option that is no work": (
        ["model.safetensors", "--force"],
        "error: no rule was given, so there is nothing to do",
        'hint: give one, such as -r "*.weight=xavier_uniform:relu"; reinit info model.safetensors '
        "shows what there is",
    ),
    "a part of a tensor that is not in a rule": (
        ["show", "model.safetensors", "fc.weight[0:4]"],
        "error: pattern 'fc.weight[0:4]': [0:4] is a set of characters; a range is {0..3}",
        "hint: only rules take parts of tensors; reinit show has --slice",
    ),
    "mistyped command alone": (
        ["modles"],
        "error: 'modles' is not a command, a file or a torchvision model",
        "hint: did you mean: reinit models?",
    ),
    "mistyped command with an argument": (
        ["kyes", "model.safetensors"],
        "error: 'kyes' is not a command, a file or a torchvision model",
        "hint: did you mean: reinit keys model.safetensors?",
    ),
    "mistyped option": (
        ["model.safetensors", "--sed", "3"],
        "error: there is no option --sed",
        "hint: did you mean --seed?",
    ),
    "mistyped file": (
        ["modle.safetensors", "-r", "*=zeros"],
        "error: no such file: 'modle.safetensors'",
        "hint: did you mean model.safetensors?",
    ),
    "rule without '='": (
        ["model.safetensors", "-r", "features"],
        "error: rule 'features' needs an '=': PATTERN=INIT",
        "hint: give it an initializer, such as -r features=zeros",
    ),
    "mistyped initializer": (
        ["model.safetensors", "-r", "*=orthogonl"],
        "error: unknown initializer 'orthogonl'",
        "hint: did you mean orthogonal?",
    ),
    "mistyped argument": (
        ["model.safetensors", "-r", "*=normal:sdt=1"],
        "error: normal: unknown argument 'sdt'; it takes mean, std, ndim, min_ndim, keep_zeros",
        "hint: did you mean std?",
    ),
    "mistyped nonlinearity": (
        ["model.safetensors", "-r", "*=orthogonal:gain=tahn"],
        "error: orthogonal: gain must be a number or a nonlinearity such as relu, not 'tahn'",
        "hint: did you mean tanh?",
    ),
    "ambiguous number": (
        ["model.safetensors", "-r", "*=normal:0.02"],
        "error: normal: 0.02 alone is ambiguous",
        "hint: did you mean -r '*=normal:std=0.02' or -r '*=normal:mean=0.02'?",
    ),
    "argument out of range": (
        ["model.safetensors", "-r", "*=normal:std=-1"],
        "error: normal: std must be a number of at least 0, not '-1'",
        "hint: reinit inits normal explains its arguments",
    ),
    "argument missing": (
        ["model.safetensors", "-r", "*=constant"],
        "error: constant: val is missing",
        "hint: did you mean -r '*=constant:0.5'?",
    ),
    "mistyped pattern segment": (
        ["model.safetensors", "-r", "feature.*.wieght=zeros"],
        "error: rule 'feature.*.wieght=zeros' matches no key of model.safetensors",
        "hint: did you mean -r 'features.*.weight=zeros'?",
    ),
    "name that cannot be filled": (
        ["model.safetensors", "-r", "features.0.bias=xavier_uniform"],
        "error: rule 'features.0.bias=xavier_uniform' cannot fill 'features.0.bias': "
        "1-D (fans need at least 2 dimensions)",
        "hint: leave it out, or see reinit inits xavier_uniform",
    ),
    "skip under --strict": (
        ["model.safetensors", "-r", "*=xavier_uniform", "--strict"],
        "error: rule '*=xavier_uniform' cannot fill 'norm.num_batches_tracked': "
        "a running statistic",
        "hint: without --strict it would be skipped",
    ),
    "pattern": (
        ["model.safetensors", "-r", "a[b=zeros"],
        "error: pattern 'a[b': '[' is not closed; '[[]' is a literal one",
        None,
    ),
    "device": (
        ["model.safetensors", "-r", "*=zeros", "-d", "cuda:77"],
        None,
        "hint: --device auto uses the best one available",
    ),
    "existing output": (
        ["model.safetensors", "-r", "*=zeros", "-o", "there.safetensors"],
        "error: 'there.safetensors' already exists",
        "hint: name another with -o (reinit run -h shows how to overwrite)",
    ),
    "output is source": (
        ["model.safetensors", "-r", "*=zeros", "-o", "./model.safetensors", "--force"],
        "error: the output './model.safetensors' is the source itself",
        "hint: name another with -o (reinit run --help shows how to replace a source)",
    ),
    "a file as a folder": (
        ["model.safetensors", "-r", "*=zeros", "-o", "there.safetensors/where.safetensors"],
        "error: cannot write 'there.safetensors/where.safetensors': 'there.safetensors' is not a "
        "folder",
        None,
    ),
    "an output without suffix": (
        ["model.safetensors", "-r", "*=zeros", "-o", "out"],
        "error: cannot write 'out': its suffix does not name a format; use one of "
        ".safetensors, .pt, .pth, .bin, .ckpt, .th, .pth.tar, .pt.tar",
        "hint: did you mean -o out/ or -o out.safetensors?",
    ),
    "standard output by its path": (
        ["model.safetensors", "-r", "*=zeros", "-o", "/dev/stdout"],
        None,
        "hint: did you mean -o -?",
    ),
    "unknown suffix": (
        ["model.safetensors", "-r", "*=zeros", "-o", "out.h5"],
        "error: cannot write 'out.h5': its suffix does not name a format; use one of "
        ".safetensors, .pt, .pth, .bin, .ckpt, .th, .pth.tar, .pt.tar",
        None,
    ),
    "folder without weights": (
        ["empty/", "-r", "*=zeros"],
        "error: cannot read 'empty/': it has no weights: no index and no .safetensors, .bin or .pt file",
        None,
    ),
    "empty file": (
        ["empty.safetensors", "-r", "*=zeros"],
        "error: 'empty.safetensors' is empty",
        "hint: the download failed, or is not complete; fetch it again",
    ),
    "mistyped dtype": (
        ["draw", "normal", "3", "--dtype", "bfloat61"],
        "error: unknown dtype 'bfloat61'",
        "hint: did you mean bfloat16 or float64 or float16?",
    ),
    "shape": (
        ["draw", "normal", "3,x"],
        "error: invalid value for 'SHAPE': '3,x' is not a shape; write it as 64,3,11,11",
        "hint: reinit draw -h shows how",
    ),
    "drawing nothing": (
        ["draw", "keep", "3"],
        "error: keep draws nothing",
        "hint: reinit draw -h shows how",
    ),
    "missing source": (
        ["-r", "*=zeros"],
        "error: missing SOURCE...",
        "hint: write it as reinit [run] SOURCE... -r PATTERN=INIT[:ARGS] [OPTIONS]",
    ),
    "hostile key": (
        ["model.safetensors", "-r", "\x1b*\u202e=zeros"],
        "error: rule '\\x1b*\\u202e=zeros' matches no key of model.safetensors",
        None,
    ),
}


def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


@pytest.mark.parametrize(("args", "error", "hint"), CASES.values(), ids=CASES)
def test_what_is_wrong_is_told_in_one_line(
    args: list[str],
    error: str | None,
    hint: str | None,
    reinit: Callable[..., Done],
    checkpoint: Path,
) -> None:
    Path("empty.safetensors").touch()
    Path("empty").mkdir()
    Path("there.safetensors").write_text("precious")
    before = _files()

    done = reinit(*args)

    told, *more = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert told.startswith("error: ")
    assert error in (None, told)
    assert len(more) <= 1
    if hint is not None:
        assert more == [hint]
    assert _files() == before


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (
            ["alexnt", "-r", "*=zeros"],
            "error: 'alexnt' is not a command, a file or a torchvision model",
            "hint: did you mean: reinit alexnet -r '*=zeros'?",
        ),
        (
            ["run", "alexnt", "-r", "*=zeros"],
            "error: 'alexnt' is neither a torchvision model nor a file",
            "hint: did you mean alexnet?",
        ),
        (
            ["keys", "alexnet", "--weights", "IMAGENET1K_V9"],
            "error: alexnet has no weights 'IMAGENET1K_V9'; it has IMAGENET1K_V1, DEFAULT",
            "hint: did you mean IMAGENET1K_V1?",
        ),
    ],
    ids=["mistyped model", "mistyped model of a command", "mistyped weights"],
)
def test_what_is_wrong_with_a_model_is_told(
    args: list[str], error: str, hint: str, reinit: Callable[..., Done]
) -> None:
    done = reinit(*args)

    assert (done.code, done.out, done.err.splitlines()) == (2, "", [error, hint])


def test_without_arguments_the_help_is_shown_and_nothing_was_done(
    reinit: Callable[..., Done],
) -> None:
    done = reinit()

    assert (done.code, done.err) == (2, "")
    assert done.out == reinit("--help").out == reinit("-h").out


def test_a_bug_of_ours_is_a_traceback(
    reinit: Callable[..., Done], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reinit_cli.operations.prepare.planned", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        reinit("model.safetensors", "-r", "*=zeros")


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["ro/model.safetensors", "-r", "*.bias=zeros"], "-o"),
        (["model.safetensors", "-r", "*.bias=zeros", "--record-to", "ro/made.json"], "--record-to"),
        (["stats", "model.safetensors", "--report", "ro/page.html"], "--report"),
    ],
)
def test_a_read_only_folder_is_answered_with_the_option_that_names_another(
    args: list[str],
    option: str,
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("ro").mkdir()
    shutil.copy("model.safetensors", "ro")
    # Root may write anywhere, so the system's answer is given for it.
    monkeypatch.setattr(os, "access", lambda path, _: path != "ro")

    done = reinit(*args)

    error, hint = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert error.endswith("the folder 'ro' is not writable")
    assert hint == f"hint: name another place with {option}"
    assert os.listdir("ro") == ["model.safetensors"]


@pytest.mark.usefixtures("checkpoint")
def test_a_folder_for_temporary_files_that_is_missing_is_one_error_with_the_way_on(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "missing")

    done = reinit("model.safetensors", "-o", "new.pt", "--tensors-only")

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: cannot write 'missing': no such file or directory",
        "hint: temporary files go into TMPDIR: name a folder with room, such as TMPDIR=/var/tmp",
    ]
    assert [path.name for path in Path().iterdir()] == ["model.safetensors"]


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("args", "written"),
    [
        (["keys", "model.safetensors"], ""),
        (["stats", "model.safetensors", "--report", "page.html"], ""),
        (["model.safetensors", "-r", "*=zeros", "-o", "-"], ""),
        (
            ["model.safetensors", "-r", "*=zeros", "-o", "new.safetensors"],
            "; 'new.safetensors' was written",
        ),
    ],
)
def test_what_is_refused_when_standard_output_is_closed_is_an_error(
    args: list[str],
    written: str,
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a quota does, or a server far away, after every write has worked."""
    close, dup, copies = os.close, os.dup, set[int]()

    def copied(fd: int) -> int:
        made = dup(fd)
        copies.update({made} if fd == sys.stdout.fileno() else ())
        return made

    def full(fd: int) -> None:
        close(fd)
        if fd in copies:
            copies.remove(fd)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "dup", copied)
    monkeypatch.setattr(os, "close", full)

    done = reinit(*args)

    said = f"error: cannot write to standard output: disk quota exceeded{written}"
    assert (done.code, done.err.splitlines()[-1]) == (2, said)
    assert {path.name for path in Path().iterdir()} == {"model.safetensors"} | (
        {"new.safetensors"} if written else set()
    )


@pytest.mark.usefixtures("checkpoint")
def test_standard_output_is_not_asked_again_when_a_report_is_written(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error after that would leave a page of which it says nothing."""

    def full(fd: int) -> None:
        del fd
        if Path("page.html").exists():
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("reinit_cli.storage.closing.check_close", full)

    done = reinit("stats", "model.safetensors", "--report", "page.html")

    assert (done.code, Path("page.html").exists()) == (0, True)
