"""The schema that documents JSON, held against what commands print."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_PATH = Path(__file__).parent.parent / "docs/reference/reinit.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_PATH.read_text("utf-8"))
OUTPUTS = tuple(each["$ref"].rpartition("/")[2] for each in SCHEMA["oneOf"])


@cache
def validator() -> Draft202012Validator:
    """The schema, which also refuses members that it does not document."""
    return Draft202012Validator(_closed(SCHEMA))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    if "properties" in closed and "type" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def parsed(line: str) -> Any:
    """Read a line as strictly as RFC 8259 has it."""
    assert line.isascii()
    return json.loads(line, parse_constant=_refuse)


def check_form(form: Any) -> None:
    """Insist that one form is documented, by one of the outputs."""
    if not validator().is_valid(form):
        closest = min(
            (list(validator().evolve(schema=_of(name)).iter_errors(form)) for name in OUTPUTS),
            key=len,
        )
        raise AssertionError([f"{each.json_path}: {each.message[:300]}" for each in closest])


def _of(name: str) -> dict[str, Any]:
    return {"$defs": _closed(SCHEMA["$defs"]), "$ref": f"#/$defs/{name}"}


def check_json(out: str, err: str, code: int) -> None:
    """Insist that all that a command printed with --json is documented.

    Standard output may end early where the command failed; an error is an object.
    """
    lines = out.splitlines()
    for line in lines if code != 2 else [each for each in lines if each.endswith("}")]:
        check_form(parsed(line))
    assert not [line for line in err.splitlines() if line.startswith(("error:", "hint:"))]
    errors = [parsed(line) for line in err.splitlines() if line.startswith("{")]
    for error in errors:
        check_form(error)
        assert error["error"]["message"]
    assert errors or code in (0, 1), err
