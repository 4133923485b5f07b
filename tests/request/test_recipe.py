"""Recipes: what they say, what is refused, and what overrides what."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import RecipeError
from reinit_cli.operations.recipe_file import read_recipe
from reinit_cli.operations.ways import meant
from reinit_cli.request.partial import PartialRequest, override
from reinit_cli.request.recipe import parse_recipe
from reinit_cli.request.request import OPTIONS
from reinit_cli.request.rule import Rule

TOML = """
seed = 3
device = "cuda:1"
dtype = "bfloat16"
shard_size = "2kB"
strict = true
verify_crc = false

[[rule]]
match = "*.weight"
init = "kaiming_normal"
nonlinearity = "relu"
mode = "fan_out"
min_ndim = 2

[[rule]]
match = "*.bias"
init = "normal:std=0.5"
"""

MEANT = PartialRequest(
    rules=(
        Rule.parse("*.weight=kaiming_normal:relu,fan_out,min_ndim=2"),
        Rule.parse("*.bias=normal:std=0.5"),
    ),
    seeds=(3,),
    device="cuda:1",
    dtype="bfloat16",
    shard_nbytes=2000,
    strict=True,
    verify_crc=False,
)


def _alike(first: PartialRequest, second: PartialRequest) -> bool:
    def meant(recipe: PartialRequest) -> dict[str, object]:
        rules = [(rule.pattern.text, rule.init) for rule in recipe["rules"]]
        return {**recipe, "rules": rules}

    return meant(first) == meant(second)


@pytest.mark.parametrize("path", ["r.toml", "r", "r.txt"])
def test_toml_is_told_by_suffix_or_content(path: str) -> None:
    assert _alike(parse_recipe(TOML.encode(), path), MEANT)


@pytest.mark.parametrize("path", ["r.json", "r", "r.toml.bak"])
def test_json_is_told_by_suffix_or_content(path: str) -> None:
    text = "\ufeff " + json.dumps(tomllib.loads(TOML))

    assert _alike(parse_recipe(text.encode(), path), MEANT)


@pytest.mark.parametrize(
    ("value", "seeds"),
    [("7", (7,)), ('"0..2"', (0, 1, 2)), ('"0,3,-7"', (0, 3, -7)), ('"2..0,9"', (2, 1, 0, 9))],
)
def test_seeds_are_one_or_several(value: str, seeds: tuple[int, ...]) -> None:
    assert parse_recipe(f"seed = {value}".encode(), "r")["seeds"] == seeds


REFUSED = {
    "unknown field": ("sed = 3", "unknown field 'sed'", ("seed",)),
    "a field of a plan": ("seconds = 3", "unknown field 'seconds'", None),
    "a field of the command line": ("force = true", "unknown field 'force'", None),
    "seed of the wrong type": (
        "seed = 1.5",
        "seed must be an integer, not 1.5",
        (),
    ),
    "seed that is true": ("seed = true", "seed must be an integer, not True", ()),
    "seeds that are none": (
        'seed = "0-4"',
        "seed must be an integer, or a text such as '0..4' or '0,3,7', not '0-4'",
        (),
    ),
    "device": ('device = "tpu"', "device must be cpu, cuda, cuda:1, mps or auto, not 'tpu'", ()),
    "dtype": ('dtype = "bfloat61"', "dtype: unknown dtype 'bfloat61'", None),
    "flag": ('strict = "yes"', "strict must be true or false, not 'yes'", ()),
    "size": (
        'shard_size = "big"',
        "shard_size must be bytes, or a text such as '5GB', not 'big'",
        (),
    ),
    "placeholder": (
        'output = "{sed}.pt"',
        "output '{sed}.pt': there is no placeholder '{sed}'; "
        "there is {stem}, {suffix}, {name}, {parent}, {seed}",
        ("seed",),
    ),
    "sources": ("source = [1]", 'source must be a text or several, ["a.pt", "b.pt"], not [1]', ()),
    "version": ("version = 2", "version must be 1, not 2", ()),
    "stream": ('stream = "torsh"', "stream: unknown stream 'torsh'", ("torch",)),
    "newer stream": (
        'stream = "torch-2"',
        "stream: stream 'torch-2' is newer than this reinit, which has torch-1",
        ("torch-1",),
    ),
    "stream that is no text": ("stream = 1", "stream must be a text, not 1", ()),
    "rule that is no table": ('rule = ["*=zeros"]', "rule must be tables, each under [[rule]]", ()),
    "rule without match": ('[[rule]]\ninit = "zeros"', "rule 1: match is missing", ()),
    "rule with a mistyped match": (
        '[[rule]]\nmach = "*"\ninit = "zeros"',
        "rule 1: unknown field 'mach'",
        ("match",),
    ),
    "rule with another word for match": (
        '[[rule]]\npattern = "*"\ninit = "zeros"',
        "rule 1: unknown field 'pattern'",
        ("match",),
    ),
    "rule with another word for init": (
        '[[rule]]\nmatch = "*"\ninitializer = "zeros"',
        "rule 1: unknown field 'initializer'",
        ("init",),
    ),
    "rule with a mistyped argument": (
        '[[rule]]\nmatch = "a"\ninit = "ones"\n[[rule]]\nmatch = "*"\ninit = "normal"\nsdt = 1',
        "rule 2: unknown field 'sdt'; normal takes mean, std, ndim, min_ndim, keep_zeros",
        ("std",),
    ),
    "rule with a mistyped initializer": (
        '[[rule]]\nmatch = "*"\ninit = "orthogonl"',
        "rule 1: unknown initializer 'orthogonl'",
        ("orthogonal",),
    ),
    "rule with a bad pattern": (
        '[[rule]]\nmatch = "a[b"\ninit = "zeros"',
        "rule 1: pattern 'a[b': '[' is not closed; '[[]' is a literal one",
        (),
    ),
    "rule with arguments twice": (
        '[[rule]]\nmatch = "*"\ninit = "normal:std=1"\nmean = 2',
        "rule 1: arguments stand in init or by name, and these stand in init 'normal:std=1' "
        "and in mean",
        (),
    ),
    "argument of the wrong type": (
        '[[rule]]\nmatch = "*"\ninit = "normal"\nstd = true',
        "rule 1: normal: std must be a number of at least 0, not True",
        (),
    ),
    "argument that is a parameter of ours": (
        '[[rule]]\nmatch = "*"\ninit = "normal"\npattern = "x"\ncls = 1',
        "rule 1: unknown field 'pattern'; normal takes mean, std, ndim, min_ndim, keep_zeros",
        None,
    ),
    "argument out of range": (
        '[[rule]]\nmatch = "*"\ninit = "normal"\nstd = -1',
        "rule 1: normal: std must be a number of at least 0, not -1",
        (),
    ),
    "date": ("seed = 2020-01-01", "seed must be an integer, not datetime.date(2020, 1, 1)", ()),
    "member twice": ('{"seed": 1, "seed": 2}', "it has 'seed' twice", ()),
    "dots": ("a." * 50_000 + "a = 1", "a line has more than 8 dots outside of quotes", ()),
    "rules that stand for too many names together": (
        '[[rule]]\nmatch = "{0..9998}"\ninit = "zeros"\n' * 10,
        "its patterns stand for more than 100,000 names",
        (),
    ),
    "regular expressions that are too long together": (
        ('[[rule]]\nmatch = "re:' + "a" * 3000 + '"\ninit = "zeros"\n') * 4,
        "its patterns stand for more than 100,000 names",
        (),
    ),
    "too many rules": (
        json.dumps({"rule": [{"match": "a", "init": "zeros"}] * 9_100}),
        "its patterns stand for more than 100,000 names",
        (),
    ),
    "resizes that stand for too many names together": (
        json.dumps({"resize": ["{0..9999}=3"] * 11}),
        "resize: its patterns stand for more than 100,000 names",
        (),
    ),
    "a text that is too long": (
        json.dumps({"rule": [{"match": "a", "init": "z" * 300_000}]}),
        "a text in it has more than 262,144 characters",
        (),
    ),
    "a name that is too long": (
        json.dumps({"s" * 300_000: 1}),
        "a text in it has more than 262,144 characters",
        (),
    ),
    "names that are long together": (
        f'[[rule]]\nmatch = "{{0..9998}}{"a" * 2000}"\ninit = "zeros"',
        f"rule 1: pattern {'{0..9998}' + 'a' * 51!r}: "
        "the names in it have more than 10,000,000 characters",
        (),
    ),
    "too large": ("#" * 300_000, "it is too large", ()),
    "too many elements": (
        '{"a": [' + "{}," * 4_000_001,
        "it has more parts than any recipe needs",
        (),
    ),
}


@pytest.mark.parametrize(("text", "problem", "near"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(
    text: str, problem: str, near: tuple[str, ...] | None
) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text.encode(), "my recipe")

    assert str(refused.value) == f"recipe 'my recipe': {problem}"
    assert near in (None, meant(refused.value))


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"seed = ", "it is not TOML: "),
        (b"{", "it is not JSON: "),
        (b"\xff", "it is not UTF-8 at byte 0"),
        (b"a = " + b"[" * 100_000, "it is not TOML: "),
        (b'{"a": ' + b"[" * 100_000, "it is not JSON: "),
        (b'{"seed": ' + b"9" * 5000 + b"}", "it is not JSON: "),
        (b"seed = " + b"9" * 5000, "it is not TOML: "),
    ],
)
def test_what_is_no_recipe_is_refused(data: bytes, start: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(data, "r")

    assert str(refused.value).startswith(f"recipe 'r': {start}")


@pytest.mark.parametrize("field", ["seed", "version", "num_classes", "shard_size", "device", "x"])
@pytest.mark.parametrize(
    "number", ["0x" + "f" * 200_000, "0b" + "1" * 200_000, "0o" + "7" * 200_000]
)
def test_a_number_that_no_decimal_has_room_for_is_refused_in_a_line(
    field: str, number: str
) -> None:
    """TOML's other bases have no bound in Python, and writing such a number fails."""
    with pytest.raises(RecipeError, match=r"recipe 'r': (a number in it|unknown field)"):
        parse_recipe(f"{field} = {number}".encode(), "r")


