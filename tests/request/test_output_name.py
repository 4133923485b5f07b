"""What outputs are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.checkpoints.formats import suffix_of
from reinit_cli.errors import OutputError, UnknownNameError
from reinit_cli.operations.ways import meant
from reinit_cli.request.output_name import OutputName, as_form
from reinit_cli.storage.location import SourceName

SOURCE = SourceName("dir", "m.x", ".pt")


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("out/{stem}-seed{seed}{suffix}", "out/m.x-seed-3.pt"),
        ("{parent}/{name}", "dir/m.x.pt"),
        ("{{{stem}}}", "{m.x}"),
        ("{{stem}}", "{stem}"),
        ("plain.pt", "plain.pt"),
    ],
)
def test_placeholders_are_put_in(form: str, path: str) -> None:
    assert OutputName.parse(form).of(SOURCE, -3) == path


def test_a_source_in_the_current_folder_has_a_parent_too() -> None:
    assert OutputName.parse("{parent}/x").of(SourceName("", "m", ".pt"), 0) == "./x"
    assert OutputName("x", is_beside=True).of(SourceName("", "m", ".pt"), 0) == "x"


@pytest.mark.parametrize(
    ("form", "problem", "near"),
    [
        ("{sed}", "output '{sed}': there is no placeholder '{sed}'; ", ("seed",)),
        ("{}", "output '{}': there is no placeholder '{}'; ", ()),
        ("{seed:03}", "output '{seed:03}': there is no placeholder '{seed:03}'; ", ("seed",)),
        ("{stem", "output '{stem': a lone '{' is written '{{'", ()),
        ("stem}", "output 'stem}': a lone '}' is written '}}'", ()),
        ("{{stem}", "output '{{stem}': a lone '}' is written '}}'", ()),
    ],
)
def test_what_stands_for_nothing_is_refused(form: str, problem: str, near: tuple[str, ...]) -> None:
    with pytest.raises((OutputError, UnknownNameError)) as refused:
        OutputName.parse(form)

    assert str(refused.value).startswith(problem)
    assert meant(refused.value) == near


@given(st.text(min_size=1))
def test_any_path_has_a_form_that_stands_for_it(path: str) -> None:
    assert OutputName.parse(as_form(path)).of(SOURCE, 0) == path
    assert not OutputName.parse(as_form(path)).is_form


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("dir/m.x.pt", ("dir", "m.x", ".pt")),
        ("m.pth.tar", ("", "m", ".pth.tar")),
        ("a/m.safetensors.bak", ("a", "m", ".safetensors.bak")),
        ("m.PTH.TAR", ("", "m", ".PTH.TAR")),
        ("m.bin.safetensors", ("", "m.bin", ".safetensors")),
        ("v1.5.ckpt", ("", "v1.5", ".ckpt")),
        ("m.tar", ("", "m", ".tar")),
        ("m", ("", "m", "")),
        ("./.hidden", (".", ".hidden", "")),
        ("/m.pt", ("/", "m", ".pt")),
    ],
)
def test_the_path_of_a_file_has_parts(path: str, parts: tuple[str, str, str]) -> None:
    assert SourceName.of_file(path, suffix_of(path)) == SourceName(*parts)
