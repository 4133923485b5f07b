"""Read a job as a text: rules and options in TOML or JSON, or the plan that `--json` printed.

A recipe says what is done, never what may be overwritten. It comes from strangers: it is
bounded, nothing in it is executed, and whatever it says that is not understood is an error.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, cast

from reinit_cli.errors import RecipeError, ReinitError
from reinit_cli.initializers import REGISTRY
from reinit_cli.request.output_name import OutputName, as_form
from reinit_cli.request.resize import Resize, resizes_of
from reinit_cli.request.rule import Rule
from reinit_cli.streams.seeds import STREAM, parse_seeds
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.text import near, parse_nbytes

VERSION = 1
"""Of the recipes and plans that are read."""


DASH = "-"
"""The file that stands for standard input, and the output for standard output."""


MAX_TOML_NBYTES = 2**18


MAX_JSON_NBYTES = 64 * 2**20
"""A plan names every tensor: a hundred thousand of them take 40 MB."""


MAX_JSON_ELEMENTS = 4_000_000
"""The most commas, lists and objects of a JSON; each may cost a hundred bytes."""


MAX_DOTS = 8
"""The most dots outside of strings in a line of TOML: a key of n parts costs n² bytes."""


_DEVICE = re.compile(r"cpu|auto|mps|cuda(:\d{1,3})?")


_TOML_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''.*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a user asks for, as far as one place says it; None is what it does not say.

    Attributes:
        rules: in their order.
        sources: names of models and paths.
        output: the form of the output's path.
        weights, root: see `Request`.
        seeds: a job is done with each.
        with_buffers, untie, reset_optimizer: see `Request`.
        device: where values are drawn.
        dtype, shard_nbytes, strict, allow_unmatched, drop_non_tensors,
            refuse_unknown_globals, verify_crc, arch, resize, num_classes, record: see `Request`.
    """

    rules: tuple[Rule, ...] = ()
    sources: tuple[str, ...] | None = None
    output: str | None = None
    weights: str | None = None
    root: str | None = None
    seeds: tuple[int, ...] | None = None
    device: str | None = None
    dtype: str | None = None
    shard_nbytes: int | None = None
    strict: bool | None = None
    allow_unmatched: bool | None = None
    drop_non_tensors: bool | None = None
    refuse_unknown_globals: bool | None = None
    verify_crc: bool | None = None
    arch: str | None = None
    resize: tuple[Resize, ...] = ()
    num_classes: int | None = None
    with_buffers: bool | None = None
    untie: bool | None = None
    reset_optimizer: bool | None = None
    record: str | None = None

    def under(self, upper: Recipe) -> Recipe:
        """Return both as one, where the other's options override and its rules come later.

        So do its resizes.

        What is said beside a source of it goes with that source.
        """
        lower = self
        if upper.sources is not None and self.sources not in (None, upper.sources):
            lower = replace(self, output=None, weights=None, root=None)
        said = {
            each.name: value
            for each in fields(upper)
            if (value := getattr(upper, each.name)) is not None
        }
        both = {
            "rules": (*self.rules, *upper.rules),
            "resize": (*self.resize, *upper.resize),
        }
        return replace(lower, **said | both)


def parse_recipe(data: bytes, path: str) -> Recipe:
    """Read a recipe.

    Args:
        data: TOML or JSON, told by the suffix of the path or else by the first character.
        path: what the recipe is called.

    Raises:
        RecipeError: it is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(path, f"it is not UTF-8 at byte {error.start:,}") from error
    suffix = os.path.splitext(path)[1].lower()
    is_json = suffix == ".json" or (suffix != ".toml" and text.lstrip()[:1] == "{")
    form = _json(text, path) if is_json else _toml(text, path)
    return recipe_of(form, path)


def of_environment(environment: Mapping[str, str]) -> Recipe:
    """Return what REINIT_SEED and REINIT_DEVICE say; empty ones say nothing.

    Raises:
        RecipeError: one of them is not understood.
    """
    seed, device = environment.get("REINIT_SEED"), environment.get("REINIT_DEVICE")
    if seed and not re.fullmatch(r"\s*[+-]?[0-9]{1,30}\s*", seed):
        raise RecipeError("REINIT_SEED", f"{_short(seed)} is no integer", kind="variable")
    if device and not _DEVICE.fullmatch(device):
        problem = f"{_short(device)} is none of cpu, cuda, cuda:1, mps and auto"
        raise RecipeError("REINIT_DEVICE", problem, kind="variable")
    return Recipe(seeds=(int(seed),) if seed else None, device=device or None)


def _json(text: str, path: str) -> Mapping[str, Any]:
    import json

    if len(text) > MAX_JSON_NBYTES or sum(map(text.count, ",[{")) > MAX_JSON_ELEMENTS:
        raise RecipeError(path, "it is too large")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in pairs:
            if name in members:
                raise RecipeError(path, f"it has {_short(name)} twice")
            members[name] = value
        return members

    try:
        form = json.loads(text, object_pairs_hook=once)
    except RecipeError:
        raise
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1 and text.startswith('{"version"'):
            problem = "it holds several plans, one in each line, and a recipe is one"
            raise RecipeError(path, problem) from error
        raise RecipeError(path, f"it is no JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(path, f"it is no JSON: {error}") from error
    if not isinstance(form, dict):
        raise RecipeError(path, "it is no object of fields")
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
        raise RecipeError(path, f"it is no TOML: {error}") from error


Reader = Callable[[object], object]
"""Returns a field's value from what stands there; raises ValueError saying what must."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an integer")
    return value


