"""Read recipes: rules and options in TOML or JSON, or the plan that `--json` printed.

A recipe says what is done, never what may be overwritten. It comes from strangers: it is
bounded, nothing in it is executed, and whatever it says that is not understood is an error.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

from reinit_cli.errors import RecipeError, ReinitError, RuleError
from reinit_cli.initializers import REGISTRY
from reinit_cli.request.json_text import MAX_TEXT, parse_json
from reinit_cli.request.output_name import OutputName, as_form
from reinit_cli.request.partial import PartialRequest
from reinit_cli.request.request import OPTIONS, Option
from reinit_cli.request.rule import Rule
from reinit_cli.request.values import within_bounds
from reinit_cli.storage.location import DASH
from reinit_cli.text import is_wide, near, why_not_parsed

VERSION = 1
"""The version of the recipes and plans that are read."""


MAX_TOML_NBYTES = 2**18


MAX_JSON_NBYTES = 56 * 2**20
"""A plan names every tensor: a hundred thousand of them take 40 MB."""


MAX_BITS = 4096
"""The most bits of an integer: Python writes no decimal of more than 4,300 digits."""


MAX_DOTS = 8
"""The most dots outside of strings in a line of TOML: a key of n parts costs n² bytes."""


_TOML_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
"""It matches strings that are not closed too, so that no character is scanned twice."""


def parse_recipe(data: bytes, path: str) -> PartialRequest:
    """Read a recipe.

    Args:
        data: TOML or JSON, told by the suffix of the path or else by the first character.
        path: what the recipe is called.

    Raises:
        RecipeError: it is not a valid recipe.
    """
    if len(data) > MAX_JSON_NBYTES:
        raise RecipeError(path, "it is too large")
    if is_wide(data):
        raise RecipeError(path, "it is too long for text that is not ASCII")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(path, f"it is not UTF-8 at byte {error.start:,}") from error
    suffix = os.path.splitext(path)[1].lower()
    is_json = suffix == ".json" or (suffix != ".toml" and text.lstrip()[:1] == "{")
    form = _json(text, path) if is_json else _toml(text, path)
    return recipe_of(form, path)


def _json(text: str, path: str) -> Mapping[str, Any]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members: dict[str, object] = {}
        for name, value in pairs:
            if name in members:
                raise RecipeError(path, f"it has {_short(name)} twice")
            members[name] = value
        return members

    try:
        form = parse_json(text, "it", "recipe", once)
    except ReinitError:
        raise
    except ValueError as error:
        if "Extra data" in str(error) and "\n" in text and text.startswith('{"version"'):
            problem = "it holds several plans, one in each line, and a recipe is one"
            raise RecipeError(path, problem) from error
        raise RecipeError(path, str(error)) from error
    if not isinstance(form, dict):
        raise RecipeError(path, "it is not an object of fields")
    return form


def _toml(text: str, path: str) -> Mapping[str, Any]:
    import tomllib

    if len(text) > MAX_TOML_NBYTES:
        raise RecipeError(path, "it is too large")
    bare = _TOML_STRING_OR_COMMENT.sub("", text)
    if any(line.count(".") > MAX_DOTS for line in bare.splitlines()):
        raise RecipeError(path, f"a line has more than {MAX_DOTS} dots outside of quotes")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(path, f"it is not TOML: {why_not_parsed(error)}") from error


_FIELDS = {
    name: (option.several or field, option)
    for field, option in OPTIONS.items()
    for name in filter(None, (option.was, option.name))  # where both are there, the newer counts
}
_OPTIONS = {name: found for name, found in _FIELDS.items() if name != "rule"}
"""By its name in a recipe, each option's name in a partial request and how it is read."""


FIELDS = (*_OPTIONS, "rule", "version")


RESULTS = (
    *("tensors", "dropped", "beside", "warnings", "dry_run", "seconds", "check"),
    *("total", "unchanged"),
    *("filled", "rest", "sha256", "reinit", "torch", "laws", "config", "constructor"),
)
"""The fields of a plan or a record that follow from the others, and are not read."""


def recipe_of(form: Mapping[str, Any], path: str) -> PartialRequest:
    """Read the fields of a recipe, a plan or a record.

    Args:
        form: the fields.
        path: what it is called.

    Raises:
        RecipeError: one of them is not understood.
    """
    is_plan = "dry_run" in form or "filled" in form
    _check_sizes({name: form[name] for name in form if name not in RESULTS}, path)
    for name in form:
        if name not in FIELDS and not (is_plan and name in RESULTS):
            raise RecipeError(path, f"unknown field {_short(name)}", FIELDS, word=name)
    if form.get("version", VERSION) != VERSION:
        raise RecipeError(path, f"version must be {VERSION}, not {_short(form['version'])}")
    if is_plan:
        form = _options_of_plan(form, path)
    said = {
        field: _read(option, form[name], path)
        for name, (field, option) in _OPTIONS.items()
        if name in form
    }
    if "output" in said:
        said["output"] = _output(cast("str", said["output"]), path, is_exact=is_plan)
    rules = _rules(form.get("rule", []), path)
    return cast("PartialRequest", {**said, "rules": rules} if rules else said)


