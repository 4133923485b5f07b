"""Standard error in one form, whether a command ran with --json or without."""

from __future__ import annotations

import json
from typing import Any


def said(err: str) -> str:
    """Return the text of standard error with errors in JSON as people read them."""
    return "".join(map(_said, err.splitlines(keepends=True)))


def _said(line: str) -> str:
    error = _error(line)
    if error is None:
        return line
    hint = f"hint: {error['hint']}\n" if error["hint"] else ""
    return f"error: {error['message']}\n{hint}"


def _error(line: str) -> dict[str, Any] | None:
    """Return the error of a line that is one in JSON, or None."""
    try:
        form = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return None
    is_error = isinstance(form, dict) and form.keys() == {"version", "error"}
    return form["error"] if is_error else None
