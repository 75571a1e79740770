"""What is measured against S3 servers on this machine: SeaweedFS and `rclone serve s3`, with DVC and `rclone copy` beside it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import servers
from tests.benchmarks.bench import Bench, make_files
from tests.servers import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Server

GIB = 1 << 30
SERVERS = {"seaweedfs": ("SeaweedFS", servers.seaweedfs), "rclone": ("rclone serve s3", servers.rclone)}


def object_stores(bench: Bench, number: int, count: int, chosen: list[str]) -> None:
    """Many small files and one of 1 GiB, to each of the servers chosen (keys of SERVERS)."""
    for key in chosen:
        name, start = SERVERS[key]
        base = bench.directory / f"s3-{number}-{key}"
        (base / "server").mkdir(parents=True)
        with start(base / "server") as server:
            for files in sorted({5_000, count}):
                _small_files(bench, base, server, name, files)
            _one_file(bench, base, server, name, GIB)
        bench.away(base)


def _small_files(bench: Bench, base: Path, server: S3Server, name: str, count: int) -> None:
    make_files(base / f"data{count}", count)
    few = count <= 5_000
    for like in ["dvcx", "dvc"] if bench.dvc else ["dvcx"]:
        where = bench.project(f"{base.name}/{like}{count}", like=like)
        shutil.copytree(base / f"data{count}", where / "data")
        _remote(bench, where, server, f"s3://{BUCKET}/{like}{count}", like=like)
        ours = like == "dvcx"
        bench.run(where, *_program(bench, like), "add", "data")
        call = bench.ours if ours else bench.theirs
        call(bench.row(f"{name}: push {count:,} files", 1 / 8 if few else 1 / 15), where, "push")
        call(bench.row(f"{name}: push {count:,} files again", 1 / 5), where, "push")
        bench.away(where / (".dvcx/cache" if ours else ".dvc/cache"))
        bench.away(where / "data")
        call(bench.row(f"{name}: pull {count:,} files", 1 / 15), where, "pull")
        if ours:
            _count_requests(bench, base, server, name, count)


def _count_requests(bench: Bench, base: Path, server: S3Server, name: str, count: int) -> None:
    where = bench.project(f"{base.name}/counted{count}")
    shutil.copytree(base / f"data{count}", where / "data")
    with counting(server.port) as seen:
        _remote(bench, where, S3Server(server.name, seen.port), f"s3://{BUCKET}/counted{count}", like="dvcx")
        bench.run(where, *_program(bench, "dvcx"), "add", "data")
        bench.run(where, *_program(bench, "dvcx"), "push")
    bench.fact(f"{name}: requests of a push of {count:,} files", seen.requests, count / 2000 + 20, "requests")


def _one_file(bench: Bench, base: Path, server: S3Server, name: str, size: int) -> None:
    """A file of 1 GiB that does not compress, beside `rclone copy` of the same file."""
    where = bench.project(f"{base.name}/large", "hardlink,copy")
    random_file(where / "large.bin", size)
    _remote(bench, where, server, f"s3://{BUCKET}/large", like="dvcx")
    bench.run(where, *_program(bench, "dvcx"), "add", "large.bin")
    copy = _rclone(base, server)
    for round_number in range(2):
        push = bench.row(f"{name}: push 1 GiB", 1.2, "rclone copy")
        pull = bench.row(f"{name}: pull 1 GiB", 1.2, "rclone copy")
        if round_number:
            _remote(bench, where, server, f"s3://{BUCKET}/large-again", like="dvcx")
        os.sync()  # else whoever makes its own files durable waits for all that came before
        bench.ours(push, where, "push")
        os.sync()
        push.floor.append(bench.run(base, *copy, str(where / "large.bin"), f"s3:{BUCKET}/copy{round_number}")[0])
        bench.away(where / ".dvcx/cache")
        bench.away(where / "large.bin")
        os.sync()
        bench.ours(pull, where, "pull")
        os.sync()
        back = (f"s3:{BUCKET}/copy{round_number}/large.bin", str(base / f"back{round_number}"))
        pull.floor.append(bench.run(base, *copy, *back)[0])


def edited_files(bench: Bench) -> None:
    """What the second push of an edited large file sends, counted at the server."""
    base = bench.directory / "edited"
    (base / "server").mkdir(parents=True)
    with servers.rclone(base / "server") as server:
        where = bench.project("edited/random", "hardlink,copy")
        file = where / "large.bin"
        random_file(file, GIB)
        first, second = _two_pushes(bench, where, server, file, lambda: insert(file, GIB // 3, os.urandom(80)))
        bench.fact("80 bytes inserted into 1 GiB: sent of it", 100 * second / first, 1, "%")
        where = bench.project("edited/table", "hardlink,copy")
        file = where / "table.csv"
        table(file, 500 << 20)
        zstd = _zstd_size(file)
        first, second = _two_pushes(bench, where, server, file, lambda: change_rows(file))
        bench.fact("5 % of the rows of a 500 MB CSV changed: sent of the file", 100 * second / (500 << 20), 8, "%")
        bench.fact("the CSV, sent the first time, of what zstd -3 makes of it", first / zstd, 1.1, "×")
    bench.away(base)


def large_transfers(bench: Bench, size: int) -> None:
    """Memory while a large file is pushed and pulled."""
    base = bench.directory / "memory"
    (base / "server").mkdir(parents=True)
    with servers.seaweedfs(base / "server") as server:
        where = bench.project("memory/project", "hardlink,copy")
        random_file(where / "large.bin", size)
        _remote(bench, where, server, f"s3://{BUCKET}/memory", like="dvcx")
        bench.run(where, *_program(bench, "dvcx"), "add", "large.bin")
        gib = f"{size / GIB:g} GiB"
        seconds, memory = bench.run(where, *_program(bench, "dvcx"), "push")
        bench.fact(f"push of {gib}: peak memory", memory, 400, "MB")
        bench.fact(f"push of {gib}: time", seconds, 0, "s")
        shutil.rmtree(where / ".dvcx/cache")
        (where / "large.bin").unlink()
        seconds, memory = bench.run(where, *_program(bench, "dvcx"), "pull")
        bench.fact(f"pull of {gib}: peak memory", memory, 400, "MB")
        bench.fact(f"pull of {gib}: time", seconds, 0, "s")
    shutil.rmtree(base)


def _two_pushes(bench: Bench, where: Path, server: S3Server, file: Path, edit: Callable[[], object]) -> tuple[int, int]:
    """Bytes that the server received of the first push of a file and of the second, after an edit."""
    sent = []
    for step in range(2):
        if step:
            bench.run(where, *_program(bench, "dvcx"), "unprotect", file.name)
            edit()
        bench.run(where, *_program(bench, "dvcx"), "add", file.name)
        with counting(server.port) as seen:
            _remote(bench, where, S3Server(server.name, seen.port), f"s3://{BUCKET}/{where.name}", like="dvcx")
            bench.run(where, *_program(bench, "dvcx"), "push")
        sent.append(seen.up)
    return sent[0], sent[1]


def _program(bench: Bench, like: str) -> tuple[str, ...]:
    return (bench.dvc,) if like == "dvc" else (sys.executable, "-m", "dvcx")


def _remote(bench: Bench, where: Path, server: S3Server, url: str, *, like: str) -> None:
    """Make `url` on a server the default remote, with its secrets where secrets go."""
    program = _program(bench, like)
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": REGION}
    if like == "dvc":
        bench.run(where, *program, "remote", "add", "-f", "-d", "r", url)
        for key, value in {**keys, "endpointurl": server.endpoint}.items():
            bench.run(where, *program, "remote", "modify", "--local", "r", key, value)
        return
    with contextlib.suppress(SystemExit):
        bench.run(where, *program, "remote", "remove", "r")
    bench.run(where, *program, "remote", "add", "-d", "r", url)
    for key, value in {**keys, "endpoint": server.endpoint}.items():
        bench.run(where, *program, "remote", "modify", "r", key, value, "--local")


def _rclone(base: Path, server: S3Server) -> tuple[str, ...]:
    config = base / "rclone-client.conf"
    config.write_text(
        f"[s3]\ntype = s3\nprovider = Other\nendpoint = {server.endpoint}\nregion = {REGION}\n"
        f"access_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\nforce_path_style = true\n"
    )
    return servers.program("rclone"), f"--config={config}", "copy"


@dataclass
class Seen:
    """What went through a counting proxy: its port, bytes to the server, HTTP requests."""

    port: int = 0
    up: int = 0
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_REQUEST = re.compile(rb"(?:^|\r\n\r\n|\n)(?:GET|PUT|POST|HEAD|DELETE) /[!-~]* HTTP/1\.1\r\n")


@contextlib.contextmanager
def counting(upstream: int) -> Iterator[Seen]:
    """A proxy on 127.0.0.1 in front of a server, that counts."""
    seen = Seen()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    seen.port = listener.getsockname()[1]

    def pump(source: socket.socket, target: socket.socket, *, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if count:
                    with seen.lock:
                        seen.up += len(data)
                        seen.requests += len(_REQUEST.findall(data))
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", upstream))
                threading.Thread(target=pump, args=(client, server), kwargs={"count": True}, daemon=True).start()
                threading.Thread(target=pump, args=(server, client), kwargs={"count": False}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield seen
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def random_file(path: Path, size: int) -> None:
    """Bytes that neither compress nor repeat."""
    chance = random.Random(size)
    with path.open("wb") as file:
        for _ in range(0, size, 1 << 24):
            file.write(chance.randbytes(min(1 << 24, size - file.tell())))


def insert(path: Path, at: int, data: bytes) -> None:
    """Insert bytes into a file."""
    temporary = path.with_suffix(".tmp")
    with path.open("rb") as source, temporary.open("wb") as target:
        left = at
        while left:
            block = source.read(min(left, 1 << 24))
            target.write(block)
            left -= len(block)
        target.write(data)
        shutil.copyfileobj(source, target, 1 << 24)
    temporary.replace(path)


def table(path: Path, size: int) -> None:
    """A CSV of prices, of about `size` bytes."""
    chance = random.Random(5)
    price, row = 100.0, 0
    with path.open("w") as file:
        file.write("Date,Open,High,Low,Close,Volume\n")
        written = 0
        while written < size:
            lines = []
            for _ in range(20_000):
                price = max(1.0, price + chance.uniform(-1, 1))
                row += 1
                high, low = price + chance.random(), price - chance.random()
                lines.append(f"{1_400_000_000 + 60 * row},{price:.2f},{high:.2f},{low:.2f},{price:.2f},{chance.randrange(10**7)}")
            written += file.write("\n".join(lines) + "\n")


def change_rows(path: Path) -> None:
    """Other numbers in 5 % of the rows, in one region."""
    size = path.stat().st_size
    chance = random.Random(6)
    begin, end = int(size * 0.40), int(size * 0.45)
    with path.open("r+b") as file:
        file.seek(begin)
        file.readline()
        begin = file.tell()
        data = file.read(end - begin)
        lines = [re.sub(rb"\d+$", b"%d" % chance.randrange(10**7), line) for line in data.split(b"\n")[:-1]]
        rest = data.rpartition(b"\n")[2] + file.read()
        file.seek(begin)
        file.write(b"\n".join(lines) + b"\n" + rest)
        file.truncate()


def _zstd_size(path: Path) -> int:
    """What zstd at level 3 makes of a file, 1 MiB at a time, as chunks are."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    with path.open("rb") as file:
        return sum(len(compressor.compress(block)) for block in iter(lambda: file.read(1 << 20), b""))