HEAVY = {
    "a name three million times": (
        lambda: b"{" + b'"a":1,' * 3_100_000 + b'"a":1}',
        "it has more parts than any recipe needs",
    ),
    "a name two million times": (
        lambda: b"{" + b'"a":1,' * 2_100_000 + b'"a":1}',
        "it has more names than any recipe needs",
    ),
    "a million rules": (
        lambda: b'{"rule":[' + b'{"match":"*","init":"zeros"},' * 10**6 + b"{}]}",
        "it has more parts than any recipe needs",
    ),
    "a long text": (
        lambda: b'{"seed":"' + b"9" * 2**25 + b'"}',
        "a text in it has more than 262,144 characters",
    ),
    "a long text and a character of four bytes": (
        lambda: b'{"seed":"' + b"9" * 2**25 + "\U0001f600".encode() + b'"}',
        "it is too long for text that is not ASCII",
    ),
    "a long text and a character of four bytes as its escape": (
        lambda: b'{"seed":"' + b"9" * 2**25 + b'\\ud83d\\ude00"}',
        "it is too long for text that is not ASCII",
    ),
}


@pytest.mark.parametrize(("made", "problem"), HEAVY.values(), ids=HEAVY)
def test_a_json_that_would_take_much_memory_is_refused_before_it_is_parsed(
    made: Callable[[], bytes], problem: str
) -> None:
    data = made()

    tracemalloc.start()
    try:
        with pytest.raises(RecipeError) as refused:
            parse_recipe(data, "r.json")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert str(refused.value) == f"recipe 'r.json': {problem}"
    assert peak < 2 * len(data) + 2**20


