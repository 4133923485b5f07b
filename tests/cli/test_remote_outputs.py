"""Outputs at URLs, as the command line refuses them and says what to type instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Done

if TYPE_CHECKING:
    from tests.servers.s3 import Bucket
    from tests.servers.web import RangeServer

RULE = ("-r", "*.weight=normal")


@pytest.mark.parametrize(
    ("url", "problem", "hint"),
    [
        (
            "hf://org/model",
            "each file would be a commit of its own",
            "hint: write a folder, such as -o new/, and then: hf upload org/model new",
        ),
        (
            "hf://org/model@main/model.safetensors",
            "each file would be a commit of its own",
            "hint: write a folder, such as -o new/, and then: hf upload org/model new",
        ),
        (
            "file:///tmp/new%20one.pt",
            "files on this machine are named by paths",
            "hint: name it '/tmp/new one.pt'",
        ),
        ("https://a.org/b", "only s3://, gs:// and memory:// are written to", ""),
    ],
)
@pytest.mark.usefixtures("checkpoint")
def test_a_url_that_cannot_be_written_is_one_line_and_the_way_on(
    reinit: Callable[..., Done], url: str, problem: str, hint: str
) -> None:
    done = reinit("model.safetensors", *RULE, "-o", url)

    assert done.code == 2
    assert done.err.splitlines() == list(
        filter(None, [f"error: cannot write {url!r}: {problem}", hint])
    )


def test_a_remote_source_is_not_replaced_in_place(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    bucket.put("m.safetensors", checkpoint.read_bytes())

    done = reinit(bucket.url("m.safetensors"), *RULE, "--in-place")

    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: cannot write {bucket.url('m.safetensors')!r}: "
        "a remote file is not replaced in place",
        "hint: name another place with -o",
    ]


def test_a_batch_goes_to_urls_by_a_template_and_is_not_made_twice(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    args = ("model.safetensors", *RULE, "-s", "0..2", "-o", bucket.url("{stem}-{seed}{suffix}"))
    assert reinit(*args).code == 0
    bucket.server.asked.clear()

    again = reinit(*args, "--skip-existing", "-q")

    assert again.code == 0
    assert sorted(bucket.objects) == [f"model-{seed}.safetensors" for seed in range(3)]
    assert "create" not in bucket.server.verbs


def test_a_report_goes_to_a_url_with_the_output(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    done = reinit(
        *("model.safetensors", *RULE, "-o", bucket.url("new.safetensors")),
        *("--report", bucket.url("report.html")),
    )

    assert done.code == 0
    assert set(bucket.objects) == {"new.safetensors", "report.html"}
    assert bucket.objects["report.html"].startswith(b"<!DOCTYPE html>")


def test_a_folder_never_takes_the_place_of_an_object(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    bucket.put("new", b"something")

    done = reinit(
        *("model.safetensors", *RULE, "--shard-size", "1KB", "--force", "-o", bucket.url("new"))
    )

    assert done.code == 2
    assert done.err.splitlines()[0] == f"error: {bucket.url('new')!r} already exists"
    assert bucket.objects == {"new": b"something"}
    assert bucket.uploads == []


@pytest.mark.parametrize("option", ["--record-to", "--report"])
def test_a_file_next_to_an_output_needs_a_name_of_its_own(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket, option: str
) -> None:
    bucket.put("old.html/x", b"something")
    args = ("model.safetensors", *RULE, "-o", bucket.url("new.safetensors"), option)

    done = reinit(*args, bucket.url("old.html"))

    assert done.err.splitlines() == [
        f"error: cannot write {bucket.url('old.html')!r}: it is a folder, which is never replaced",
        "hint: name a file in it",
    ]
    if option == "--record-to":
        done = reinit(*args, bucket.url("records/"))
        assert done.err == (
            f"error: cannot write {bucket.url('records/')!r}: "
            "name the record too, not its folder alone\n"
        )
    assert list(bucket.objects) == ["old.html/x"]


def test_the_scheme_of_a_url_may_be_in_capitals_and_a_name_may_have_colons(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    url = bucket.url("a::b.safetensors").replace("s3:", "S3:")

    assert reinit("model.safetensors", *RULE, "-o", url).code == 0
    assert reinit("keys", url, "--count").out == "7\n"
    assert list(bucket.objects) == ["a::b.safetensors"]


def test_a_bucket_of_an_impossible_name_is_a_short_line(
    reinit: Callable[..., Done], checkpoint: Path, bucket: Bucket
) -> None:
    done = reinit("model.safetensors", *RULE, "-o", "s3://No bucket/new.safetensors")

    assert done.code == 2
    assert len(done.err) < 160
    assert done.err.endswith('Invalid bucket name "No bucket"\n')


def test_what_was_uploaded_or_is_sent_in_place_of_a_checkpoint_is_not_a_download(
    reinit: Callable[..., Done], bucket: Bucket, server: RangeServer
) -> None:
    bucket.put("m.pt", b"<html>log in</html>")
    server.files["m.pt"] = b"<html>log in</html>"

    uploaded = reinit("keys", bucket.url("m.pt")).err.splitlines()[1]
    sent = reinit("keys", f"{server.url}/m.pt").err.splitlines()[1]

    bucket.put("config.json", b"{}")
    config = reinit("keys", bucket.url("config.json")).err.splitlines()[1]

    assert config == f"hint: name its folder: s3://{bucket.name}"
    assert uploaded.startswith("hint: what was uploaded is not a checkpoint")
    assert sent.startswith("hint: the server sends this in place of a file")


def test_a_command_that_fetches_a_signed_url_says_what_it_lacks(
    reinit: Callable[..., Done], server: RangeServer
) -> None:
    server.files["m.pt"] = bytes(100_000)
    server.fault = lambda *_: "whole"

    plain = reinit("keys", f"{server.url}/m.pt").err.splitlines()[1]
    signed = reinit("keys", f"{server.url}/m.pt?sig=SECRET").err.splitlines()[1]

    assert plain == f"hint: fetch it first: curl --fail -L -O {server.url}/m.pt"
    assert signed == f"{plain}, with the query or password that is left out here"


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("output", ["s3:/b/new.safetensors", "memory:/d/", "S3:/b/new.safetensors"])
def test_an_output_at_a_url_that_lacks_a_slash_is_not_a_folder_here(
    reinit: Callable[..., Done], output: str
) -> None:
    before = sorted(Path().iterdir())

    done = reinit("model.safetensors", *RULE, "-o", output)

    assert done.code == 2
    assert "a URL has two slashes, of which pathlib drops one; write it as" in done.err
    assert output.replace(":/", "://") in done.err
    assert sorted(Path().iterdir()) == before


def test_a_source_at_a_url_that_lacks_a_slash_is_hinted_at(reinit: Callable[..., Done]) -> None:
    assert reinit("keys", "s3:/b/m.pt").err.splitlines()[1] == (
        "hint: a URL has two slashes, of which pathlib drops one: s3://b/m.pt"
    )


_SIGNED = "https://me:SECRET@h.invalid/m.pt?sig=SECRET&x=1"


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    "args",
    [
        ("kyes", _SIGNED),
        ("alxnet", "--weights", _SIGNED),
        ("keys", "model.safetensors", _SIGNED),
        ("model.safetensors", *RULE, "-o", _SIGNED),
        ("model.safetensors", *RULE, "-o", "s3://me:SECRET@h.invalid/m.pt"),
        ("model.safetensors", *RULE, "-o", "new.pt", "--record-to", _SIGNED),
        ("model.safetensors", *RULE, "-o", "new.pt", "--report", _SIGNED),
        ("keys", f" {_SIGNED}"),
        ("keys", f"'{_SIGNED}'"),
        ("keys", f"simplecache::{_SIGNED}"),
        ("keys", _SIGNED.replace("//", "/")),
        ("model.safetensors", "-c", _SIGNED),
        ("--files-from", _SIGNED, *RULE),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_secret_of_a_url_is_in_no_error_wherever_it_was_typed(
    reinit: Callable[..., Done], args: tuple[str, ...], form: tuple[str, ...]
) -> None:
    done = reinit(*args, *form)

    assert done.code in (1, 2)
    assert "h.invalid" in done.err
    assert "SECRET" not in done.out + done.err


def test_a_secret_of_a_url_in_a_list_is_in_no_error(
    reinit: Callable[..., Done], checkpoint: Path, server: RangeServer
) -> None:
    server.files["m.safetensors"] = checkpoint.read_bytes()
    Path("list.txt").write_text(
        f"{server.url}/m.safetensors?sig=SECRET\n{server.url}/none.safetensors?sig=SECRET\n"
    )
    args = ("--files-from", "list.txt", *RULE, "-o", "new/", "--keep-going")

    done = reinit(*args)
    again = reinit(*args, "--json")

    assert (done.code, again.code) == (3, 3) or again.code == 2
    assert done.err.splitlines()[0] == (f"error: there is no '{server.url}/none.safetensors'")
    assert "SECRET" not in done.out + done.err + again.out + again.err
