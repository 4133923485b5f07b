"""Check where a report goes, and write it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import click

from reinit_cli.cli.render.html import Page, html_of
from reinit_cli.cli.streams import flush_output
from reinit_cli.errors import OutputUnwritableError, PackageError
from reinit_cli.operations.report_file import write_alone
from reinit_cli.storage.destination import Destination, InUse, check_extra_file
from reinit_cli.storage.scratch import ScratchFolder, is_usable_folder

_NEEDS = {".html": "jinja2", ".svg": "matplotlib", ".png": "matplotlib"}
"""The package that a kind of report is made with."""


def check_report(path: str, in_use: InUse, *, has_pictures: bool, force: bool) -> Destination:
    """Refuse a report that cannot be written, before anything else is.

    Args:
        path: where it is to go; its suffix chooses what it is.
        in_use: the files that are read and written besides it.
        has_pictures: whether there is something to draw, without which there is no figure.
        force: whether an existing file is replaced.

    Raises:
        PackageError: what it is made with is not installed.
        OutputError: it cannot be written there.
    """
    kind = os.path.splitext(path)[1].lower()
    if kind not in _NEEDS:
        problem = f"its suffix does not name a kind of report; use one of {', '.join(_NEEDS)}"
        raise OutputUnwritableError(path, problem)
    if find_spec(_NEEDS[kind]) is None:
        raise PackageError(_NEEDS[kind], of=f"a {kind} report")
    if not has_pictures and kind != ".html":
        raise OutputUnwritableError(path, "there is no tensor to draw a picture of")
    return check_extra_file(path, in_use, "report", replaces=force)


def report_data(destination: Destination, page: Page) -> bytes:
    """Return a page, or its pictures as a figure, by the suffix of the report's path."""
    assert destination.path is not None
    kind = os.path.splitext(destination.path)[1].lower()
    if kind == ".html":
        return html_of(page)
    from reinit_cli.cli.render.figure import figure_of

    with _settings_of_matplotlib():
        return figure_of(
            f"{page.command} {page.title}", page.panels, kind.removeprefix("."), page.total
        )


@contextmanager
def _settings_of_matplotlib() -> Iterator[None]:
    """Give matplotlib a folder for its cache of fonts, where it has none that can be written.

    It would warn, and leave a folder of its own behind.
    """
    named = os.environ.get("MPLCONFIGDIR")
    if all(map(is_usable_folder, [named] if named else _default_folders())):
        yield
        return
    with ScratchFolder() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            os.environ["MPLCONFIGDIR"] = named or ""


def _default_folders() -> list[str]:
    """Return where matplotlib keeps settings and caches; "" for a user without a home."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return [""]
    if sys.platform == "darwin":
        return [os.path.join(home, ".matplotlib")]
    get = os.environ.get
    parents = (
        get("XDG_CONFIG_HOME") or f"{home}/.config",
        get("XDG_CACHE_HOME") or f"{home}/.cache",
    )
    return [os.path.join(parent, "matplotlib") for parent in parents]


def write_report(destination: Destination, page: Page) -> None:
    """Write a report, whole or not at all, once what was printed is out.

    Raises:
        OutputUnwritableError: the disk refuses, or standard output does.
    """
    flush_output()
    # An error of standard output after this would not say that the page is there.
    click.get_current_context().meta["has flushed"] = True
    write_alone(destination, report_data(destination, page))
