"""Send an object to S3: its parts several at a time, and then the one request that completes it.

An object of S3 is there whole or not at all. The parts of an upload are not visible, cost
storage until they are completed or aborted, and stay when a process is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import UTC, datetime, timedelta
from typing import Any

from reinit_cli.storage.remote.failures import naming_upload
from reinit_cli.threads import stop_here

_AHEAD_NBYTES = 64 * 2**20
"""What is on its way together: eight parts of the usual size."""

_STOP_SECONDS = 0.05
"""How often a thread that waits for a part looks whether its work was stopped."""

STALE = timedelta(days=1)
"""An unfinished upload as old as this belongs to no run that is still alive."""


class S3Upload:
    """A multipart upload; see `Upload`."""

    def __init__(self, url: str, fs: Any, path: str, part_nbytes: int, *, is_new: bool) -> None:
        """Prepare one, without a request.

        Args:
            url: what people call the object.
            fs: a file system of s3fs.
            path: the object's path in it.
            part_nbytes: the size of every part but the last.
            is_new: whether another object there is to be kept.
        """
        self._url = url
        self._fs = fs
        self._path = path
        self._bucket, self._key, _ = fs.split_path(path)
        self._part_nbytes = part_nbytes
        self._most = max(1, _AHEAD_NBYTES // part_nbytes)
        self._only_new = {"IfNoneMatch": "*"} if is_new else {}
        self._id = ""
        self._part = bytearray()
        self._count = 0
        self._under_way: dict[Future[dict[str, Any]], int] = {}
        self._parts: dict[int, dict[str, Any]] = {}
        self._etag = ""  # of the object as it appeared

    def begin(self) -> None:
        """Ask S3 for an upload."""
        with naming_upload(self._url):
            self._id = self._call("create_multipart_upload")["UploadId"]

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, and send each part that is full."""
        view = memoryview(data).cast("B")
        while view:
            room = self._part_nbytes - len(self._part)
            self._part += view[:room]
            view = view[room:]
            if len(self._part) == self._part_nbytes:
                self._send()

    def finish(self) -> None:
        """Send the last part, and wait for all of them; an empty object has one empty part."""
        if self._part or not self._count:
            self._send()
        self._wait_for_all_but(0)

    def complete(self) -> None:
        """Let the object appear, unless it is to be new and there is another."""
        parts = [{"PartNumber": number, **self._parts[number]} for number in sorted(self._parts)]
        etag = _etag_of(part["ETag"] for part in parts)
        try:
            with naming_upload(self._url):
                self._call(
                    "complete_multipart_upload",
                    UploadId=self._id,
                    MultipartUpload={"Parts": parts},
                    **self._only_new,
                )
        except Exception:
            # A request whose answer is lost is repeated, and finds the object that it made.
            if not etag or self._present_etag() != etag:
                raise
        self._id, self._etag = "", etag

    def abort(self) -> bool:
        """Cancel the parts under way and abort the upload."""
        for each in self._under_way:
            each.cancel()
        wait(self._under_way, timeout=1)
        self._under_way.clear()
        self._part = bytearray()
        if not self._id:
            return True
        upload, self._id = self._id, ""
        try:
            self._call("abort_multipart_upload", UploadId=upload)
        except FileNotFoundError:
            return True
        except Exception:  # noqa: BLE001 (the caller says what is left)
            return False
        return True

    def remove(self) -> bool:
        """Remove the object, unless it is another by now."""
        try:
            present = self._present_etag()
            if present == self._etag:
                self._call("delete_object")
        except Exception:  # noqa: BLE001 (the caller says what is left)
            return False
        return True

    def _call(self, method: str, **arguments: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self._bucket, Key=self._key, **arguments)

    def _send(self) -> None:
        """Send the part that is full, when few enough others are under way."""
        self._wait_for_all_but(self._most - 1)
        self._count += 1
        call = self._fs._call_s3(
            "upload_part",
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._id,
            PartNumber=self._count,
            Body=bytes(self._part),
        )
        self._under_way[asyncio.run_coroutine_threadsafe(call, self._fs.loop)] = self._count
        self._part = bytearray()

    def _wait_for_all_but(self, most: int) -> None:
        while len(self._under_way) > most:
            stop_here()
            done, _ = wait(self._under_way, timeout=_STOP_SECONDS, return_when=FIRST_COMPLETED)
            for each in done:
                number = self._under_way.pop(each)
                with naming_upload(self._url):
                    answer = each.result()
                kept = ("ETag", "ChecksumSHA256")
                self._parts[number] = {name: answer[name] for name in kept if name in answer}

    def _present_etag(self) -> str:
        """Return the ETag of the object that is visible; "" for none that can be seen."""
        try:
            return str(self._call("head_object")["ETag"])
        except Exception:  # noqa: BLE001 (what counts is why it was looked for)
            return ""


def _etag_of(parts: Any) -> str:
    """Return the ETag that S3 gives an object of several parts; "" where it is not a digest.

    It is the MD5 of the parts' MD5s, unless the object is encrypted with a key of its own.
    """
    etags = [str(etag).strip('"') for etag in parts]
    try:
        digests = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
    return f'"{whole}-{len(etags)}"'


def abort_stale(fs: Any, path: str, now: datetime | None = None) -> None:
    """Abort what killed runs have left at a path or below it.

    Nothing tells whether an unfinished upload is of a run that is alive but its age.

    Args:
        fs: a file system of s3fs.
        path: that of an object, or of a folder of objects.
        now: the present time.
    """
    bucket, key, _ = fs.split_path(path)
    oldest = (now or datetime.now(UTC)) - STALE
    found = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
    for each in found.get("Uploads", ()):
        is_here = each["Key"] == key or each["Key"].startswith(f"{key.rstrip('/')}/")
        if is_here and each["Initiated"] < oldest:
            fs.call_s3(
                "abort_multipart_upload",
                Bucket=bucket,
                Key=each["Key"],
                UploadId=each["UploadId"],
            )
