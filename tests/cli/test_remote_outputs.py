"""Outputs at URLs, as the command line refuses them and says what to type instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Done

if TYPE_CHECKING:
    from tests.servers.s3 import Bucket

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
