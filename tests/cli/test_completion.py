"""Completion, as shells ask for it and in shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from reinit_cli import completing
from reinit_cli.completing import inits_starting, keys_of, keys_starting, rules_starting, words_of
from tests.cli.conftest import Done

KEYS = ["features.0.weight", "features.0.bias", "features.10.weight", "head.weight", "scale"]
BREAKS = " \t\n\"'><=;|&(:"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    save_file({key: torch.zeros(1) for key in KEYS}, "m.safetensors")
    return folder / "reinit"


@pytest.mark.parametrize(
    ("start", "going_on"),
    [
        ("", ["features.", "head.", "scale"]),
        ("fea", ["features."]),
        ("features.", ["features.0.", "features.10."]),
        ("features.0.w", ["features.0.weight"]),
        ("features.*.w", ["features.*.weight"]),
        ("features.{0..9}.", ["features.{0..9}.weight", "features.{0..9}.bias"]),
        ("*.0.b", ["*.0.bias"]),
        ("features.0.weight.", []),
        ("nothing", []),
    ],
)
def test_keys_go_on_segment_by_segment(start: str, going_on: list[str]) -> None:
    assert keys_starting(KEYS, start) == going_on


def test_a_rule_goes_on_with_its_initializer_and_arguments() -> None:
    assert rules_starting(KEYS, "sc") == ["scale="]
    assert rules_starting(KEYS, "scale=xavier_") == ["scale=xavier_uniform", "scale=xavier_normal"]
    assert inits_starting("normal:") == ["normal:mean=", "normal:std="]
    assert inits_starting("normal:std=1,") == ["normal:std=1,mean="]
    assert "he_normal:relu,fan_out" in inits_starting("he_normal:relu,fan")
    assert inits_starting("nothing:") == []


HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "a b",
    "a;b",
    "a'b",
    'a"b',
    "a\nb",
    "a\\b",
    "a*",
    "a&",
]


@pytest.mark.parametrize("key", HOSTILE)
def test_names_that_a_shell_could_obey_are_left_out(key: str) -> None:
    assert keys_starting([key, f"x.{key}.y", "x.z"], "") == ["x."]
    assert keys_starting([f"x.{key}.y", "x.z"], "x.") == ["x.z"]


def _ask(reinit: Callable[..., Done], line: str, shell: str = "bash") -> list[str]:
    breaks = ("--breaks", BREAKS) if shell == "bash" else ()
    done = reinit("completion", shell, *breaks, "--line", line)
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("reinit ru", ["run "]),
        ("reinit m.s", ["m.safetensors"]),
        ("reinit alexn", ["alexnet "]),
        ("reinit keys m.safetensors fe", ["features."]),
        ("reinit m.safetensors -r fe", ["features."]),
        ("reinit run m.safetensors --rule hea", ["head."]),
        ("reinit m.safetensors --rule=head.", ["head.weight="]),
        ('reinit m.safetensors -r "features.0.w', ["features.0.weight="]),
        ("reinit m.safetensors -r head.weight=orth", ["orthogonal"]),
        ('reinit m.safetensors -r "head.weight=orth', ["head.weight=orthogonal"]),
        ("reinit m.safetensors -r x=normal:st", ["std="]),
        ("reinit m.safetensors -s 3 -x sc", ["scale"]),
        ("reinit show m.safetensors head.", ["head.weight"]),
        ("reinit keys m.safetensors --so", ["--sort "]),
        ("reinit keys m.safetensors --sort by", ["bytes "]),
        ("reinit alexnet --weights no", ["none "]),
        ("reinit alexnet -d cu", ["cuda "]),
        ("reinit alexnet --dtype bf", ["bfloat16 "]),
        ("reinit inits xavier_u", ["xavier_uniform"]),
        ("reinit models resnet5", ["resnet50"]),
        ("reinit completion z", ["zsh "]),
        ("reinit missing.pt -r a", []),
        ("reinit keys m.safetensors --nonsense ", ["features.", "head.", "scale"]),
    ],
)
def test_words_go_on(line: str, candidates: list[str], reinit: Callable[..., Done]) -> None:
    found = _ask(reinit, line)

    expected = candidates
    if line.endswith("--rule=head."):
        expected = ["head.weight="]
    assert found == expected


def test_other_shells_split_at_no_equals_sign(reinit: Callable[..., Done]) -> None:
    line = "reinit m.safetensors -r head.weight=orth"

    assert _ask(reinit, line, "zsh") == ["head.weight=orthogonal"]
    assert _ask(reinit, line, "fish") == ["head.weight=orthogonal"]


def test_keys_of_a_model_are_kept(reinit: Callable[..., Done], cache: Path) -> None:
    assert _ask(reinit, "reinit alexnet -r classifier.6.") == [
        "classifier.6.weight=",
        "classifier.6.bias=",
    ]
    code = (
        "import sys; from reinit_cli.completing import keys_of; keys = keys_of('alexnet'); "
        "sys.exit('torch' in sys.modules or len(keys) != 16)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_cache_is_used_until_the_file_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "_CACHED_FROM", 1)
    first = keys_of("m.safetensors")
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace("scale", "cached"))
    second = keys_of("m.safetensors")
    save_file({"new": torch.zeros(3)}, "m.safetensors")

    assert sorted(first) == sorted(KEYS)
    assert "cached" in second
    assert keys_of("m.safetensors") == ["new"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamp": 1}', "[" * 100_000, "\udcff"])
def test_a_cache_that_is_damaged_is_none(
    content: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "_CACHED_FROM", 1)
    keys_of("m.safetensors")
    (kept,) = cache.iterdir()
    kept.write_bytes(content.encode(errors="surrogateescape"))

    assert sorted(keys_of("m.safetensors")) == sorted(KEYS)


def test_a_cache_that_cannot_be_written_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "_CACHED_FROM", 1)
    Path("blocked").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", "blocked")

    assert sorted(keys_of("m.safetensors")) == sorted(KEYS)


@pytest.mark.parametrize(
    ("line", "words", "quote"),
    [
        ("reinit a b", ["reinit", "a", "b"], ""),
        ("reinit a ", ["reinit", "a", ""], ""),
        ("reinit 'a b", ["reinit", "a b"], "'"),
        ('reinit "a\\"b" c\\ d', ["reinit", 'a"b', "c d"], ""),
        ("reinit ''x'y'\"z\"", ["reinit", "xyz"], ""),
        ("reinit '' x", ["reinit", "", "x"], ""),
    ],
)
def test_a_line_is_split_as_a_shell_splits_it(line: str, words: list[str], quote: str) -> None:
    assert words_of(line) == (words, quote)


@given(st.text(max_size=60))
def test_any_line_is_split(line: str) -> None:
    words, quote = words_of(line)

    assert words
    assert quote in ("", "'", '"')


@pytest.mark.slow
def test_many_keys_are_completed_in_time() -> None:
    save_file({f"layers.{at}.w": torch.zeros(0) for at in range(10_000)}, "ten.safetensors")
    save_file({f"layers.{at}.w": torch.zeros(0) for at in range(100_000)}, "many.safetensors")

    def seconds(name: str) -> float:
        line = f"reinit {name} -r layers.99"
        command = [sys.executable, "-m", "reinit_cli", "completion", "bash", "--line", line]
        took = []
        for _ in range(3):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            took.append(time.perf_counter() - started)
            assert "layers.99." in done.stdout.split()
        return min(took)

    assert seconds("ten.safetensors") < 0.6
    assert seconds("many.safetensors") < 0.9  # from the cache


# --- in shells -----------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment in which `reinit` is the command under test."""
    (tmp_path / "reinit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reinit_cli "$@"\n')
    (tmp_path / "reinit").chmod(0o755)
    root = str(Path(__file__).parents[2])
    path = f"{tmp_path}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": root, "TERM": "dumb", "HOME": str(tmp_path)}