def _check_sizes(form: Mapping[str, object], path: str) -> None:
    """Refuse texts and numbers that take too long to read or to write.

    Raises:
        RecipeError: there is one.
    """
    waiting: list[object] = [form]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise RecipeError(path, f"a text in it has more than {MAX_TEXT:,} characters")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise RecipeError(path, "a number in it has too many digits")
        if isinstance(value, dict):
            waiting += (*value, *value.values())
        elif isinstance(value, list):
            waiting += value


def _read(option: Option, value: object, path: str) -> object:
    try:
        return option.read(value)
    except ReinitError as error:
        problem = f"{option.name}: {error}"
        raise RecipeError(path, problem) from error
    except ValueError as error:
        raise RecipeError(path, f"{option.name} must be {error}, not {_short(value)}") from error


def _output(form: str, path: str, *, is_exact: bool) -> str | OutputName:
    """Return the form of an output; a plan names the output itself, and no folder for it."""
    try:
        name = OutputName.parse(form)
    except ReinitError as error:
        raise RecipeError(path, str(error)) from error
    return replace(name, is_exact=True) if is_exact and form != DASH else form


def _options_of_plan(form: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the fields of a plan as a recipe has them, without those that are null."""
    source = _table(form, "source", _OF_SOURCE, path)
    output = _table(form, "output", ("path", "nbytes"), path)
    options = {name: value for name, value in form.items() if value is not None}
    if source:
        root = source.get("root")
        options |= {"source": source.get("name"), "root": "." if root == "" else root}
        options["weights"] = source.get("weights")
    if output:
        written = output.get("path")
        options["output"] = as_form(written) if isinstance(written, str) else written or DASH
    return {name: value for name, value in options.items() if value is not None}


_OF_SOURCE = (
    *("name", "path", "weights", "format", "root", "networks", "nbytes", "sha256"),
    *("revision", "commit"),
)


def _table(
    form: Mapping[str, Any], name: str, members: tuple[str, ...], path: str
) -> Mapping[str, Any]:
    value = form.get(name, {})
    if not isinstance(value, dict):
        raise RecipeError(path, f"{name} must be an object in a plan, not {_short(value)}")
    for member in value:
        if member not in members:
            problem = f"unknown field {_short(member)} in {name}"
            raise RecipeError(path, problem, members, word=member)
    return value


def _rules(forms: object, path: str) -> tuple[Rule, ...]:
    if not isinstance(forms, list) or not all(isinstance(form, dict) for form in forms):
        raise RecipeError(path, "rule must be tables, each under [[rule]]")
    try:
        return within_bounds(_each_rule(forms, path))
    except RuleError as error:
        raise RecipeError(path, str(error)) from error


def _each_rule(forms: list[dict[str, Any]], path: str) -> Iterator[Rule]:
    for at, form in enumerate(forms, 1):
        try:
            yield _rule(form)
        except ReinitError as error:
            raise RecipeError(path, f"rule {at}: {error}") from error
        except _FieldError as error:
            problem = f"rule {at}: {error}"
            raise RecipeError(path, problem, error.known, word=error.word) from None


class _FieldError(Exception):
    """A field of a rule that is wrong."""

    def __init__(self, problem: str, word: str | None = None, known: Sequence[str] = ()) -> None:
        super().__init__(problem)
        self.word = word
        self.known = known


def _rule(form: Mapping[str, Any]) -> Rule:
    for name in ("match", "init"):
        if not isinstance(form.get(name), str):
            _refuse_missing(form, name)
    init: str = form["init"]
    arguments = {name: form[name] for name in form if name not in ("match", "init")}
    for name, value in arguments.items():
        if not isinstance(value, (bool, int, float, str)):
            raise _FieldError(f"{name} must be a number, a text or a flag, not {_short(value)}")
    if arguments and ":" in init:
        both = f"init {_short(init)} and in {next(iter(arguments))}"
        raise _FieldError(f"arguments stand in init or by name, and these stand in {both}")
    if init in REGISTRY:
        taken = [parameter.name for parameter in REGISTRY[init].all_parameters]
        for name in arguments:
            if name not in taken:
                problem = f"unknown field {_short(name)}; {init} takes {', '.join(taken)}"
                raise _FieldError(problem, name, ("match", "init", *taken))
    return Rule.of(form["match"], init, **arguments)


def _refuse_missing(form: Mapping[str, Any], name: str) -> NoReturn:
    if name in form:
        raise _FieldError(f"{name} must be a text, not {_short(form[name])}")
    for other in form:
        if near(other, (name,)) or other in _OTHER_NAMES[name]:
            raise _FieldError(f"unknown field {_short(other)}", name, (name,))
    raise _FieldError(f"{name} is missing")


_OTHER_NAMES = {
    "match": ("pattern", "key", "keys", "name", "glob", "regex", "tensor"),
    "init": ("initializer", "initialiser", "law", "fill", "method"),
}
"""What people call the two fields that every rule has."""


def _short(value: object) -> str:
    return reprlib.repr(value)
