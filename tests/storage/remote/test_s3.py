"""S3 keeps the contract of all stores, and what it refuses is one line."""

from __future__ import annotations

import pytest

from reinit_cli.errors import SourceChangedError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.reader import Store
from reinit_cli.storage.stores import store_of
from tests.contracts.store_contract import DATA, StoreContract
from tests.servers.s3 import CUT, DENIED, Asked, Bucket, Fault


@pytest.mark.slow
class TestS3(StoreContract):
    limit = 5

    @pytest.fixture(autouse=True)
    def _bucket(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def make(self) -> Store:
        return store_of(f"s3://{self.bucket.name}")

    def put(self, name: str, data: bytes) -> str:
        name = name.removeprefix(f"s3://{self.bucket.name}/")
        self.bucket.fs.pipe_file(f"{self.bucket.name}/{name}", data)
        return f"s3://{self.bucket.name}/{name}"

    def put_folder(self, name: str) -> str:
        self.put(f"{name}/", b"")  # as consoles make folders
        return f"s3://{self.bucket.name}/{name}"

    def remove(self, path: str) -> None:
        self.bucket.fs.rm(path)


def _put(bucket: Bucket, name: str, data: bytes) -> str:
    bucket.fs.pipe_file(f"{bucket.name}/{name}", data)
    bucket.server.asked.clear()
    return f"s3://{bucket.name}/{name}"


def test_a_head_and_a_range_are_what_a_first_read_takes(bucket: Bucket) -> None:
    url = _put(bucket, "a b/100%.bin", DATA)

    reader = store_of(url).open(url)

    assert reader.read(8, 30_000) == DATA[8:30_008]
    assert [each.verb for each in bucket.server.asked] == ["head", "get"]


def test_an_object_that_is_replaced_between_two_ranges_is_a_change(bucket: Bucket) -> None:
    url = _put(bucket, "m.bin", DATA)
    reader = store_of(url).open(url)
    assert reader.read(0, 9) == DATA[:9]

    _put(bucket, "m.bin", DATA[::-1])

    with pytest.raises(SourceChangedError):
        reader.read(500_000, 9)


@pytest.mark.parametrize("verb", ["head", "get"])
def test_a_refusal_is_told_from_what_is_missing(bucket: Bucket, verb: str) -> None:
    url = _put(bucket, "m.bin", DATA)

    def choose(asked: Asked) -> Fault | None:
        return DENIED if asked.verb == verb else None

    with (
        bucket.server.failing(choose),
        pytest.raises(UnreadableSourceError, match=f"no access to '{url}'"),
    ):
        store_of(url).open(url).read(0, 1)
    with pytest.raises(SourceNotFoundError, match=f"there is no '{url}x'") as missing:
        store_of(url).open(url + "x")
    assert missing.value.known == ("m.bin",)


@pytest.mark.parametrize("fault", [CUT, Fault(503, "SlowDown")])
def test_a_request_that_fails_once_is_made_again(bucket: Bucket, fault: Fault) -> None:
    url = _put(bucket, "m.bin", DATA)
    left = {"head": 1, "get": 1}

    def choose(asked: Asked) -> Fault | None:
        left[asked.verb] -= 1
        return fault if not left[asked.verb] else None

    with bucket.server.failing(choose):
        assert store_of(url).open(url).read(0, 9) == DATA[:9]


def test_no_credentials_are_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _put(bucket, "m.bin", DATA)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreadableSourceError, match="Unable to locate credentials"):
        store_of(url).open(url)
    s3fs.S3FileSystem.clear_instance_cache()