def _typed(shell: list[str], setup: str, typed: str, tools: dict[str, str]) -> str:
    """Type into a shell in a terminal; return what its prompt's line becomes."""
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not here")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell, stdin=theirs, stdout=theirs, stderr=theirs, env=tools, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            os.write(ours, f"{setup}; echo rea''dy\n".encode())
            _read_until(ours, "ready\r\n")
            os.write(ours, typed.encode())
            return _read_until(ours, "", seconds=3.0)
        finally:
            process.kill()
            os.close(ours)


def _read_until(terminal: int, ending: str, seconds: float = 30.0) -> str:
    seen = ""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not (ending and ending in seen):
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


BASH = ["bash", "--norc", "--noprofile", "-i"]
SETUP = 'PS1="> "; eval "$(reinit completion bash)"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("reinit m.safetensors -r hea\t", "reinit m.safetensors -r head."),
        ("reinit m.safetensors -r head.\t", "reinit m.safetensors -r head.weight="),
        ("reinit m.safetensors -r head.weight=orth\t", "-r head.weight=orthogonal"),
        ('reinit m.safetensors -r "head.weight=normal:s\t', '"head.weight=normal:std='),
        ("reinit m.safetensors -r head.weight=normal:s\t", "head.weight=normal:std="),
        ("reinit keys m.saf\t", "reinit keys m.safetensors"),
        ("reinit comp\tba\t", "reinit completion bash "),
    ],
)
def test_bash_completes(typed: str, line: str, tools: dict[str, str]) -> None:
    seen = _typed(BASH, SETUP, typed, tools)

    assert line in seen.replace("\a", "")


@pytest.mark.slow
def test_bash_obeys_no_key(tools: dict[str, str]) -> None:
    save_file({key: torch.zeros(1) for key in ("$(touch pwned)", "`touch pwned`")}, "x.safetensors")

    _typed(BASH, SETUP, "reinit x.safetensors -r \t\t\t", tools)

    assert not Path("pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_read(shell: str, tools: dict[str, str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not here")
    script = subprocess.run(
        ["reinit", "completion", shell], env=tools, check=True, capture_output=True, text=True
    ).stdout
    Path("script").write_text(script)

    if shell == "fish":
        ask = 'source script; complete -C "reinit m.safetensors -r head.weight=orth"'
        done = subprocess.run(
            ["fish", "--no-config", "-c", ask],
            env=tools,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["head.weight=orthogonal"]
    else:
        done = subprocess.run(["zsh", "-n", "script"], capture_output=True, text=True, check=True)
        assert done.stderr == ""


@pytest.mark.slow
def test_zsh_completes(tools: dict[str, str]) -> None:
    setup = 'PS1="> "; autoload -U compinit; compinit -u; eval "$(reinit completion zsh)"'

    seen = _typed(["zsh", "-f", "-i"], setup, "reinit m.safetensors -r head.weight=orth\t", tools)

    assert "orthogonal" in seen
