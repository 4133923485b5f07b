"""A file of a web server is read by ranges, and whatever the server does wrong is one line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reinit_cli.errors import (
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    UnreadableSourceError,
)
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.stores import store_of
from tests.contracts.store_contract import DATA
from tests.servers.web import RangeServer


def _open(server: RangeServer, name: str = "m.bin", data: bytes = DATA) -> Reader:
    server.files[name] = data
    return store_of(f"{server.url}/{name}").open(f"{server.url}/{name}")


def test_bytes_are_read_from_any_place_and_each_is_fetched_once(server: RangeServer) -> None:
    reader = _open(server)
    buffer = bytearray(100_000)

    reader.read_into(memoryview(buffer), 123_456)

    assert buffer == DATA[123_456:223_456]
    assert (reader.nbytes, reader.is_seekable, reader.is_distant) == (len(DATA), True, True)
    assert reader.read(130_000, 50_000) == DATA[130_000:180_000]
    assert reader.head(65_536) == DATA[:65_536]
    assert len(server.log) == 2
    assert reader.head(10**9) == DATA


@pytest.mark.parametrize("nbytes", [0, 1, 65_535, 65_536, 65_537])
def test_a_short_file_takes_as_few_requests_as_it_can(server: RangeServer, nbytes: int) -> None:
    reader = _open(server, data=DATA[:nbytes])

    assert (reader.nbytes, reader.head(10**6)) == (nbytes, DATA[:nbytes])
    assert len(server.log) == (2 if nbytes > 65_536 else 1)


def test_a_read_that_goes_on_fetches_more_each_time(server: RangeServer) -> None:
    data = bytes(range(256)) * 2**17
    reader = _open(server, data=data)

    for at in range(0, len(data), 2**16):
        assert reader.read(at, 2**16) == data[at : at + 2**16]

    assert len(server.log) <= 9
    assert server.nbytes == len(data)


def test_the_end_of_a_file_is_read_with_what_lies_before_it(server: RangeServer) -> None:
    reader = _open(server)
    end = len(DATA)

    assert [reader.read(end - back, 22) for back in (22, 42, 9000)] == [
        DATA[end - back :][:22] for back in (22, 42, 9000)
    ]
    assert [entry[1:3] for entry in server.log[1:]] == [(end - 65_536, end)]


def test_ranges_that_lie_apart_are_fetched_together(server: RangeServer) -> None:
    reader = _open(server)
    server.latency = 0.05
    ranges = [(at, at + 100) for at in range(70_000, 700_000, 100_000)]

    reader.gather(ranges)

    assert server.most_in_flight >= 3
    assert len(server.log) == 1 + len(ranges)
    assert [reader.read(start, 100) for start, _ in ranges] == [DATA[a:b] for a, b in ranges]
    assert len(server.log) == 1 + len(ranges)


def test_ranges_with_little_between_them_are_one_request(server: RangeServer) -> None:
    reader = _open(server)

    reader.gather([(200_000, 200_100), (70_000, 70_010), (100_000, 100_010), (90_000, 100_000)])

    assert sorted(entry[1:3] for entry in server.log[1:]) == [(70_000, 100_010), (200_000, 200_100)]


@pytest.mark.parametrize("fault", [500, 502, 503, 429, 408, "cut"])
def test_what_may_go_away_is_asked_for_four_times(server: RangeServer, fault: str | int) -> None:
    reader = _open(server)

    for failing in (3, 4):
        server.log.clear()
        server.fault = lambda at, _, failing=failing: fault if at < failing else ""
        if failing == 3:
            assert reader.read(100_000, 100_000) == DATA[100_000:200_000]
        else:
            with pytest.raises(UnreadableSourceError, match="four times") as refused:
                reader.read(300_000, 100_000)
            assert refused.value.about == f"{server.url}/m.bin"
        assert len(server.log) == 4


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (401, UnreadableSourceError, "no access to {!r}: the server says 401 Unauthorized"),
        (403, UnreadableSourceError, "no access to {!r}: the server says 403 Forbidden"),
        (404, SourceNotFoundError, "there is no {!r}"),
        (410, SourceNotFoundError, "there is no {!r}"),
        (400, UnreadableSourceError, "cannot read {!r}: the server says 400 Bad Request"),
        ("whole", UnreadableSourceError, "cannot read {!r}: the server sends whole files only"),
        ("other range", UnreadableSourceError, "the server sent another range than"),
        (503, UnreadableSourceError, "the server says 503 Service Unavailable, four times"),
        ("drop", UnreadableSourceError, "Server disconnected, four times"),
    ],
)
def test_what_a_server_refuses_is_one_line(
    server: RangeServer, fault: str | int, error: type[SourceError], says: str
) -> None:
    server.fault = lambda *_: fault

    with pytest.raises(error) as refused:
        _open(server)

    assert says.format(f"{server.url}/m.bin") in str(refused.value)
    assert server.nbytes <= len(DATA)


def test_a_server_without_ranges_is_refused_before_a_file_is_taken(server: RangeServer) -> None:
    server.fault = lambda *_: "whole"

    with pytest.raises(UnreadableSourceError, match="whole files only"):
        _open(server, data=bytes(2**26))
    assert (
        store_of(server.url).open(f"{server.url}/small").read(0, 3) == b"one"
        if (server.files.setdefault("small", b"one"))
        else False
    )


@pytest.mark.parametrize("fault", ["other etag", "gone"])
def test_a_file_that_becomes_another_between_two_requests_is_a_change(
    server: RangeServer, fault: str
) -> None:
    reader = _open(server)
    server.fault = lambda *_: fault

    with pytest.raises(SourceChangedError):
        reader.read(200_000, 10)
    with pytest.raises(SourceChangedError):
        reader.check_unchanged()


def test_without_an_etag_the_length_tells(server: RangeServer) -> None:
    server.fault = lambda *_: "no etag"
    reader = _open(server)
    reader.check_unchanged()

    server.files["m.bin"] = DATA + b"x"

    with pytest.raises(SourceChangedError):
        reader.check_unchanged()


def test_a_redirect_is_followed_and_a_circle_is_refused(server: RangeServer) -> None:
    server.redirects = {"m.bin": "/a%20b/%25.bin", "circle": "/circle"}
    server.files["a b/%.bin"] = DATA

    assert _open(server, "m.bin", b"").read(70_000, 9) == DATA[70_000:70_009]
    with pytest.raises(UnreadableSourceError, match="redirected too often"):
        _open(server, "circle")


@pytest.mark.parametrize("name", ["a b.bin", "a%20b.bin"])
def test_spaces_may_be_spelled_as_in_a_url(server: RangeServer, name: str) -> None:
    server.files["a b.bin"] = DATA

    assert store_of(server.url).open(f"{server.url}/{name}").read(0, 4) == DATA[:4]


def test_a_query_is_sent_as_it_is_and_shown_nowhere(server: RangeServer) -> None:
    server.files["m.bin"] = DATA
    url = f"{server.url}/m.bin?sig=a%2Fb+c%3D&x=~"
    reader = store_of(url).open(url)

    assert reader.read(70_000, 4) == DATA[70_000:70_004]
    assert {entry[0] for entry in server.log} == {"/m.bin?sig=a%2Fb+c%3D&x=~"}
    assert reader.path == f"{server.url}/m.bin"
    server.fault = lambda *_: "drop"
    with pytest.raises(UnreadableSourceError) as refused:
        reader.read(200_000, 4)
    assert "sig" not in str(refused.value)


def test_a_port_where_nobody_listens_is_one_line(server: RangeServer) -> None:
    with pytest.raises(UnreadableSourceError, match=r"127.0.0.1 cannot be reached: .*four times"):
        store_of("http://127.0.0.1:1/m.pt").open("http://127.0.0.1:1/m.pt")


def test_blocks_are_fetched_ahead_eight_at_a_time_and_no_more(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reinit_cli.storage.remote.ahead.BLOCK_NBYTES", 10_000)
    reader = _open(server)
    server.latency = 0.05
    reader.will_read([(100_000, 400_000), (500_000, 620_000)])
    read = bytearray()
    buffer = memoryview(bytearray(7_500))

    for at in [*range(100_000, 400_000, 7_500), *range(500_000, 620_000, 7_500)]:
        reader.read_into(buffer, at)
        read += buffer

    assert server.most_in_flight == 8
    assert read == DATA[100_000:400_000] + DATA[500_000:620_000]
    assert len(server.log) == 1 + 30 + 12
    reader.close()


def test_what_was_not_foretold_is_read_all_the_same(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reinit_cli.storage.remote.ahead.BLOCK_NBYTES", 10_000)
    reader = _open(server)
    reader.will_read([(100_000, 200_000), (300_000, 400_000), (600_000, 700_000)])

    def read(at: int, nbytes: int) -> bytes:
        buffer = bytearray(nbytes)
        reader.read_into(memoryview(buffer), at)
        return bytes(buffer)

    for at, nbytes in [
        (105_000, 10), (99_990, 20), (350_000, 120_000), (100_000, 50), (650_000, 9), (0, 5),
    ]:  # fmt: skip
        assert read(at, nbytes) == DATA[at : at + nbytes]
    reader.close()


def test_a_block_that_fails_fails_its_reader(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reinit_cli.storage.remote.ahead.BLOCK_NBYTES", 10_000)
    reader = _open(server)
    reader.will_read([(100_000, 300_000)])
    server.fault = lambda *_: 403

    with pytest.raises(UnreadableSourceError, match="no access"):
        reader.read_into(memoryview(bytearray(10)), 100_000)
    reader.close()


@pytest.mark.parametrize("name", ["folder/", "sub/x/"])
def test_a_folder_is_not_listed(server: RangeServer, name: str) -> None:
    store = store_of(server.url)

    assert store.kind_of(f"{server.url}/{name}") == "folder"
    with pytest.raises(UnreadableSourceError, match="http does not list folders: name a file"):
        store.list(f"{server.url}/{name}")
    assert not Path(name).exists()


@pytest.mark.parametrize(
    "place", ["127.0.0.1:99999", "127.0.0.1:port", "[::1", "127.0.0.1\\a", "me:pass/word@h"]
)
def test_a_place_that_no_url_has_is_one_line_without_a_password(
    server: RangeServer, place: str
) -> None:
    url = f"http://{place}/m.bin"

    with pytest.raises(UnreadableSourceError, match=r"it is not a valid URL$") as refused:
        store_of(url).open(url)

    assert "word" not in str(refused.value)


def test_an_address_of_ipv6_is_reached() -> None:
    with _ipv6_server() as port:
        url = f"http://[::1]:{port}/m.bin"

        assert store_of(url).open(url).head(9) == b"over IPv6"


def test_why_a_server_is_not_reached_is_said_in_the_words_of_the_system(
    server: RangeServer,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/m.bin"

    with pytest.raises(UnreadableSourceError, match=r"reached: connection refused, four times$"):
        store_of(url).open(url)


@pytest.mark.parametrize("place", ["ftp://h/m.bin", "file:///m.bin", "s3://b/m.bin"])
def test_a_redirect_that_leaves_the_web_is_refused_once(server: RangeServer, place: str) -> None:
    server.redirects["m.bin"] = place

    with pytest.raises(UnreadableSourceError, match=r"to a place that is not on the web$"):
        store_of(server.url).open(f"{server.url}/m.bin")

    assert len(server.log) == 1


def test_a_web_server_without_tls_is_refused_once_and_in_words(server: RangeServer) -> None:
    url = f"https{server.url[4:]}/m.bin"

    with pytest.raises(UnreadableSourceError, match=r"no https with 127\.0\.0\.1: [a-z ]+$"):
        store_of(url).open(url)


@contextmanager
def _ipv6_server() -> Iterator[int]:
    """Answer one request over IPv6, where this machine has it."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(2**16)
            head = b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-8/9\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head + b"over IPv6")

    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listening:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)
