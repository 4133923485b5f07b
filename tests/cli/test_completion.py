"""Completion, as shells ask for it and in shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.distributed import checkpoint as distributed_checkpoint

from reinit_cli.cli.completion import candidates
from reinit_cli.cli.completion.candidates import (
    inits_starting,
    keys_of,
    keys_starting,
    rules_starting,
)
from reinit_cli.cli.completion.line import read_line
from reinit_cli.cli.group import COMMANDS, group
from reinit_cli.request.pattern import Pattern
from tests.cli.conftest import Done
from tests.tools import tool

KEYS = ["features.0.weight", "features.0.bias", "features.10.weight", "head.weight", "scale"]
BREAKS = " \t\n\"'@><=;|&(:"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    save_file({key: torch.zeros(1) for key in KEYS}, "m.safetensors")
    return folder / "reinit"


@pytest.mark.parametrize(
    ("start", "going_on"),
    [
        ("", ["features.", "head.", "scale "]),
        ("fea", ["features."]),
        ("features.", ["features.0.", "features.10."]),
        ("features.0.w", ["features.0.weight "]),
        ("features.*.w", ["features.*.weight "]),
        ("features.{0..9}.", ["features.{0..9}.weight ", "features.{0..9}.bias "]),
        ("*.0.b", ["*.0.bias "]),
        ("*.w", ["*.weight "]),
        ("[fh]*.", ["[fh]*.0.", "[fh]*.weight ", "[fh]*.bias ", "[fh]*.10."]),
        ("features.0.weight.", []),
        ("nothing", []),
    ],
)
def test_keys_go_on_segment_by_segment(start: str, going_on: list[str]) -> None:
    assert keys_starting(KEYS, start) == going_on


def test_a_rule_goes_on_with_its_initializer_and_arguments() -> None:
    assert rules_starting(KEYS, "sc") == ["scale="]
    assert rules_starting(KEYS, "scale=xavier_") == ["scale=xavier_uniform", "scale=xavier_normal"]
    assert inits_starting("normal:") == [
        "normal:mean=",
        "normal:std=",
        "normal:ndim=",
        "normal:min_ndim=",
        "normal:keep_zeros=",
    ]
    assert inits_starting("normal:std=1,m") == ["normal:std=1,mean=", "normal:std=1,min_ndim="]
    assert inits_starting("normal:std=") == ["normal:std=1.0"]
    assert inits_starting("he_normal:nonlinearity=l") == [
        "he_normal:nonlinearity=linear",
        "he_normal:nonlinearity=leaky_relu",
    ]
    assert "he_normal:relu,tanh" not in inits_starting("he_normal:relu,")
    assert inits_starting("glorot_u") == ["glorot_uniform"]
    assert inits_starting("orthogonal") == ["orthogonal", "orthogonal:"]
    assert "he_normal:relu,fan_out" in inits_starting("he_normal:relu,fan")
    assert inits_starting("nothing:") == []


def test_a_pattern_goes_on_with_kinds_of_layers() -> None:
    assert keys_starting(KEYS, "kind=Emb") == ["kind=Embedding ", "kind=EmbeddingBag "]
    assert keys_starting(KEYS, "kind=Linear,n") == ["kind=Linear,norm "]
    assert rules_starting(KEYS, "kind=li") == ["kind=linear="]
    assert rules_starting(KEYS, "*.weight[kind=Li") == ["*.weight[kind=Linear]="]
    assert rules_starting(KEYS, "kind=Linear=xavier_u") == ["kind=Linear=xavier_uniform"]
    assert rules_starting(KEYS, "*[kind=norm]=one") == ["*[kind=norm]=ones"]
    for each in keys_starting(KEYS, "kind="):
        assert Pattern.parse(each.strip()).kinds is not None


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
    assert keys_starting([f"x.{key}.y", "x.z"], "x.") == ["x.z "]


def _ask(reinit: Callable[..., Done], line: str, shell: str = "bash") -> list[str]:
    breaks = ("--breaks", BREAKS) if shell == "bash" else ()
    done = reinit("completion", shell, *breaks, "--line", line)
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("reinit ru", ["run "]),
        ("reinit m.s", ["m.safetensors "]),
        ("reinit alexn", ["alexnet "]),
        ("reinit m.safetensors --arch alexn", ["alexnet "]),
        ("reinit m.safetensors --arch transf", ["transformers "]),
        ("reinit m.safetensors --arch tim", ["timm:"]),
        ("reinit m.safetensors --arch ./m.s", ["./m.safetensors "]),
        ("reinit --rul", ["--rule "]),
        ("reinit m.safetensors -nvr hea", ["head."]),
        ("reinit m.safetensors -rhea", ["-rhead."]),
        ("reinit keys -- m.safetensors hea", ["head."]),
        ('reinit m.safetensors --rule="hea', ["head.", "head.weight="]),
        ("reinit keys m.safetensors 'head.w", ["head.weight"]),
        (r"reinit m.safetensors -r features.\*.w", [r"features.\*.weight="]),
        ("reinit 'm.saf'* -r hea", ["head."]),
        ("reinit alexnet --weights IM", ["IMAGENET1K_V1 "]),
        ("reinit - -r hea", []),
        ("reinit keys m.safetensors fe", ["features."]),
        ("reinit m.safetensors -r fe", ["features."]),
        ("reinit run m.safetensors --rule hea", ["head."]),
        ("reinit m.safetensors --rule=head.", ["head.weight="]),
        ('reinit m.safetensors -r "scale=z', ["scale=zeros", "scale=zeros:"]),
        ("reinit m.safetensors -r head.weight=orth", ["orthogonal"]),
        (
            'reinit m.safetensors -r "head.weight=orth',
            ["head.weight=orthogonal", "head.weight=orthogonal:"],
        ),
        ("reinit m.safetensors -r x=normal:st", ["std="]),
        ("reinit m.safetensors -s 3 -x sc", ["scale "]),
        ("reinit show m.safetensors head.", ["head.weight "]),
        ("reinit keys m.safetensors --so", ["--sort "]),
        ("reinit keys m.safetensors --sort by", ["bytes "]),
        ("reinit alexnet --weights no", ["none "]),
        ("reinit alexnet -d cu", ["cuda "]),
        ("reinit alexnet --color a", ["auto ", "always "]),
        ("reinit keys m.safetensors --color n", ["never "]),
        ("reinit help st", ["stats "]),
        ("reinit hel", ["help "]),
        ("reinit alexnet --strict --no-st", ["--no-strict "]),
        ("reinit alexnet --no-v", ["--no-verify-crc "]),
        ("reinit alexnet --con", []),
        ("reinit alexnet --with", []),
        ("reinit alexnet --refuse", []),
        ("reinit alexnet --sy", []),
        ("reinit m.safetensors --config m.s", ["m.safetensors "]),
        ("reinit m.safetensors --config=m.s", ["m.safetensors "]),
        ("reinit m.safetensors --config m.safetensors -r hea", ["head."]),
        ("reinit alexnet --no-weights -r classifier.6.b", ["classifier.6.bias="]),
        ("reinit alexnet --dtype bf", ["bfloat16 "]),
        ("reinit alexnet --dtype 'classifier.*=bf", ["classifier.*=bfloat16"]),
        ("reinit alexnet --dtype cl", ["classifier."]),
        ("reinit alexnet --rename cl", ["classifier."]),
        ("reinit alexnet --drop classifier.6.b", ["classifier.6.bias "]),
        ("reinit draw normal --dtype cl", []),
        ("reinit inits xavier_u", ["xavier_uniform"]),
        ("reinit models resnet5", ["resnet50 "]),
        ("reinit verify m.safetensors --record m.s", ["m.safetensors "]),
        ("reinit verify m.safetensors --record=m.s", ["m.safetensors "]),
        ("reinit run m.safetensors --record hea", []),
        ("reinit run m.safetensors --record m.s", ["m.safetensors "]),
        ("reinit completion z", ["zsh "]),
        ("reinit missing.pt -r a", []),
        ("reinit keys m.safetensors --nonsense ", ["features.", "head.", "scale "]),
    ],
)
def test_words_go_on(line: str, candidates: list[str], reinit: Callable[..., Done]) -> None:
    assert _ask(reinit, line) == candidates


def test_names_that_unset_an_option_are_completed_when_they_are_begun(
    reinit: Callable[..., Done],
) -> None:
    shown = _ask(reinit, "reinit alexnet --")
    twins = [each for each in _ask(reinit, "reinit alexnet --no-") if each not in shown]

    assert not {"--no-strict ", "--no-untie ", "--no-reset-buffers "} & {*shown}
    assert {"--no-strict ", "--no-untie ", "--no-reset-buffers "} <= {*twins}
    assert not {"--no-with-buffers ", "--no-weights "} & {*twins}


def _options_of_files() -> list[str]:
    """Return every option that takes a file, as it is written in front of its value."""
    lines = []
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for each in command.params:
            metavar = each.metavar or ""
            if isinstance(each, click.Option) and ("FILE" in metavar or each.name == "output"):
                lines += [f"reinit {name} {spelled}=" for spelled in each.opts if len(spelled) > 2]
                if not metavar.startswith("[="):
                    lines += [f"reinit {name} {spelled} " for spelled in each.opts]
    return lines


@pytest.mark.parametrize("line", _options_of_files())
def test_every_option_that_takes_a_file_completes_files(
    line: str, reinit: Callable[..., Done]
) -> None:
    (candidate,) = _ask(reinit, f"{line}m.saf", "zsh")

    assert candidate.endswith("m.safetensors ")


def test_the_word_after_a_bare_record_is_a_source(reinit: Callable[..., Done]) -> None:
    assert _ask(reinit, "reinit --record m.safetensors -r hea") == ["head."]
    assert _ask(reinit, "reinit --record alexn") == ["alexnet "]


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
        "import sys; from reinit_cli.cli.completion.candidates import keys_of; keys = keys_of('alexnet'); "
        "sys.exit('torch' in sys.modules or len(keys) != 16)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_cache_is_used_until_the_file_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "_CACHED_FROM", 1)
    first = keys_of("m.safetensors")
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace("scale", "cached"))
    second = keys_of("m.safetensors")
    save_file({"new": torch.zeros(3)}, "m.safetensors")

    assert sorted(first) == sorted(KEYS)
    assert "cached" in second
    assert keys_of("m.safetensors") == ["new"]


def test_the_keys_are_those_of_the_root_that_is_chosen(reinit: Callable[..., Done]) -> None:
    zero = torch.zeros(1)
    torch.save({"state_dict": {"a.b": zero}, "ema": {"c.d": zero}}, "training.pt")

    assert _ask(reinit, "reinit training.pt -r ") == ["a."]
    assert _ask(reinit, "reinit training.pt --root ema -r ") == ["c."]
    assert _ask(reinit, "reinit training.pt --root=ema -r ") == ["c."]


def test_a_root_is_a_place_with_tensors_in_what_a_file_holds(reinit: Callable[..., Done]) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    held = {"model": state, "optimizer": optimizer.state_dict(), "net": {"ema": state}, "epoch": 3}
    torch.save(held | {"loss": torch.ones(()), "$(touch pwned)": state}, "training.pt")
    distributed_checkpoint.save({"gen": state, "epoch": 3}, checkpoint_id="dcp", no_dist=True)
    Path("broken.pt").write_bytes(b"PK")

    roots = ["model ", "optimizer ", "optimizer.state ", "net.ema "]
    assert _ask(reinit, "reinit keys training.pt --root ") == roots
    assert _ask(reinit, "reinit training.pt --root=op") == ["optimizer ", "optimizer.state "]
    assert _ask(reinit, "reinit keys dcp --root ") == ["gen "]
    assert _ask(reinit, "reinit keys dcp training.pt --root ") == ["gen "]
    assert _ask(reinit, "reinit dcp training.pt --root ") == ["gen ", *roots]
    assert [reinit("keys", "training.pt", "--root", each.strip()).code for each in roots] == [0] * 4
    for source in ("broken.pt", "m.safetensors", "alexnet", "missing.pt", "-"):
        assert _ask(reinit, f"reinit keys {source} --root ") == []


def test_the_keys_are_those_of_all_sources(reinit: Callable[..., Done]) -> None:
    save_file({"other.w": torch.zeros(1)}, "other.safetensors")

    assert _ask(reinit, "reinit m.safetensors other.safetensors -r o") == ["other."]
    assert _ask(reinit, "reinit diff missing.pt other.safetensors o") == ["other."]
    assert _ask(reinit, "reinit keys m.safetensors other.safetensors o") == []


@pytest.mark.slow
def test_the_keys_of_a_model_are_those_of_its_weights(reinit: Callable[..., Done]) -> None:
    """With its weights, googlenet has no auxiliary classifiers."""
    assert _ask(reinit, "reinit googlenet -r aux1.fc2") == []
    assert _ask(reinit, "reinit googlenet --weights none -r aux1.fc2") == ["aux1.fc2."]


def test_home_and_variables_are_followed(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    save_file({"at.home": torch.zeros(1)}, home / "x.safetensors")
    monkeypatch.setenv("HOME", str(home))

    assert _ask(reinit, "reinit ~/x") == ["~/x.safetensors "]
    assert _ask(reinit, "reinit ~/x.safetensors -r a") == ["at."]
    assert _ask(reinit, "reinit $HOME/x.safetensors -r a") == ["at."]


def test_paths_are_quoted_as_the_word_is(reinit: Callable[..., Done]) -> None:
    Path("x (1) $HOME.pt").touch()
    Path("x\n2.pt").touch()

    assert _ask(reinit, "reinit x") == [r"x\ \(1\)\ \$HOME.pt "]
    assert _ask(reinit, 'reinit "x') == [r"x (1) \$HOME.pt"]
    assert _ask(reinit, "reinit 'x") == ["x (1) $HOME.pt"]
    assert _ask(reinit, "reinit x", "fish") == ["x (1) $HOME.pt"]


def test_a_named_pipe_is_left_to_the_command(reinit: Callable[..., Done]) -> None:
    os.mkfifo("pipe.pt")

    assert _ask(reinit, "reinit pipe.pt -r ") == []


def test_a_cache_that_cannot_be_finished_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(candidates, "_CACHED_FROM", 1)
    monkeypatch.setattr(os, "replace", fail)

    assert sorted(keys_of("m.safetensors")) == sorted(KEYS)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamp": 1}', "[" * 100_000, "\udcff"])
def test_a_cache_that_is_damaged_is_none(
    content: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "_CACHED_FROM", 1)
    keys_of("m.safetensors")
    (kept,) = cache.iterdir()
    kept.write_bytes(content.encode(errors="surrogateescape"))

    assert sorted(keys_of("m.safetensors")) == sorted(KEYS)


def test_a_cache_that_cannot_be_written_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_CACHED_FROM", 1)
    Path("blocked").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", "blocked")

    assert sorted(keys_of("m.safetensors")) == sorted(KEYS)


@pytest.mark.parametrize(
    ("line", "before", "word", "typed", "quote"),
    [
        ("reinit a b", ("reinit", "a"), "b", "b", ""),
        ("reinit a ", ("reinit", "a"), "", "", ""),
        ("reinit 'a b", ("reinit",), "a b", "a b", "'"),
        (r'reinit "a\"b\.d" c\ d', ("reinit", r'a"b\.d'), "c d", r"c\ d", ""),
        ("reinit ''x'y'\"z\"", ("reinit",), "xyz", "''x'y'\"z\"", ""),
        ("reinit '' x", ("reinit", ""), "x", "x", ""),
        ("reinit a=b", ("reinit",), "a=b", "b", ""),
        ('reinit "a=b"=c', ("reinit",), "a=b=c", "c", ""),
        ('reinit --rule="a.', ("reinit",), "--rule=a.", "a.", '"'),
        (r"reinit a\=b", ("reinit",), "a=b", r"a\=b", ""),
    ],
)
def test_a_line_is_split_as_bash_splits_it(
    line: str, before: tuple[str, ...], word: str, typed: str, quote: str
) -> None:
    assert read_line(line, BREAKS) == (before, word, typed, quote)


@given(st.text("ab '\"\\=", max_size=20))
def test_words_that_are_finished_are_those_of_a_posix_shell(line: str) -> None:
    read = read_line(f"{line} ")
    try:
        words = shlex.split(f"{line} ")
    except ValueError:  # a quote is open
        words = None

    assert (read.quote == "") == (words is not None)
    if words is not None:
        assert [*read.before, read.word] in ([*words, ""], words)


@given(st.text(max_size=60))
def test_any_line_is_split(line: str) -> None:
    read = read_line(line, BREAKS)

    assert line.endswith(read.typed)
    assert read.quote in ("", "'", '"')


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

    assert seconds("ten.safetensors") < 1
    assert seconds("many.safetensors") < 1  # from the cache


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
    """Type into a shell in a terminal; return what its line becomes.

    Ctrl-T makes a shell print its line: an echo on a terminal is full of repairs.
    """
    tool(shell[0])
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell, stdin=theirs, stdout=theirs, stderr=theirs, env=tools, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            os.write(ours, f"{setup}; echo rea''dy\n".encode())
            _read_until(ours, "ready\r\n")
            os.write(ours, f"{typed}\x14".encode())
            return _read_until(ours, "]line\r\n").rpartition("line[")[2].partition("]line")[0]
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
BASH_SETUP = (
    """bind -x '"\\C-t": echo "line[$READLINE_LINE]line"'; eval "$(reinit completion bash)" """
)
ZSH = ["zsh", "-f", "-i"]
ZSH_SETUP = """PS1='> '; autoload -U compinit; compinit -u; eval "$(reinit completion zsh)"
show() { print -r -- "line[$BUFFER]line" }; zle -N show; bindkey '^T' show"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("reinit m.safetensors -r hea\t", "reinit m.safetensors -r head."),
        ("reinit m.safetensors -r head.\t", "reinit m.safetensors -r head.weight="),
        ("reinit x -r head.weight=orth\t", "reinit x -r head.weight=orthogonal"),
        ("reinit x -r head.weight=normal:s\t", "reinit x -r head.weight=normal:std="),
        ("reinit keys m.saf\t", "reinit keys m.safetensors "),
        ("reinit comp\tba\t", "reinit completion bash "),
        # A quote stays open while the rule goes on.
        (
            'reinit m.safetensors -r "hea\tw\tor\t"',
            'reinit m.safetensors -r "head.weight=orthogonal"',
        ),
        ('reinit x -r "a=normal:s\t', 'reinit x -r "a=normal:std='),
        ('reinit m.safetensors --rule="head.w\t', 'reinit m.safetensors --rule="head.weight='),
        ('reinit keys m.safetensors "head.w\t', 'reinit keys m.safetensors "head.weight"'),
        # A file whose name a pattern matches does not take its place.
        (
            'reinit m.safetensors -r "features.*.wei\t',
            'reinit m.safetensors -r "features.*.weight=',
        ),
        ("reinit m.safetensors -r features.*.wei\t", "reinit m.safetensors -r features.*.weight="),
        ("reinit my\t-r hea\t", r"reinit my\ model\ \(1\).safetensors -r head."),
    ],
)
def test_bash_completes(typed: str, line: str, tools: dict[str, str]) -> None:
    shutil.copy("m.safetensors", "my model (1).safetensors")
    Path("features.x.weight=").touch()

    assert _typed(BASH, BASH_SETUP, typed, tools) == line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("reinit comp\tz\t", "reinit completion zsh "),
        ("reinit x -r head.weight=orth\t", "reinit x -r head.weight=orthogonal"),
        (
            'reinit m.safetensors -r "features.*.wei\t',
            'reinit m.safetensors -r "features.*.weight=',
        ),
        (
            'reinit m.safetensors --rule="[fh]*.0.w\t',
            r"reinit m.safetensors --rule=\[fh\]\*.0.weight=",
        ),
        ("reinit my\t-r hea\t", r"reinit my\ model\ \(1\).safetensors -r head."),
    ],
)
def test_zsh_completes(typed: str, line: str, tools: dict[str, str]) -> None:
    shutil.copy("m.safetensors", "my model (1).safetensors")

    assert _typed(ZSH, ZSH_SETUP, typed, tools) == line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "setup"), [(BASH, BASH_SETUP), (ZSH, ZSH_SETUP)], ids=["bash", "zsh"]
)
def test_shells_obey_no_key(shell: list[str], setup: str, tools: dict[str, str]) -> None:
    save_file({key: torch.zeros(1) for key in HOSTILE}, "x.safetensors")

    assert _typed(shell, setup, "reinit x.safetensors -r \t\t\t", tools).rstrip().endswith("-r")
    assert not Path("pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        ("m.safetensors -r fe", ["features."]),
        ("m.safetensors -r head.weight = orth", ["orthogonal"]),
        ("m.safetensors --rule = hea", ["head."]),
        ("m.safetensors -r head.weight = normal : st", ["std="]),
    ],
)
def test_the_function_of_bash_can_be_called_with_words(
    words: str, candidates: list[str], tools: dict[str, str]
) -> None:
    code = """eval "$(reinit completion bash)"; COMP_WORDS=(reinit "$@"); COMP_CWORD=$#
              _reinit reinit; printf '%s\\n' "${COMPREPLY[@]}" """

    done = subprocess.run(
        ["bash", "-c", code, "bash", *words.split()],
        env=tools,
        check=True,
        capture_output=True,
        text=True,
    )

    assert (done.stdout.splitlines(), done.stderr) == (candidates, "")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_read(shell: str, tools: dict[str, str]) -> None:
    tool(shell)
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
