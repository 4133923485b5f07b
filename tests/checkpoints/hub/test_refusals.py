"""What the Hub, its library, its cache and the network refuse: a line each, and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import errors, rewrite
from reinit_cli.storage.hub import requests
from reinit_cli.storage.remote import attempts
from tests.checkpoints.hub.mock import MockHub, Server
from tests.checkpoints.hub.models import one_file, sharded
from tests.cli.conftest import Done

ONE = "hf://org/one"
RULE = ("-r", "lm_head.weight=zeros")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again immediately."""
    monkeypatch.setattr(requests, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def one(hub: MockHub, tmp_path: Path) -> MockHub:
    """A model of one file."""
    hub.add("org/one", one_file(tmp_path / "one"))
    return hub


def _refused(done: Done) -> list[str]:
    """Return the error and the hint of a command that wrote nothing."""
    assert (done.code, done.out) == (2, "")
    assert list(Path().iterdir()) == []
    error, *hint = done.err.splitlines()
    assert len(hint) <= 1
    return [error.removeprefix("error: "), *(line.removeprefix("hint: ") for line in hint)]


NAMES = {
    "a model that is not there": (
        "hf://org/none",
        "there is no model 'org/none' on the Hugging Face Hub, or it is private",
        "look for it at https://huggingface.co/models; if it is private, log in: hf auth login",
    ),
    "a revision that is not there": (
        f"{ONE}@v2",
        "the model 'org/one' has no revision 'v2'",
        "name a branch, a tag or a commit of it; hf://org/one is its main branch",
    ),
    "a file that is not there": (
        f"{ONE}/modle.safetensors",
        "'hf://org/one' has no file 'modle.safetensors'",
        "did you mean hf://org/one/model.safetensors?",
    ),
    "a dataset": (
        "hf://datasets/org/data",
        "'hf://datasets/org/data' is a dataset of the Hugging Face Hub, which cannot be read",
        "models are named hf://ORG/MODEL",
    ),
    "a space": (
        "hf://spaces/org/app",
        "'hf://spaces/org/app' is a space of the Hugging Face Hub, which cannot be read",
        "models are named hf://ORG/MODEL",
    ),
    **{
        f"not a name: {name!r}": (
            f"hf://{name}",
            f"'hf://{name}' is not a valid name of a model on the Hub",
            "write it as hf://ORG/MODEL[@REVISION][/FILE], such as hf://openai-community/gpt2",
        )
        for name in ("", "org/", "org/one@", "org/../one", "org/one/../x", "-x/y", "org/a b", "@main")
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "error", "hint"), NAMES.values(), ids=NAMES)
def test_a_name_that_stands_for_nothing_says_what_is_missing(
    name: str, error: str, hint: str, one: MockHub, reinit: Callable[..., Done]
) -> None:
    if name == "hf://org/":
        name, error = (
            "hf://org",
            error.replace(
                "'hf://org/' is not a valid name of a model on the Hub",
                "there is no model 'org' on the Hugging Face Hub, or it is private",
            ),
        )
        hint = NAMES["a model that is not there"][2]

    assert _refused(reinit(name, *RULE)) == [error, hint]


def test_a_path_is_never_looked_for_on_the_hub(one: MockHub, reinit: Callable[..., Done]) -> None:
    assert _refused(reinit("org/one", *RULE)) == [
        "no such file: 'org/one'",
        "if it is a model of the Hugging Face Hub, name it hf://org/one",
    ]
    assert "hf://" not in _refused(reinit("a b/one", *RULE))[-1]
    Path("org").mkdir()
    assert "hf://" not in reinit("org/one/m.safetensors", *RULE).err
    assert one.log == []


def test_a_gated_model_says_where_its_terms_are(
    one: MockHub, hub_server: Server, reinit: Callable[..., Done]
) -> None:
    one.gated.add("org/one")

    for argv in (("keys", ONE), (ONE, *RULE)):
        assert _refused(reinit(*argv)) == [
            "no access to 'org/one': its terms have to be accepted",
            f"accept them at {hub_server.url}/org/one, then log in: hf auth login",
        ]


def test_a_private_model_is_read_with_a_token_alone(
    one: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    one.private.add("org/one")

    assert "or it is private" in _refused(reinit("keys", ONE))[0]
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert reinit("keys", ONE).code == 0
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert _refused(reinit("keys", ONE)) == [
        f"no access to {ONE!r}: the Hub answers 401",
        "log in with a token that has access, or set HF_TOKEN to it: hf auth login",
    ]


def test_offline_what_is_not_cached_is_not_asked_for(
    one: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert _refused(reinit("keys", ONE)) == [
        f"{ONE!r} is not in the cache of the Hub, and HF_HUB_OFFLINE is set",
        "unset HF_HUB_OFFLINE, or fetch it where there is a network: hf download org/one",
    ]
    assert one.log == []


def test_a_hub_that_cannot_be_reached_is_named(
    hub: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")

    error, hint = _refused(reinit("keys", ONE))

    assert error.startswith(f"cannot read {ONE!r}: http://127.0.0.1:1 cannot be reached (")
    assert hint == "HF_HUB_OFFLINE=1 reads what the cache has, without the Hub"


@pytest.mark.parametrize(
    ("what", "status"),
    [
        *(
            (what, status)
            for what in ("/api/models", "/resolve/", "/cdn/")
            for status in (503, 429)
        ),
        *((what, 0) for what in ("/api/models", "/cdn/")),
    ],
)
def test_a_request_that_fails_is_made_four_times(
    what: str, status: int, one: MockHub, reinit: Callable[..., Done]
) -> None:
    one.fail(what, status, times=3)
    assert reinit("keys", ONE).code == 0

    one.faults.clear()
    one.log.clear()
    one.fail(what, status)
    _refused(reinit("keys", ONE))
    assert sum(what in each.path for each in one.log) == 4


def test_a_server_that_ignores_ranges_sends_no_whole_file(
    one: MockHub, hub_server: Server, reinit: Callable[..., Done]
) -> None:
    one.fail("/cdn/", 200)

    (error,) = _refused(reinit("keys", ONE))

    file = f"{ONE}/model.safetensors"
    assert error == f"cannot read {file!r}: {hub_server.url} sends whole files only"


def test_an_address_that_has_expired_is_asked_for_again(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    """The second range of a file is asked for where the first was redirected to."""
    folder = tmp_path / "wide"
    folder.mkdir()
    save_file(
        {f"layers.{at}.weight": torch.zeros(1) for at in range(2_000)}, folder / "model.safetensors"
    )
    hub.add("org/wide", folder)
    assert len(reinit("keys", "hf://org/wide").out.split()) == 2_000
    first, second = [each for each in hub.log if each.path.startswith("/cdn/")]
    assert first.range != second.range
    assert sum("/resolve/" in each.path for each in hub.log) == 1

    hub.log.clear()
    hub.refused_after = 1
    assert len(reinit("keys", "hf://org/wide").out.split()) == 2_000
    assert [each.status for each in hub.log if each.path.startswith("/cdn/")] == [206, 403, 206]


def test_a_download_that_is_cut_goes_on(
    one: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    reinit("keys", ONE)
    one.fail("/cdn/", 0, times=1)

    done = reinit(f"{ONE}", *RULE)

    assert done.code == 0, done.err
    assert done.err.startswith("downloading ")
    assert "arning" not in done.err
    assert load_file("one-reinit/model.safetensors")["lm_head.weight"].sum() == 0


def test_a_revision_that_moves_on_is_not_mixed_with_the_next(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reinit_cli.storage.hub import store

    download = store.download

    def after_a_push(*args: object) -> None:
        later = one.add("org/one", one_file(tmp_path / "later"), "later")
        one.revisions["org/one"]["main"] = later
        download(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "download", after_a_push)

    done = reinit(ONE, *RULE)

    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        f"error: {ONE!r} changed while it was being read; nothing was written"
    )
    assert list(Path().iterdir()) == []


def test_a_damaged_copy_in_the_cache_is_named(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    reinit("stats", ONE)
    (copy,) = (tmp_path / "home").glob("hub/models--*/snapshots/*/model.safetensors")
    copy.resolve().write_bytes(b"short")

    (error,) = _refused(reinit("keys", ONE))

    assert error.startswith(f"cannot read '{ONE}/model.safetensors': '{copy}' has 5 bytes")


WITHOUT_WEIGHTS = {
    "nothing but texts": ["README.md", "config.json"],
    "weights that have been converted for running": ["model-q4.gguf"],
}


@pytest.mark.parametrize("names", WITHOUT_WEIGHTS.values(), ids=WITHOUT_WEIGHTS)
def test_a_model_without_weights_is_refused_as_a_folder_is(
    names: list[str], hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"GGUF" + bytes(64) if name.endswith("gguf") else b"{}")
    hub.add("org/m", folder)

    here = _refused(reinit("keys", folder))
    there = _refused(reinit("keys", "hf://org/m"))

    assert there == [line.replace(str(folder), "hf://org/m") for line in here]


def test_without_the_library_the_line_says_what_to_install(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    assert _refused(reinit("keys", ONE)) == [
        f"{ONE!r} needs huggingface_hub, which is not installed",
        "pip install huggingface_hub",
    ]


def test_functions_raise_errors_with_their_hints(hub: MockHub) -> None:
    with pytest.raises(errors.SourceNotFoundError, match="there is no model 'org/none'") as raised:
        rewrite("hf://org/none", rules=["*=zeros"])

    assert raised.value.hint.startswith("look for it at https://huggingface.co/models")


def test_several_sources_fail_one_by_one(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    one.add("org/four", sharded(tmp_path / "four"))

    done = reinit(ONE, "hf://org/none", "hf://org/four", "-r", "*.weight=zeros", "--keep-going")

    assert done.code == 3
    assert {path.name for path in Path().iterdir()} == {"one-reinit", "four-reinit"}


def test_an_output_is_never_on_the_hub(one: MockHub, reinit: Callable[..., Done]) -> None:
    assert _refused(reinit(ONE, *RULE, "-o", "hf://org/new")) == [
        "cannot write 'hf://org/new': each file would be a commit of its own",
        "write a folder, such as -o new/, and then: hf upload org/new new",
    ]
    assert all(each.range is not None or "/api/" in each.path for each in one.log)
