"""What a shell, a word processor or haste makes of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.cli.group import COMMANDS
from tests.cli.conftest import Done

SPLIT = "error: the shell split a rule at its spaces"
EXPANDED = "error: the shell expanded the braces of a rule"

MISTYPED = {
    "m.safetensors fc.weight=zeros": (
        "error: 'fc.weight=zeros' is a rule, and needs -r before it",
        "hint: type: reinit m.safetensors -r fc.weight=zeros",
    ),
    "'fc.*=zeros' m.safetensors -n": (
        "error: 'fc.*=zeros' is a rule, and needs -r before it",
        "hint: type: reinit -r 'fc.*=zeros' m.safetensors -n",
    ),
    "fc.weight=zeros": (
        "error: 'fc.weight=zeros' is a rule, and needs -r before it",
        "hint: type: reinit -r fc.weight=zeros",
    ),
    "m.safetensors fc.weight:normal:std=0.02": (
        "error: 'fc.weight:normal:std=0.02' is a rule, and needs -r before it",
        "hint: type: reinit m.safetensors -r fc.weight=normal:std=0.02",
    ),
    "m.safetensors -r fc.weight=zeros fc.bias=ones": (
        "error: 'fc.bias=ones' is a rule, and needs -r before it",
        "hint: type: reinit m.safetensors -r fc.weight=zeros -r fc.bias=ones",
    ),
    "m.safetensors -r layers.2.x=zeros layers.3.x=zeros": (
        EXPANDED,
        "hint: quote it: -r 'layers.{2,3}.x=zeros'",
    ),
    "m.safetensors -r layers.0.x=zeros layers.1.x=zeros layers.2.x=zeros": (
        EXPANDED,
        "hint: quote it: -r 'layers.{0..2}.x=zeros'",
    ),
    "-r encoder.x=normal:std=1 decoder.x=normal:std=1 m.safetensors": (
        EXPANDED,
        "hint: quote it: -r '{encoder,decoder}.x=normal:std=1'",
    ),
    "m.safetensors -r fc.weight = normal": (SPLIT, "hint: quote it: -r fc.weight=normal"),
    "m.safetensors -r fc.weight= zeros": (SPLIT, "hint: quote it: -r fc.weight=zeros"),
    "m.safetensors -r fc.weight =zeros": (SPLIT, "hint: quote it: -r fc.weight=zeros"),
    "m.safetensors --rule=fc.weight = zeros": (SPLIT, "hint: quote it: -r fc.weight=zeros"),
    "m.safetensors --rule= fc.weight=zeros": (SPLIT, "hint: quote it: -r fc.weight=zeros"),
    "m.safetensors -r fc.weight[:, :3]=zeros": (
        SPLIT,
        "hint: quote it: -r 'fc.weight[:, :3]=zeros'",
    ),
    "m.safetensors -r fc.weight[:, :3]=zeros fc.bias=ones": (
        SPLIT,
        "hint: quote it: -r 'fc.weight[:, :3]=zeros'",
    ),
    "m.safetensors -r fc.weight normal:std=0.02": (
        SPLIT,
        "hint: quote it: -r fc.weight=normal:std=0.02",
    ),
    "m.safetensors -r fc.weight=normal std=0.02": (
        SPLIT,
        "hint: quote it: -r 'fc.weight=normal std=0.02'",
    ),
    "m.safetensors –r fc.weight=zeros": (
        "error: '–r' begins with a dash, not with a hyphen",
        "hint: type: reinit m.safetensors -r fc.weight=zeros",
    ),
    "m.safetensors —rule fc.weight=zeros": (
        "error: '—rule' begins with a dash, not with a hyphen",
        "hint: type: reinit m.safetensors --rule fc.weight=zeros",
    ),
    "m.safetensors keys": (
        "error: 'keys' is a command, and comes first",
        "hint: type: reinit keys m.safetensors",
    ),
    "m.safetensors stats 'fc.*' --sort std": (
        "error: 'stats' is a command, and comes first",
        "hint: type: reinit stats m.safetensors 'fc.*' --sort std",
    ),
    "m.safetensors run -r fc.weight=zeros": (
        "error: 'run' is a command, and comes first",
        "hint: type: reinit run m.safetensors -r fc.weight=zeros",
    ),
    "run help": (
        "error: 'help' is a command, and comes first",
        "hint: type: reinit help run",
    ),
    "m.safetensors help": (
        "error: 'help' is a command, and comes first",
        "hint: type: reinit help",
    ),
    "keys help": (
        "error: 'help' comes before the command",
        "hint: type: reinit help keys",
    ),
    "--wide keys m.safetensors": (
        "error: 'keys' is a command, and comes first",
        "hint: type: reinit keys --wide m.safetensors",
    ),
    "-q keys m.safetensors": (
        "error: 'keys' is a command, and comes first",
        "hint: type: reinit keys -q m.safetensors",
    ),
    "keys 'fc.*'": (
        "error: missing SOURCE before 'fc.*'",
        "hint: write it as reinit keys FILE 'fc.*'",
    ),
    "keys m": (
        "error: 'm' is neither a torchvision model nor a file",
        "hint: did you mean m.safetensors?",
    ),
    "keys nowhere/m.safetensors": (
        "error: no such file: 'nowhere/m.safetensors'",
        "hint: the folder nowhere is empty or does not exist",
    ),
    "m.safetensors -r fc.weight=rewind:step0.bin": (
        "error: no such file: 'step0.bin'",
        "hint: there is m.safetensors",
    ),
    "m.safetensors -r fc.weight=m.safetensors": (
        "error: unknown initializer 'm.safetensors'",
        "hint: did you mean rewind:m.safetensors?",
    ),
    "m.safetensors -x 'fc.*=zeros'": (
        "error: -x 'fc.*=zeros' matches no key of m.safetensors",
        "hint: -x takes a pattern without an initializer: -x 'fc.*'",
    ),
    "m.safetensors -r fc.weight=delete": (
        "error: unknown initializer 'delete'",
        "hint: --drop PATTERN leaves tensors out",
    ),
    "m.safetensors -r fc.weight=": (
        "error: rule 'fc.weight=' has no initializer: PATTERN=INIT",
        "hint: give it an initializer, such as -r fc.weight=zeros",
    ),
    "m.safetensors -r =normal": (
        "error: rule '=normal' has no pattern: PATTERN=INIT",
        "hint: say which tensors: -r '*.weight=normal'",
    ),
    "m.safetensors --rename fc=head": (
        "error: rename 'fc=head' matches no key of m.safetensors",
        "hint: did you mean --rename 'fc.*=head.*'?",
    ),
    "m.safetensors --rename weight=w": (
        "error: rename 'weight=w' matches no key of m.safetensors",
        "hint: did you mean --rename '*.weight=*.w'?",
    ),
    "verify m.safetensors source.pt": (
        "error: unexpected argument 'source.pt'",
        "hint: if it is the source, type: reinit verify m.safetensors --source source.pt",
    ),
    "show m.safetensors 'fc.weight[0]'": (
        "error: 'fc.weight[0]' is a part of a tensor, not a key",
        "hint: did you mean: reinit show m.safetensors fc.weight --slice 0?",
    ),
    "show m.safetensors fc.weight 0": (
        "error: '0' is a slice, not a key",
        "hint: did you mean: reinit show m.safetensors fc.weight --slice 0?",
    ),
    "show m.safetensors": (
        "error: missing KEY or PATTERN",
        "hint: write it as reinit show SOURCE KEY; '*' shows every tensor",
    ),
    "keys 'fc.*' m.safetensors": (
        "error: the source comes before 'fc.*'",
        "hint: type: reinit keys m.safetensors 'fc.*'",
    ),
    "show fc.weight m.safetensors": (
        "error: the source comes before 'fc.weight'",
        "hint: type: reinit show m.safetensors fc.weight",
    ),
    "m.safetensors 'fc.*'": (
        "error: no such file: 'fc.*'",
        "hint: if it is a pattern, type: reinit keys m.safetensors 'fc.*'",
    ),
    "fc.weight m.safetensors": (
        "error: no such file: 'fc.weight'",
        "hint: if it is a pattern, type: reinit keys m.safetensors fc.weight",
    ),
    "m.safetensors new.pt -r fc.weight=zeros": (
        "error: no such file: 'new.pt'",
        "hint: if it is the output, type: reinit m.safetensors -o new.pt -r fc.weight=zeros",
    ),
    "m.safetensors -r fc.weight=zeros --record r.json": (
        "error: --record takes no file, such as 'r.json'",
        "hint: write it as --record-to r.json",
    ),
    "m.safetensors -r fc.weight=normal -s 0 3 7": (
        "error: several seeds are one word",
        "hint: write them as -s 0,3,7",
    ),
    "m.safetensors -r fc.weight=zeros -o new.safetensor": (
        "error: cannot write 'new.safetensor': its suffix does not name a format; use one of "
        ".safetensors, .pt, .pth, .bin, .ckpt, .th, .pth.tar, .pt.tar",
        "hint: did you mean -o new.safetensors?",
    ),
    "m.safetensors -r fc.weight=zeros -o new.tp": (
        "error: cannot write 'new.tp': its suffix does not name a format; use one of "
        ".safetensors, .pt, .pth, .bin, .ckpt, .th, .pth.tar, .pt.tar",
        "hint: did you mean -o new.pt?",
    ),
    "m.safetensors -r fc.weight=zeros --record-to ''": (
        "error: invalid value for '--record-to': it is empty",
        "hint: reinit run --help shows how",
    ),
    "resnet18 --weights '' -r fc.weight=zeros": (
        "error: invalid value for '--weights': it is empty",
        "hint: reinit run --help shows how",
    ),
    "m.safetensors -r 'fc.weight=keras.initializers.HeNormal()'": (
        "error: unknown initializer 'keras.initializers.HeNormal()'",
        "hint: did you mean he_normal?",
    ),
    "m.safetensors -r 'fc.weight=jax.nn.initializers.normal(0.02)'": (
        "error: unknown initializer 'jax.nn.initializers.normal(0.02)'",
        "hint: did you mean normal?",
    ),
    "inits normal:std=0.02": (
        "error: unknown initializer 'normal:std=0.02'",
        "hint: did you mean normal?",
    ),
    "m.safetensors -r ''": (
        "error: rule '' needs an '=': PATTERN=INIT",
        "hint: write it as -r PATTERN=INIT, such as -r '*.weight=zeros'",
    ),
    "m.safetensors -r -n": (
        "error: rule '-n' needs an '=': PATTERN=INIT",
        "hint: write it as -r PATTERN=INIT, such as -r '*.weight=zeros'",
    ),
    "m.safetensors -r fc.weight=zeros -o ''": (
        "error: output '': the name is empty",
        "hint: name a file or a folder, such as -o new.safetensors",
    ),
    "m.safetensors -r *=zeros -x fc -n": (
        "error: -x 'fc' matches no key of m.safetensors",
        "hint: did you mean -x 'fc.*'?",
    ),
    r"m.safetensors -r 're:fc\.w=zeros'": (
        r"error: rule 're:fc\.w=zeros' matches no key of m.safetensors",
        r"hint: a regular expression must match the whole key: did you mean -r 're:fc\.w.*=zeros'?",
    ),
    "m.safetensors -r fc.weight=zeros -x 'nothing*' -n": (
        "error: -x 'nothing*' matches no key of m.safetensors",
        "hint: list the keys with: reinit keys m.safetensors",
    ),
    "m.safetensors --resize 'nothing*=9:zeros' -n": (
        "error: resize 'nothing*=9:zeros' matches no key of m.safetensors",
        "hint: list the keys with: reinit keys m.safetensors",
    ),
    "m.safetensors -r 'layers.{6..7}.weight=zeros'": (
        "error: rule 'layers.{6..7}.weight=zeros' matches no key of m.safetensors",
        "hint: the numbers after 'layers.' are 0..5",
    ),
    "m.safetensors -r 'layers.-1.weight=zeros'": (
        "error: rule 'layers.-1.weight=zeros' matches no key of m.safetensors",
        "hint: did you mean -r 'layers.{-1}.weight=zeros'?",
    ),
    "m.safetensors -r 'layers[0].weight=zeros'": (
        "error: rule 'layers[0].weight=zeros' matches no key of m.safetensors",
        "hint: did you mean -r layers.0.weight=zeros?",
    ),
    "m.safetensors -r 'layers.[10-15].weight=zeros'": (
        "error: pattern 'layers.[10-15].weight': [10-15] is a set of characters; a range is "
        "{10..15}",
        None,
    ),
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    layers = {f"layers.{at}.weight": torch.ones(2, 2) for at in range(6)}
    save_file({"fc.weight": torch.ones(3, 2), "fc.bias": torch.ones(3), **layers}, "m.safetensors")


_TWO_RULES = {
    "fc.weight=zeros;fc.bias=ones": "-r fc.weight=zeros -r fc.bias=ones",
    "fc.weight=normal:mean=0,std=0.02,fc.bias=ones": (
        "-r fc.weight=normal:mean=0,std=0.02 -r fc.bias=ones"
    ),
    "fc.*=zeros *.bias=normal(0, 0.02)": "-r 'fc.*=zeros' -r '*.bias=normal(0, 0.02)'",
}


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("option", ["-r ", "-r", "--rule=", "--rule "])
@pytest.mark.parametrize(("typed", "rules"), _TWO_RULES.items())
def test_several_rules_in_one_value_are_answered_with_an_option_for_each(
    typed: str, rules: str, option: str, reinit: Callable[..., Done]
) -> None:
    done = reinit(*shlex.split(f"m.safetensors {option}{shlex.quote(typed)} -n"))

    said = f"error: {typed!r} holds 2 rules, and -r takes one"
    meant = f"m.safetensors {rules} -n"
    assert (done.code, done.err.splitlines()) == (2, [said, f"hint: type: reinit {meant}"])
    assert reinit(*shlex.split(meant)).code == 0


@pytest.mark.usefixtures("model")
def test_an_argument_that_looks_like_a_rule_is_not_taken_for_one(
    reinit: Callable[..., Done],
) -> None:
    typed = "fc.weight=variance_scaling:2,mode=fan_in,distribution=normal,x=1"

    done = reinit("m.safetensors", "-r", typed, "-n")

    assert done.err.startswith("error: variance_scaling: unknown argument 'x'")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("typed", "said"), MISTYPED.items(), ids=MISTYPED)
def test_a_mistyped_command_is_answered_with_what_to_type(
    typed: str, said: tuple[str, str | None], reinit: Callable[..., Done]
) -> None:
    done = reinit(*shlex.split(typed))

    error, *hints = done.err.splitlines()
    assert (done.code, done.out, error) == (2, "", said[0])
    assert len(hints) <= 1
    if said[1] is not None:
        assert hints == [said[1]]
    assert [path.name for path in Path().iterdir()] == ["m.safetensors"]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("typed", [each for each, (_, hint) in MISTYPED.items() if hint])
def test_the_command_that_is_offered_is_no_mistype(typed: str, reinit: Callable[..., Done]) -> None:
    """Whoever pastes the hint is not told the same again."""
    hint = MISTYPED[typed][1] or ""
    if not hint.startswith("hint: type: reinit "):
        return
    offered = shlex.split(hint.removeprefix("hint: type: reinit "))
    if offered[0] in COMMANDS or offered[0] == "help":
        assert reinit(*offered).code == 0
        return

    done = reinit(*offered, "-n")

    assert "is a rule, and needs -r" not in done.err
    assert "dash" not in done.err


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("quotes", ["“”", "‘’", "''", '""'])
def test_quotes_around_a_whole_rule_are_not_part_of_it(
    quotes: str, reinit: Callable[..., Done]
) -> None:
    first, last = quotes

    quoted = reinit(
        "m.safetensors", "-r", f"{first}fc.weight=normal:std=0.02{last}", "-n", "--json"
    )

    assert quoted == reinit("m.safetensors", "-r", "fc.weight=normal:std=0.02", "-n", "--json")
    assert quoted.code == 0


@pytest.mark.usefixtures("model")
def test_a_short_option_takes_its_value_behind_an_equals_sign(reinit: Callable[..., Done]) -> None:
    done = reinit("m.safetensors", "-r=fc.weight=zeros", "-s=3", "-o=new.safetensors", "-q")

    assert done == Done(0, "", "")
    assert sorted(path.name for path in Path().iterdir()) == ["m.safetensors", "new.safetensors"]


@pytest.mark.usefixtures("model")
def test_a_hint_for_an_exclusion_is_taken_back(reinit: Callable[..., Done]) -> None:
    done = reinit("m.safetensors", "-r", "*=zeros", "-x", "fc", "-n")
    offered = shlex.split(done.err.splitlines()[1].removeprefix("hint: did you mean ").rstrip("?"))

    assert reinit("m.safetensors", "-r", "*=zeros", *offered, "-n").code == 0


@pytest.mark.parametrize(
    ("name", "text", "way"),
    [
        ("recipe.toml", '[[rule]]\nmatch = "*"\n', "a recipe is given with -c: -c recipe.toml"),
        ("llama/config.json", "{}", "name its folder: llama"),
        ("train.py", "import torch\n", "name a safetensors file, or one that torch.save wrote"),
        ("model.pt", "{}", "the download failed, or is not complete; fetch it again"),
    ],
)
def test_a_text_that_is_no_failed_download_is_not_called_one(
    name: str,
    text: str,
    way: str,
    reinit: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")

    done = reinit(name)

    assert (done.code, done.err.splitlines()[1:]) == (2, [f"hint: {way}"])


def test_a_recipe_among_the_sources_is_named(model: None, reinit: Callable[..., Done]) -> None:
    Path("recipe.toml").write_text('[[rule]]\nmatch = "fc.*"\ninit = "zeros"\n', encoding="utf-8")

    done = reinit("m.safetensors", "recipe.toml", "-n")

    assert done.err.splitlines() == [
        "error: 'recipe.toml' is a recipe, and needs -c before it",
        "hint: type: reinit m.safetensors -c recipe.toml -n",
    ]
    assert reinit("m.safetensors", "-c", "recipe.toml", "-n").code == 0


def test_two_files_alone_are_perhaps_to_be_compared(
    model: None, reinit: Callable[..., Done]
) -> None:
    Path("n.safetensors").write_bytes(Path("m.safetensors").read_bytes())

    done = reinit("m.safetensors", "n.safetensors")

    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "error: no rule was given, so there is nothing to do",
            "hint: to compare them, type: reinit diff m.safetensors n.safetensors",
        ],
    )


def test_spaces_around_the_sign_of_a_resize_are_not_part_of_it(
    model: None, reinit: Callable[..., Done]
) -> None:
    spaced = reinit("m.safetensors", "--resize", "fc.weight = 5:zeros", "-n", "--json")

    assert spaced.code == 0
    assert '"shape": [5, 2]' in spaced.out