def test_a_json_that_is_no_object_is_refused() -> None:
    with pytest.raises(RecipeError, match="it is not an object of fields"):
        parse_recipe(b"[1]", "r.json")


def test_dots_in_quotes_and_comments_are_free() -> None:
    text = "# a.b.c.d.e.f.g.h.i.j.k.l\n[[rule]]\nmatch = 'a.b.c.d.e.f.g.h.i.j.k.l'\ninit = \"ones\""

    assert parse_recipe(text.encode(), "r")["rules"][0].pattern.text == "a.b.c.d.e.f.g.h.i.j.k.l"


def test_a_recipe_that_is_not_there_names_the_nearest() -> None:
    Path("recipe.toml").touch()

    with pytest.raises(RecipeError) as refused:
        read_recipe("recipes.toml")

    assert str(refused.value) == "recipe 'recipes.toml': no such file or directory"
    assert hint_of(refused.value) == "did you mean recipe.toml?"


def test_a_later_recipe_overrides_and_its_rules_come_after() -> None:
    first = PartialRequest(
        rules=(Rule.parse("a=zeros"),), seeds=(1,), device="cuda", strict=True, resize=("a=1",)
    )
    second = PartialRequest(
        rules=(Rule.parse("b=ones"),), seeds=(2,), strict=False, resize=("b=2",)
    )

    assert override(first, second) == {
        "rules": (Rule.parse("a=zeros"), Rule.parse("b=ones")),
        "resize": ("a=1", "b=2"),
        "seeds": (2,),
        "device": "cuda",
        "strict": False,
    }


