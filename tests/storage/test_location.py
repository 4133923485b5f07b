"""What a path is a URL of, what it is called, and what of it is secret."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reinit_cli.storage.local import LocalStore
from reinit_cli.storage.location import (
    Secrets,
    SourceName,
    is_fetched,
    is_remote,
    name_of_url,
    without_secrets,
)
from reinit_cli.storage.stores import store_of


@pytest.mark.parametrize(
    "path",
    ["s3://b/k", "https://h/m.pt", "memory://m", "HF://org/model", "a+b.c-1://x", "file:///x"],
)
def test_a_scheme_and_two_slashes_make_a_url(path: str) -> None:
    assert is_remote(path)


@pytest.mark.parametrize(
    "path",
    ["", "m.pt", "./s3://b/k", "a/b://c", "1s://x", "s3:/b/k", "://x", "simplecache::s3://b/k"],
)
def test_other_paths_are_those_of_files_here(path: str) -> None:
    assert not is_remote(path)
    assert isinstance(store_of(path), LocalStore)


def test_a_url_of_a_file_here_is_not_fetched() -> None:
    assert not is_fetched("file:///x.pt")
    assert isinstance(store_of("FILE:///x.pt"), LocalStore)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/folder/my model.pt", "my model.pt"),
        ("s3://bucket/100%25.pt", "100%25.pt"),
        ("s3://bucket/folder/", "folder"),
        ("s3://bucket", "bucket"),
        ("https://h/a/my%20model.pt?sig=a/b.bin#c", "my model.pt"),
        ("https://h/m.pt#part", "m.pt"),
        ("https://h/a%2Fb.pt", "b.pt"),
        ("https://h/%2e%2e/..", ".."),
    ],
)
def test_the_name_of_a_url_is_that_of_its_path(url: str, name: str) -> None:
    assert name_of_url(url) == name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@h:8/m.pt?sig=1&b=@#x", "https://h:8/m.pt"),
        ("https://token@h/m.pt", "https://h/m.pt"),
        ("https://h?sig=@", "https://h"),
        ("ftp://me:secret@h/m.pt", "ftp://h/m.pt"),
        ("s3://b/what?.pt", "s3://b/what?.pt"),
        ("hf://org/model@main/m.pt", "hf://org/model@main/m.pt"),
        ("hf://gpt2@main", "hf://gpt2@main"),
        ("a:b@c?d", "a:b@c?d"),
    ],
)
def test_what_is_secret_in_a_url_is_taken_out_and_can_be_put_back(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    if is_remote(url):
        assert Secrets.of(url).into(shown) == url


def test_what_is_made_of_a_remote_file_goes_to_the_current_folder() -> None:
    assert SourceName.of_file("s3://b/dir/m.pt", ".pt") == SourceName("", "m", ".pt")


def test_fsspec_is_not_imported_for_a_path() -> None:
    code = (
        "import sys; from reinit_cli.cli import main; main(['keys', 'nothing.pt']); "
        "print(*sorted({'fsspec', 'aiohttp', 's3fs'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (found.stdout, found.stderr[:6]) == ("\n", "error:")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:sec/ret@h:8/m.pt", "https://h:8/m.pt"),
        ("https://me:sec?ret@h/m.pt?sig=1", "https://h/m.pt"),
        ("https://[::1]:8/m@1.pt?sig=1", "https://[::1]:8/m@1.pt"),
        ("https://[fe80::a]/m@1.pt", "https://[fe80::a]/m@1.pt"),
        ("ftp://h/m.pt?sig=1", "ftp://h/m.pt"),
        ("abfs://c/m.pt?sv=1&sig=2", "abfs://c/m.pt"),
    ],
)
def test_a_secret_is_found_where_a_url_is_misspelled_and_where_it_is_not_of_the_web(
    url: str, shown: str
) -> None:
    assert without_secrets(url) == shown
    assert Secrets.of(url).into(shown) == url
