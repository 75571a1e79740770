"""What an object store's failures are called: always in words, with bucket and key, in time, and never with a secret."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvcx.errors import IntegrityError, NotFound, RemoteFailed, UsageError
from dvcx.io.store import fsspec, objectstore
from dvcx.io.store.backend import Backend
from dvcx.io.store.retry import open_retrying
from dvcx.io.store.schemes import open_backend
from tests import servers
from tests.servers import S3Server, SftpServer

CANARY = "canary"


def everything(backend: Backend, source: Path) -> list[BaseException]:
    """What each operation raises."""
    operations = [
        lambda: list(backend.list("objects")),
        lambda: backend.size("objects/x"),
        lambda: backend.read("objects/x"),
        lambda: backend.read("objects/x", 1, 2),
        lambda: list(backend.stream("objects/x", 10)),
        lambda: backend.write("objects/x", b"1"),
        lambda: backend.upload("objects/x", str(source)),
        lambda: backend.delete("objects/x"),
    ]
    raised = []
    for operation in operations:
        with pytest.raises(RemoteFailed) as caught:
            operation()
        raised.append(caught.value)
    return raised


def retrying(url: str, options: dict[str, str]) -> Backend:
    """The backend as commands use it."""
    timeout = float(options["timeout"])
    return open_retrying(lambda: open_backend(url, options, base="/"), timeout=timeout, label="remote 'r'", warn=print)


def check(raised: list[BaseException], words: str) -> None:
    for error in raised:
        assert isinstance(error, RemoteFailed)
        assert words in error.message, error.message
        assert "s3://" in error.message and "bucket" in error.message
        assert error.hint
        for text in (error.message, error.hint, repr(error), str(error.__cause__)):
            assert CANARY not in text and servers.SECRET_KEY not in text and "<" not in text and "http" not in text, text
        assert error.__cause__ is None and error.__suppress_context__


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1000)
    return path


def test_a_wrong_secret(s3_server: S3Server, source: Path) -> None:
    url, options = s3_server.fresh()
    backend = open_backend(url, {**options, "secret_access_key": CANARY}, base="/")
    raised = everything(backend, source)
    check(raised[:1] + raised[2:], "the secret key is wrong")
    check(raised[1:2], "access denied, 403")  # the answer to a HEAD has no text


def test_an_unknown_key(s3_server: S3Server, source: Path) -> None:
    url, options = s3_server.fresh()
    backend = open_backend(url, {**options, "access_key_id": CANARY}, base="/")
    raised = everything(backend, source)
    check(raised[:1] + raised[2:], "the access key is not known there")


def test_a_missing_bucket(s3_server: S3Server, source: Path) -> None:
    _, options = s3_server.fresh()
    backend = open_backend("s3://nothing-here/below", options, base="/")
    check(everything(backend, source), "the bucket 'nothing-here' does not exist")


def test_an_absent_object_in_a_bucket_that_is_there(s3_server: S3Server) -> None:
    url, options = s3_server.fresh()
    backend = open_backend(url, options, base="/")
    assert backend.size("objects/x") is None
    with pytest.raises(NotFound, match="objects/x"):
        backend.read("objects/x")


def test_nobody_listens(source: Path) -> None:
    options = S3Server("nobody", 1).options(timeout="5")
    began = time.monotonic()
    check(everything(open_backend("s3://bucket/x", options, base="/"), source), "the endpoint cannot be reached")
    assert time.monotonic() - began < 30


def test_an_endpoint_that_was_never_reached_is_given_up_sooner_than_a_stall(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectstore, "FIRST_CONTACT", 0.5)
    backend = retrying("s3://bucket/x", S3Server("nobody", 1).options(timeout="300"))
    with pytest.raises(RemoteFailed, match=r"cannot be reached .*; tried \d+ times"):
        backend.read("objects/x")
    assert "trying again, until 0.5 seconds have passed without progress" in capsys.readouterr().out


def test_a_host_that_has_no_address() -> None:
    options = {**S3Server("nobody", 1).options(timeout="5"), "endpoint": "https://nothing.invalid"}
    with pytest.raises(RemoteFailed, match=r"cannot be resolved|cannot be reached"):
        open_backend("s3://bucket/x", options, base="/").read("objects/x")


def test_https_where_http_is_spoken(rclone: S3Server) -> None:
    options = {**rclone.options(timeout="5"), "endpoint": rclone.endpoint.replace("http", "https")}
    with pytest.raises(RemoteFailed, match="TLS"):
        open_backend("s3://bucket/x", options, base="/").read("objects/x")


def test_a_stall_ends_within_the_timeout(rclone: S3Server, source: Path) -> None:
    url, options = rclone.fresh()
    with servers.faulty_proxy(rclone.port, "stall", 10) as port:
        backend = open_backend(url, {**options, "endpoint": f"http://127.0.0.1:{port}", "timeout": "1"}, base="/")
        for operation in (
            lambda: list(backend.list("")),
            lambda: backend.read("objects/x"),
            lambda: backend.upload("objects/x", str(source)),
        ):
            began = time.monotonic()
            with pytest.raises(RemoteFailed, match="no progress for 1 seconds"):
                operation()
            assert time.monotonic() - began < 30


@pytest.mark.parametrize("mode", ["cut", "stall"])
def test_an_upload_that_breaks_leaves_nothing(s3_server: S3Server, tmp_path: Path, mode: str) -> None:
    url, options = s3_server.fresh()
    source = tmp_path / "source"
    source.write_bytes(b"x" * (40 << 20))
    with servers.faulty_proxy(s3_server.port, mode, 3 << 20) as port:
        backend = open_backend(url, {**options, "endpoint": f"http://127.0.0.1:{port}", "timeout": "2"}, base="/")
        began = time.monotonic()
        with pytest.raises(RemoteFailed):
            backend.upload("packs/x", str(source))
        assert time.monotonic() - began < 30
    direct = open_backend(url, options, base="/")
    assert list(direct.list("")) == []
    assert servers.unfinished_uploads(s3_server) == []


def test_a_download_goes_on_where_it_broke(seaweedfs: S3Server) -> None:
    url, options = seaweedfs.fresh()
    data = bytes(range(256)) * (16 << 12)
    open_backend(url, options, base="/").write("packs/x", data)
    with servers.faulty_proxy(seaweedfs.port, "cutdown", 3 << 20) as port:
        backend = retrying(url, {**options, "endpoint": f"http://127.0.0.1:{port}"})
        assert b"".join(backend.stream("packs/x", len(data))) == data
        assert backend.read("packs/x") == data
        assert backend.read("packs/x", 1000, 13 << 20) == data[1000 : 1000 + (13 << 20)]


def test_an_unknown_ssh_server_is_refused(sftp: SftpServer, isolated: Path) -> None:
    sftp.prepare(isolated)
    (isolated / ".ssh/known_hosts").write_text("")
    with pytest.raises(RemoteFailed, match="known_hosts"):
        open_backend(sftp.fresh(), {"timeout": "5"}, base="/")


def test_an_ssh_server_that_refuses_the_login(sftp: SftpServer, isolated: Path) -> None:
    sftp.prepare(isolated)
    (isolated / ".ssh/id_rsa").unlink()
    with pytest.raises(RemoteFailed, match="no key to log in"):
        open_backend(sftp.fresh(), {"timeout": "5"}, base="/")


def test_an_ssh_server_that_stalls(sftp: SftpServer, isolated: Path) -> None:
    with servers.faulty_proxy(sftp.port, "stall", 4000) as port:
        dataclasses.replace(sftp, known_hosts=sftp.known_hosts.replace(str(sftp.port), str(port))).prepare(isolated)
        began = time.monotonic()
        with pytest.raises(RemoteFailed):
            backend = open_backend(dataclasses.replace(sftp, port=port).fresh(), {"timeout": "2"}, base="/")
            for number in range(100):
                backend.write(f"objects/{number}", b"x" * 1000)
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("mode", ["cut", "cutdown"])
def test_an_ssh_connection_that_breaks_is_made_anew(sftp: SftpServer, isolated: Path, mode: str) -> None:
    data = bytes(range(256)) * (20 << 10)
    with servers.faulty_proxy(sftp.port, mode, 1 << 20, times=2) as port:
        dataclasses.replace(sftp, known_hosts=sftp.known_hosts.replace(str(sftp.port), str(port))).prepare(isolated)
        backend = retrying(dataclasses.replace(sftp, port=port).fresh(), {"timeout": "20"})
        backend.write("packs/x", data)
        assert b"".join(backend.stream("packs/x", len(data))) == data
        assert backend.read("packs/x", 1000, 4 << 20) == data[1000 : 1000 + (4 << 20)]
        assert [item.name for item in backend.list("")] == ["packs/x"]
        backend.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # a user would see a traceback
def test_an_ssh_connection_that_is_gone_is_told_to_who_reads_alone(sftp: SftpServer, isolated: Path) -> None:
    from paramiko import SSHException

    sftp.prepare(isolated)
    backend = open_backend(sftp.fresh(), {"timeout": "20"}, base="/")
    assert isinstance(backend, fsspec.FsspecBackend)
    backend.write("packs/x", b"x" * 100_000)
    with pytest.raises(SSHException), backend._connection() as system, system.open(backend._path("packs/x")) as file:
        system.client.close()
        next(file.readv([(0, 100_000)]))


class _Answer(http.server.BaseHTTPRequestHandler):
    """Answers every request as the server's `answer` says: a status, headers, a body."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(self.headers.get("Host"))  # type: ignore[attr-defined]
        status, headers, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        server.answer, server.seen = (status, headers, body), []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def error_body(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{CANARY}</Message><AWSAccessKeyId>{CANARY}</AWSAccessKeyId></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "RequestTimeTooSkewed", "clock differs too much"),
        (400, "ExpiredToken", "have expired"),
        (403, "AccessDenied", "access denied, 403 AccessDenied"),
        (400, "AuthorizationHeaderMalformed", "in another region"),
        (301, "PermanentRedirect", "the region is probably wrong"),
        (507, "QuotaExceeded", "the store is full"),
        (418, "Teapot", "the service answered 418 Teapot"),
    ],
)
def test_answers(status: int, code: str, words: str, source: Path) -> None:
    with answering(status, {}, error_body(code)) as server:
        backend = open_backend("s3://bucket/x", S3Server("", server.server_port).options(timeout="2"), base="/")
        raised = everything(backend, source)
        check(raised[:1] + raised[2:], words)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"<html>hello</html>", b"{}"])