def test_what_is_said_with_a_source_goes_with_it() -> None:
    recipe = PartialRequest(
        sources=("a",), output="o.pt", weights="none", root="x", dtype="float16"
    )

    assert override(recipe, {"sources": ("a",), "seeds": (1,)})["output"] == "o.pt"
    assert override(recipe, {"seeds": (1,)})["weights"] == "none"
    other = override(recipe, {"sources": ("b",)})
    assert not other.keys() & {"output", "weights", "root"}
    assert (other["sources"], other["dtype"]) == (("b",), "float16")
    assert override({"output": "o.pt"}, {"sources": ("b",)})["output"] == "o.pt"


def test_a_rule_comes_back_from_json_whatever_its_numbers() -> None:
    for text in ("*=constant:inf", "*=constant:nan", "*=uniform:a=-1e-45,b=0.1", "*=constant:7"):
        rule = Rule.parse(text)
        form = json.loads(json.dumps({"rule": [rule.serial()]}, allow_nan=False))

        (back,) = parse_recipe(json.dumps(form).encode(), "r")["rules"]
        assert str(back.init) == str(rule.init)


def test_the_page_on_recipes_lists_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert listed == {option.name for option in OPTIONS.values() if option.name} | {"version"}


STRINGS = """b'"' + b'\\\\\\"' * 130_000"""
"""A string that is not closed, and could begin at each of its characters."""


@pytest.mark.slow
def test_a_hostile_recipe_costs_little() -> None:
    """A TOML key of 130,000 parts costs tomllib tens of gigabytes."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from reinit_cli.request.recipe import parse_recipe\n"
        "try: parse_recipe(eval(sys.argv[1]), 'r')\n"
        "except Exception as error: print(error)"
    )
    for made in (
        "b'a.' * 130_000 + b'a=1'",
        "b'\"a\".' * 50_000 + b'a=1'",
        "b'[[a]]\\n' * 40_000",
        STRINGS,
        r"""b'{"a": "' + b'\\"' * 130_000""",
        """b'{"x": {%s}}' % b','.join(b'"n%d":1' % at for at in range(3_000_000))""",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, made],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert done.stdout.startswith("recipe 'r': ")


@pytest.mark.parametrize("field", ["rename", "drop", "only", "dtype"])
def test_patterns_on_keys_are_bounded_together_as_those_of_rules_are(field: str) -> None:
    end = {"rename": "=b", "dtype": "=float32"}.get(field, "")
    few, many = ([f"re:a{{{at}}}{end}" for at in range(count)] for count in (50, 3_000))

    read = parse_recipe(json.dumps({field: few}).encode(), "r.json")

    assert [
        len(each) for name, each in read.items() if name == field and isinstance(each, tuple)
    ] == [50]
    with pytest.raises(RecipeError, match="stand for more than 100,000 names"):
        parse_recipe(json.dumps({field: many}).encode(), "r.json")


def test_a_rename_of_a_stranger_is_read_as_one_of_a_user_is() -> None:
    with pytest.raises(RecipeError, match="rename: rename 'module' has no '='"):
        parse_recipe(b'rename = "module"', "r.toml")
