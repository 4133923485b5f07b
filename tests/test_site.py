"""The site is built from pages that say what the code declares."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reinit_cli.initializers.registry import ENTRY_POINTS
from tests.browser import started_browser
from tests.pages import DOCS, PAGES, ROOT, blocks_of, shell

GENERATED = (
    "reference/commands.md",
    "reference/initializers.md",
    "reference/json.md",
    "reference/python.md",
    "reference/what-is-read.md",
)


def test_the_reference_is_what_the_code_declares() -> None:
    made = runpy.run_path(str(DOCS / "make_reference.py"))["pages"]()

    assert tuple(sorted(made)) == GENERATED
    assert [name for name, text in made.items() if PAGES.get(name) != text] == [], (
        "docs/reference is not what the code declares; `make docs` makes it anew"
    )


def test_the_reference_names_no_place_of_this_machine() -> None:
    assert not [name for name in GENERATED if str(ROOT) in PAGES[name] or " at 0x" in PAGES[name]]


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_the_site_is_built_without_a_warning_and_works_in_a_browser(tmp_path: Path) -> None:
    site = built_site(tmp_path)

    assert not list(site.rglob("*.py"))
    assert {page.stem for page in DOCS.rglob("*.md")} <= {
        page.stem for page in site.rglob("*.html")
    }
    assert [
        page
        for page in site.rglob("*.html")
        if 'src="http' in page.read_text() or 'stylesheet" href="http' in page.read_text()
    ] == [], "a page fetches something from elsewhere"
    with served(site) as address, started_browser() as browser:
        browser.get(f"{address}/tutorial.html")
        names = "return performance.getEntriesByType('resource').map(each => each.name)"
        assert [name for name in browser.execute_script(names) if address not in name] == []
        commands = browser.execute_script(
            "return [...document.querySelectorAll('[data-clipboard-text]')]"
            ".map(each => each.getAttribute('data-clipboard-text'))"
        )
        assert commands
        assert not [each for each in commands if each.startswith("$") or "──" in each]
        assert browser.execute_script("return document.querySelectorAll('.md-search').length") == 1


def built_site(place: Path) -> Path:
    """Build the site of a copy of docs/, and insist that nothing is wrong with it."""
    shutil.copytree(DOCS, place / "docs")
    shutil.copy(ROOT / "zensical.toml", place)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "build" / "site"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_package_adds_an_initializer_as_its_page_says(environment: dict[str, str]) -> None:
    blocks = blocks_of(PAGES["how-to/add-an-initializer.md"])
    (project,) = (tomllib.loads(each.text)["project"] for each in blocks if each.language == "toml")
    ((name, module),) = project["entry-points"][ENTRY_POINTS].items()
    code = next(each.text for each in blocks if "@register" in each.text)
    Path("site").mkdir()
    Path(f"site/{module}.py").write_text(code)
    # What an installer leaves of a package.
    info = Path(f"site/{project['name']}-{project['version']}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {module}\n")
    path = f"{Path('site').resolve()}:{environment['PYTHONPATH']}"

    assert "N(0, scale² / numel)" in shell("reinit inits small", environment | {"PYTHONPATH": path})
