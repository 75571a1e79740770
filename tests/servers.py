"""Real servers for tests, on 127.0.0.1 only: SeaweedFS, `rclone serve s3`, and a faulty proxy.

A server is a process of its own session, ended with its children when its context ends or the test run is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY = "dvcxtestkey"
READER_KEY = "dvcxreader"
SECRET_KEY = "dvcx-test-secret-canary"
BUCKET = "dvcx-test"
REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with one bucket. `port` is its HTTP port on 127.0.0.1."""

    name: str
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def options(self, **changes: str) -> dict[str, str]:
        """The remote's options to reach it."""
        options = {
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "timeout": "20",
        }
        return {**options, **changes}

    def fresh(self) -> tuple[str, dict[str, str]]:
        """A url nobody has used yet, and the options to reach it."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}", self.options()


def program(name: str) -> str:
    """Where the program of a PyPI package is: beside this Python, else on PATH; "" when absent."""
    beside = Path(sysconfig.get_path("scripts")) / name
    return str(beside) if beside.exists() else shutil.which(name) or ""


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """SeaweedFS in one process (`weed mini`: master, volume, filer, S3 gateway). It is up in about 1.3 seconds."""
    names = ("s3", "master", "volume", "filer", "admin")
    ports = _free_ports(2 * len(names))
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}], "actions": actions}
        for name, key, actions in (
            ("dvcx", ACCESS_KEY, ["Admin", "Read", "List", "Tagging", "Write"]),
            ("reader", READER_KEY, ["Read", "List"]),
        )
    ]
    config = directory / "identities.json"
    config.write_text(json.dumps({"identities": identities}))
    data = directory / "data"
    data.mkdir()
    command = [
        program("weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    for index, name in enumerate(names):
        command += [f"-{name}.port={ports[2 * index]}", f"-{name}.port.grpc={ports[2 * index + 1]}"]
    try:
        with _running(command, directory, ports[0]):
            server = S3Server("seaweedfs", ports[0])
            _make_bucket(server)
            yield server
    finally:
        for port in ports:  # it listens on sockets in /tmp, whatever TMPDIR says
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def rclone(directory: Path) -> Iterator[S3Server]:
    """`rclone serve s3` over a directory."""
    (port,) = _free_ports(1)
    data = directory / "data"
    (data / BUCKET).mkdir(parents=True)
    config = directory / "rclone.conf"
    config.write_text("")
    command = [
        program("rclone"),
        "serve",
        "s3",
        f"--config={config}",
        f"--addr=127.0.0.1:{port}",
        f"--auth-key={ACCESS_KEY},{SECRET_KEY}",
        f"--cache-dir={directory / 'cache'}",
        str(data),
    ]
    with _running(command, directory, port):
        yield S3Server("rclone", port)


@dataclass(frozen=True)
class SftpServer:
    """A running SFTP server. `known_hosts` and `identity` are what goes into ~/.ssh to be let in."""

    port: int
    known_hosts: str
    identity: str

    def fresh(self) -> str:
        """A url nobody has used yet."""
        return f"sftp://dvcx@127.0.0.1:{self.port}/{uuid.uuid4().hex}"

    def prepare(self, home: Path) -> None:
        """Let the user whose home this is in."""
        (home / ".ssh").mkdir(mode=0o700)
        (home / ".ssh/known_hosts").write_text(self.known_hosts)
        (home / ".ssh/id_rsa").write_text(self.identity)
        (home / ".ssh/id_rsa").chmod(0o600)


@contextlib.contextmanager
def sftp(directory: Path) -> Iterator[SftpServer]:
    """`rclone serve sftp` over a directory. Needs paramiko to make the keys."""
    import paramiko

    (port,) = _free_ports(1)
    for name in ("host", "user"):
        paramiko.RSAKey.generate(2048).write_private_key_file(str(directory / name))
    host, user = (paramiko.RSAKey.from_private_key_file(str(directory / name)) for name in ("host", "user"))
    (directory / "authorized").write_text(f"ssh-rsa {user.get_base64()}\n")
    (directory / "rclone.conf").write_text("")
    (directory / "data").mkdir()
    command = [
        program("rclone"),
        "serve",
        "sftp",
        f"--config={directory / 'rclone.conf'}",
        f"--addr=127.0.0.1:{port}",
        f"--key={directory / 'host'}",
        f"--authorized-keys={directory / 'authorized'}",
        "--user=dvcx",
        f"--cache-dir={directory / 'cache'}",
        "--vfs-cache-mode=writes",
        "--vfs-write-back=0s",
        str(directory / "data"),
    ]
    with _running(command, directory, port):
        known = f"[127.0.0.1]:{port} ssh-rsa {host.get_base64()}\n"
        yield SftpServer(port, known, (directory / "user").read_text())


@contextlib.contextmanager
def faulty_proxy(upstream: int, mode: str, count: int, *, times: int = 1 << 30) -> Iterator[int]:
    """A TCP proxy on 127.0.0.1 that hurts each connection after `count` bytes, the first `times` of them; yields its port.

    mode "cut": reset after bytes sent to the server; "cutdown": after bytes received from it; "stall": stop forwarding.
    """
    stop = threading.Event()
    hurt = threading.Semaphore(times)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    sockets = [listener]

    def reset(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads it, which would keep it open
            sock.close()

    def pump(source: socket.socket, target: socket.socket, way: str, seen: dict[str, int]) -> None:
        try:
            while data := source.recv(65536):
                seen[way] += len(data)
                if (mode, way) in (("cut", "up"), ("cutdown", "down")) and seen[way] > count and hurt.acquire(blocking=False):
                    reset(source)
                    reset(target)
                    return
                if mode == "stall" and seen["up"] > count:
                    stop.wait()
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for sock in (source, target):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", upstream))
            except OSError:
                return
            sockets.extend((client, server))
            seen = {"up": 0, "down": 0}
            for pair in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=pump, args=(*pair, seen), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@dataclass
class HttpFaults:
    """A proxy that understands HTTP, at `port`: it answers `refuse`d requests itself and passes the others on.

    `seen` counts requests by method.
    """

    port: int
    upstream: int
    seen: dict[str, int]
    rules: list[tuple[str, str, int, bytes, dict[str, str]]]
    lock: threading.Lock

    def refuse(self, method: str, status: int, code: str = "", *, path: str = "", times: int = 1, **headers: str) -> None:
        """Answer the next requests of a method (whose path and query hold `path`) with an error."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>canary</Message></Error>".encode() if code else b""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.rules.extend([(method, path, status, body, named)] * times)

    def rule_for(self, method: str, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        """The fault this request meets, which is then used up."""
        with self.lock:
            self.seen[method] = self.seen.get(method, 0) + 1
            for number, (its_method, part, *answer) in enumerate(self.rules):
                if its_method in (method, "*") and part in path:
                    del self.rules[number]
                    return answer[0], answer[1], answer[2]  # type: ignore[return-value]
        return None


@contextlib.contextmanager
def http_faults(upstream: int) -> Iterator[HttpFaults]:
    """A faulty HTTP proxy before the server at port `upstream`. Signatures stay right: it changes no header."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.rule_for(self.command, self.path)
            if fault is None:
                connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                data = answer.read()
                fault = (answer.status, data, dict(answer.getheaders()))
                connection.close()
            status, data, headers = fault
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        faults = HttpFaults(server.server_port, upstream, {}, [], threading.Lock())
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield faults
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _running(command: list[str], directory: Path, port: int) -> Iterator[None]:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "TMPDIR": str(directory)}
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    try:
        _wait_until_it_answers(process, directory, port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG, SIGKILL): a test run that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_until_it_answers(process: subprocess.Popen[bytes], directory: Path, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, http.client.HTTPException):  # it speaks something else
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log = (directory / "server.log").read_text(errors="replace")
    raise RuntimeError(f"the server did not start:\n{log[-3000:]}")


def unfinished_uploads(server: S3Server, below: str = "") -> list[str]:
    """Keys of multipart uploads that were begun and neither completed nor aborted."""
    from botocore.exceptions import ClientError

    client = _client(server)
    try:
        return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET, Prefix=below).get("Uploads", [])]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":  # so rclone says that there are none
            raise
        return []
    finally:
        client.close()


def _make_bucket(server: S3Server) -> None:
    """Create the bucket and wait until the server takes an object (a fresh SeaweedFS needs a moment to grow a volume)."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(server)
    deadline = time.monotonic() + 60
    created = False
    while True:
        try:
            if not created:
                client.create_bucket(Bucket=BUCKET)
                created = True
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"x" * 100_000)
            client.delete_object(Bucket=BUCKET, Key="ready")
            break
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    client.close()


def _client(server: S3Server) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(proxies={}, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _free_ports(count: int) -> list[int]:
    """Ports nobody listened on a moment ago, below 55536: SeaweedFS derives some ports by adding 10000."""
    chosen: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(chosen) < count:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            if port < 55536:
                chosen.append(port)
    return chosen


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch, {"seaweedfs": seaweedfs, "rclone": rclone}[sys.argv[1]](Path(scratch)) as up:
        print(json.dumps(up.options()), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
