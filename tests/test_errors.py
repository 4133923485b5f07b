"""Every refusal is one of a few families, which know the facts and the built-in they are."""

from __future__ import annotations

import ast
import builtins
import inspect
import pickle
import re
from pathlib import Path

import pytest

from reinit_cli import errors
from reinit_cli.cli.hints import HINTS, hint_of
from reinit_cli.errors import (
    CheckFailedError,
    InputError,
    MalformedFileError,
    MissingRuleError,
    OutputExistsError,
    PackageError,
    RecipeError,
    ReinitError,
    RuleError,
    SourceNotFoundError,
    UnfillableError,
    UnknownNameError,
    UnmatchedRuleError,
    UnreadableSourceError,
)

FAMILIES = {
    name: each
    for name, each in vars(errors).items()
    if inspect.isclass(each) and issubclass(each, ReinitError)
}
DRAWN = [
    (len(found[1]) // 4, found[2], tuple(found[3].split(", ")) if found[3] else ())
    for found in re.finditer(
        r"^((?:[│├└ ][─ ]{3})*)(\w+Error)\b(?: \(([\w, ]+)\))?", errors.__doc__ or "", re.MULTILINE
    )
]


def test_there_are_few_enough_to_know_them() -> None:
    assert len(FAMILIES) <= 25


def test_the_tree_is_drawn_as_it_is() -> None:
    """Each stands below its base, and names the built-in exception that it also is."""
    above: list[str] = []
    for depth, name, also in DRAWN:
        parent = above[depth - 1] if depth else "Exception"
        bases = [base.__name__ for base in FAMILIES[name].__bases__]
        assert bases == [parent, *also]
        assert all(issubclass(getattr(builtins, each), Exception) for each in also)
        above[depth:] = [name]
    assert sorted(FAMILIES) == sorted(name for _, name, _ in DRAWN)


SAID: dict[str, tuple[ReinitError, str, str | None]] = {
    "name": (
        UnknownNameError("orthogonl", known=["orthogonal", "normal"], kind="initializer"),
        "unknown initializer 'orthogonl'",
        "did you mean orthogonal?",
    ),
    "name like no other": (
        UnknownNameError("x", known=["orthogonal"], kind="initializer"),
        "unknown initializer 'x'",
        "reinit inits lists the initializers",
    ),
    "weights": (
        UnknownNameError("v9", "it has none", ["none"], kind="weights", of="net"),
        "net has no weights 'v9'; it has none",
        "--weights none builds it without",
    ),
    "dtype that is no float": (
        UnknownNameError("int8", known=["float64", "bfloat16"], kind="float dtype"),
        "dtype 'int8' is not a floating-point one",
        "--dtype takes float64, float32, float16, bfloat16 or one of the float8 dtypes",
    ),
    "no rule": (
        MissingRuleError("my net.pt"),
        "no rule was given, so there is nothing to do",
        "give one, such as -r \"*.weight=xavier_uniform:relu\"; reinit info 'my net.pt' shows what "
        "there is",
    ),
    "rule of one missing letter": (
        UnmatchedRuleError("fc.weigt=zeros", "matches no key of m", ["fc.weight"], word="fc.weigt", of="m"),
        "rule 'fc.weigt=zeros' matches no key of m",
        "did you mean -r fc.weight=zeros?",
    ),
    "unfillable": (
        UnfillableError("a", "it has 1 dimension", word="a=eye", of="eye"),
        "rule 'a=eye' cannot fill 'a': it has 1 dimension",
        "leave it out, or see reinit inits eye",
    ),
    "missing file": (
        SourceNotFoundError("d/im.pt", known=["in.pt", "other"]),
        "no such file: 'd/im.pt'",
        "did you mean d/in.pt?",
    ),
    "unreadable": (UnreadableSourceError("m", "is a pipe"), "cannot read 'm': is a pipe", None),
    "damaged": (
        MalformedFileError("m", "the CRC-32 of 'x' does not match", "crc"),
        "'m' is damaged: the CRC-32 of 'x' does not match",
        "download it again, or continue with --no-verify-crc",
    ),
    "existing report": (
        OutputExistsError("r.html", kind="report"),
        "'r.html' already exists",
        "name another with --report (reinit run -h shows how to overwrite)",
    ),
    "field": (
        RecipeError("r", "unknown field 'sed'", ["seed", "rule"], word="sed"),
        "recipe 'r': unknown field 'sed'",
        "did you mean seed?",
    ),
    "plug-in": (
        PackageError("pkg", "SyntaxError: no", kind="plugin", of="more"),
        "the initializers 'more' of pkg cannot be loaded: SyntaxError: no",
        "fix or remove it: pip uninstall pkg",
    ),
    "checks": (
        CheckFailedError(["a is off", "b is off"]),
        "a is off; 1 more tests failed",
        "nothing was written; try another --seed, or leave out --check",
    ),
    "one of several inputs": (
        InputError("a.pt", RuleError("x", "resize 'x' matches nothing", kind="resize", word="x")),
        "a.pt: resize 'x' matches nothing",
        "write it as PATTERN=N:INIT, such as embed.weight=50300:mean or :normal:std=0.02",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("error", "text", "hint"), SAID.values(), ids=SAID)
def test_facts_make_the_text_and_the_hint(error: ReinitError, text: str, hint: str | None) -> None:
    assert (str(error), hint_of(error)) == (text, hint)


@pytest.mark.parametrize("error", [case[0] for case in SAID.values()], ids=SAID)
def test_an_error_of_another_process_arrives_whole(error: ReinitError) -> None:
    """Process pools send exceptions by pickle."""
    arrived = pickle.loads(pickle.dumps(error))

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert {name: vars(arrived)[name] for name in ("about", "problem", "known", "kind", "of")} == {
        name: vars(error)[name] for name in ("about", "problem", "known", "kind", "of")
    }


def _raised() -> list[tuple[str, str]]:
    """Return the family and the kind of every error that the package makes with a kind."""
    found = []
    for path in Path(errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found += [
                    (node.func.id, word.value.value)
                    for word in node.keywords
                    if word.arg == "kind"
                    and node.func.id in FAMILIES
                    and isinstance(word.value, ast.Constant)
                ]
    return sorted(set(found))


@pytest.mark.parametrize(("family", "kind"), _raised())
def test_every_kind_that_is_raised_has_a_sentence_or_a_hint_of_its_own(
    family: str, kind: str
) -> None:
    each = FAMILIES[family]

    assert kind in each.sentences or (each, kind) in HINTS