def test_a_listing_that_is_no_listing_is_an_error(body: bytes) -> None:
    with answering(200, {}, body) as server:
        backend = open_backend("s3://bucket/x", S3Server("", server.server_port).options(timeout="2"), base="/")
        with pytest.raises(RemoteFailed):
            list(backend.list(""))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("target", ["http://localhost:{port}/x", "file:///etc/passwd", "http://169.254.169.254/latest/"])
def test_redirects_are_not_followed(status: int, target: str, source: Path) -> None:
    with answering(200, {"ETag": '"x"', "Last-Modified": "Mon, 23 Nov 2026 09:36:51 GMT"}, b"evil") as other:
        where = target.format(port=other.server_port)
        with answering(status, {"Location": where}, b"") as server:
            backend = open_backend("s3://bucket/x", S3Server("", server.server_port).options(timeout="2"), base="/")
            check(everything(backend, source), "redirect")
        assert other.seen == []  # type: ignore[attr-defined]


def test_an_answer_without_an_end_is_cut_off() -> None:
    """Item 45: no more is read than is recorded, whatever the answer says of itself."""

    class Endless(_Answer):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Mon, 23 Nov 2026 09:36:51 GMT")
            self.send_header("Content-Length", str(1 << 50))
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.server.sent += self.wfile.write(b"x" * 65536)  # type: ignore[attr-defined]

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        sent = 0

    with Server(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            backend = retrying("s3://bucket/x", S3Server("", server.server_port).options(timeout="2"))
            with pytest.raises(IntegrityError, match="more than the 1000000 bytes"):
                list(backend.stream("objects/x", 1_000_000))
            time.sleep(0.1)
            assert server.sent < 50 << 20
        finally:
            server.shutdown()
            thread.join()


def test_no_credentials(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RemoteFailed, match="no credentials for bucket 'bucket'") as caught:
        open_backend("s3://bucket/x", {}, base="/")
    assert "s3:GetObject" in caught.value.message and "s3:PutObject" in caught.value.message


def test_credentials_and_endpoint_of_a_profile(isolated: Path, rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = rclone.fresh()
    (isolated / ".aws").mkdir()
    (isolated / ".aws/credentials").write_text(
        f"[lab]\naws_access_key_id = {options['access_key_id']}\naws_secret_access_key = {options['secret_access_key']}\n"
    )
    (isolated / ".aws/config").write_text(f"[profile lab]\nregion = us-east-1\nendpoint_url = {options['endpoint']}\n")
    backend = open_backend(url, {"profile": "lab", "timeout": "5"}, base="/")
    backend.write("objects/x", b"1")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert open_backend(url, {"timeout": "5"}, base="/").read("objects/x") == b"1"
    with pytest.raises(UsageError, match="'other' is not in"):
        open_backend(url, {"profile": "other"}, base="/")


def test_credentials_of_the_environment(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = rclone.fresh()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
    open_backend(url, {"timeout": "5"}, base="/").write("objects/x", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1:9000")
    with pytest.raises(UsageError, match="not encrypted"):
        open_backend(url, {}, base="/")
