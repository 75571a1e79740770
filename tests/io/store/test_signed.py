"""Parts by signed address: one counts when the answer says which it is, whatever its status; all else comes another way."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dvcx.io.store.signed import SignedParts

DATA = bytes(range(256)) * 40


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    manner = "rclone"
    asked: list[str]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 2
    server: _Server

    def do_GET(self) -> None:  # the name is http.server's
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        self.server.asked.append(f"{self.path} {self.headers['Range']}")
        start, end = int(first), min(int(last), len(DATA) - 1)
        body = DATA[start : end + 1]
        status, said = 200, f"bytes {start}-{end}/{len(DATA)}"
        match self.server.manner:
            case "proper":
                status = 206
            case "whole":
                body, said = DATA, ""
            case "another":
                said = f"bytes {start + 1}-{end + 1}/{len(DATA)}"
            case "longer":
                body, said = DATA[start : end + 2], f"bytes {start}-{end + 1}/{len(DATA)}"
            case "behind" | "forbidden":
                status, body, said = (416, b"", "") if self.server.manner == "behind" else (403, b"no", "")
        self.send_response(status)
        if said:
            self.send_header("Content-Range", said)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) + (5 if self.server.manner == "short" else 0)))
        self.end_headers()
        self.wfile.write(body)
        if self.server.manner == "short":
            self.close_connection = True

    def log_message(self, *rest: Any) -> None:
        pass


@pytest.fixture
def parts(server: _Server) -> Iterator[SignedParts]:
    with contextlib.closing(reader(server)) as open_one:
        yield open_one


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def reader(server: _Server) -> SignedParts:
    return SignedParts(lambda name: f"http://127.0.0.1:{server.server_address[1]}/{name}?signature=secret", 5.0)


@pytest.mark.parametrize("manner", ["rclone", "proper"])
def test_a_part_that_says_which_it_is(server: _Server, parts: SignedParts, manner: str) -> None:
    server.manner = manner
    for start, length in ((0, 10), (300, 256), (len(DATA) - 3, 10)):
        assert parts.read("packs/a", start, length) == (DATA[start : start + length], len(DATA), '"one"')
    assert parts.works
    assert server.asked[0] == "/packs/a?signature=secret bytes=0-9"
    parts.close()
    assert parts.read("packs/a", 0, 10) is None


def test_a_server_that_sends_all_is_not_asked_again(server: _Server, parts: SignedParts) -> None:
    server.manner = "whole"
    assert parts.read("packs/a", 5, 10) is None and parts.read("packs/a", 5, 10) is None
    assert len(server.asked) == 1 and not parts.works


@pytest.mark.parametrize("manner", ["another", "longer", "short", "behind", "forbidden"])
def test_what_is_wrong_is_no_part_but_may_get_right(server: _Server, parts: SignedParts, manner: str) -> None:
    server.manner = manner
    assert parts.read("packs/a", 5, 10) is None
    server.manner = "rclone"
    part = parts.read("packs/a", 5, 10)
    assert part is not None and part.data == DATA[5:15]
    parts.close()


def test_behind_a_proxy_it_is_not_tried(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    parts = reader(server)
    assert parts.read("packs/a", 5, 10) is None and not server.asked


def test_no_server(server: _Server) -> None:
    parts = SignedParts(lambda name: f"http://127.0.0.1:9/{name}", 0.5)
    assert parts.read("packs/a", 5, 10) is None and not parts.works