def _seeds(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        try:
            return parse_seeds(value)
        except ValueError as error:
            raise ValueError("an integer, or a text such as '0..4' or '0,3,7'") from error
    return (_integer(value),)


def _sources(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise ValueError('a text or several, ["a.pt", "b.pt"]')
    return tuple(values)


def _device(value: object) -> str:
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise ValueError("cpu, cuda, cuda:1, mps or auto")
    return value


def _dtype(value: object) -> str:
    return dtype_named(_text(value)).name


def _shard_nbytes(value: object) -> int:
    if isinstance(value, str):
        try:
            return parse_nbytes(value)
        except ValueError as error:
            raise ValueError("bytes, or a text such as '5GB'") from error
    if _integer(value) < 1:
        raise ValueError("at least a byte")
    return _integer(value)


def _positive(value: object) -> int:
    if _integer(value) < 1:
        raise ValueError("an integer of at least 1")
    return _integer(value)


def _record(value: object) -> str | None:
    return "" if _flag(value) else None


def _resizes(value: object) -> tuple[Resize, ...]:
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise ValueError('a text or several, ["embed.weight=50300:mean"]')
    return resizes_of(values)


_OPTIONS: Mapping[str, tuple[str, Reader]] = {
    "seed": ("seeds", _seeds),
    "device": ("device", _device),
    "source": ("sources", _sources),
    "output": ("output", _text),
    "weights": ("weights", _text),
    "root": ("root", _text),
    "dtype": ("dtype", _dtype),
    "shard_size": ("shard_nbytes", _shard_nbytes),
    "strict": ("strict", _flag),
    "allow_unmatched": ("allow_unmatched", _flag),
    "drop_non_tensors": ("drop_non_tensors", _flag),
    "refuse_unknown_globals": ("refuse_unknown_globals", _flag),
    "verify_crc": ("verify_crc", _flag),
    "arch": ("arch", _text),
    "resize": ("resize", _resizes),
    "num_classes": ("num_classes", _positive),
    "with_buffers": ("with_buffers", _flag),
    "untie": ("untie", _flag),
    "reset_optimizer": ("reset_optimizer", _flag),
    "record": ("record", _record),
}
"""For each field that is an option, the attribute of a recipe and how it is read."""


FIELDS = (*_OPTIONS, "rule", "version", "stream")


RESULTS = (
    *("tensors", "beside", "warnings", "dry_run", "seconds", "check"),
    *("filled", "rest", "sha256", "reinit", "torch"),
)
"""What a plan or a record says beside what was asked for; it follows from that, and is not read."""


def recipe_of(form: Mapping[str, Any], path: str) -> Recipe:
    """Return what the fields of a recipe, a plan or a record say.

    Args:
        form: the fields.
        path: what it is called.

    Raises:
        RecipeError: one of them is not understood.
    """
    is_plan = "dry_run" in form or "filled" in form
    for name in form:
        if name not in FIELDS and not (is_plan and name in RESULTS):
            raise RecipeError(path, f"unknown field {_short(name)}", FIELDS, word=name)
    if form.get("version", VERSION) != VERSION:
        raise RecipeError(path, f"version must be {VERSION}, not {_short(form['version'])}")
    if form.get("stream", STREAM) != STREAM:
        raise RecipeError(path, f"stream must be {STREAM!r}, not {_short(form['stream'])}")
    if is_plan:
        form = _options_of_plan(form, path)
    said = {
        attribute: _read(reader, form[name], name, path)
        for name, (attribute, reader) in _OPTIONS.items()
        if name in form
    }
    if "output" in said:
        _check_output(cast("str", said["output"]), path)
    return Recipe(rules=_rules(form.get("rule", []), path), **cast("dict[str, Any]", said))


def _read(reader: Reader, value: object, name: str, path: str) -> object:
    try:
        return reader(value)
    except ReinitError as error:
        problem = f"{name}: {error}"
        raise RecipeError(path, problem) from error
    except ValueError as error:
        raise RecipeError(path, f"{name} must be {error}, not {_short(value)}") from error


def _check_output(form: str, path: str) -> None:
    try:
        OutputName.parse(form)
    except ReinitError as error:
        raise RecipeError(path, str(error)) from error


def _options_of_plan(form: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the fields of a plan as a recipe has them; null says nothing."""
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


_OF_SOURCE = ("name", "path", "weights", "format", "root", "nbytes", "sha256")


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
    rules = []
    for at, form in enumerate(forms, 1):
        try:
            rules.append(_rule(form))
        except ReinitError as error:
            raise RecipeError(path, f"rule {at}: {error}") from error
        except _FieldError as error:
            problem = f"rule {at}: {error}"
            raise RecipeError(path, problem, error.known, word=error.word) from None
    return tuple(rules)


class _FieldError(Exception):
    """What is wrong with a field of a rule."""

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
        if near(other, (name,)):
            raise _FieldError(f"unknown field {_short(other)}", other, (name,))
    raise _FieldError(f"{name} is missing")


def _short(value: object) -> str:
    return reprlib.repr(value)
