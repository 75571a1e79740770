"""One project in a directory, the real program run on it, and an inspector that reads what it left without using its code."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash
from blake3 import blake3

from dvcx.core.objects import decode_tree
from dvcx.core.packing import FOOTER_SIZE, HEADER_SIZE, KIND_RECIPE, ZSTD, decode_index, decode_pack_table, table_length
from tests.cli.runner import environment

TIMEOUT = 60
BESIDE = "../remote"
"""The url of a remote beside a project, which a copy of the project has beside it too."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `code` is negative for a signal; `text` is stdout and stderr together."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class World:
    """A project at `root` in a git repository, with a directory beside it that must stay as it is: `victim`."""

    root: Path
    victim: Path
    extra: dict[str, str] = field(default_factory=dict)

    # Files

    def put(self, path: str, data: bytes | str, mode: int | None = None) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        if mode is not None:
            file.chmod(mode)
        return file

    def get(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def record(self, path: str) -> dict[str, object]:
        """A JSON record as a dict."""
        return dict(json.loads(self.get(path)))

    def edit(self, path: str, **changes: object) -> None:
        """Change keys of a JSON record; None takes one out."""
        record = {**self.record(path), **changes}
        self.put(path, json.dumps({key: value for key, value in record.items() if value is not None}, indent=2) + "\n")

    @property
    def cache(self) -> Path:
        return self.root / ".dvcx/cache"

    def object(self, object_id: str) -> Path:
        digits = object_id.partition(":")[2]
        return self.cache / "objects" / digits[:2] / digits[2:]

    # Commands

    def run(
        self, *words: str, prefix: tuple[str, ...] = (), cwd: Path | None = None, timeout: float = TIMEOUT, **more: str
    ) -> Outcome:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "dvcx", *words],
            cwd=cwd or self.root,
            env=self.environment(**more),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
        assert "Traceback" not in outcome.text, outcome.text
        assert "bug in dvcx" not in outcome.text, outcome.text
        return outcome

    def start(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dvcx", *words],
            cwd=self.root,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def environment(self, **more: str) -> dict[str, str]:
        kept = environment(**self.extra, **more)
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        return kept

    def ok(self, *words: str, cwd: Path | None = None, **more: str) -> str:
        outcome = self.run(*words, cwd=cwd, **more)
        assert outcome.code == 0, f"dvcx {' '.join(words)}: exit {outcome.code}\n{outcome.text}"
        return outcome.text

    def fails(self, code: int, *words: str, says: tuple[str, ...] = (), cwd: Path | None = None, timeout: float = TIMEOUT) -> str:
        """The command ends with `code`, one error and a hint, and its text holds every one of `says`."""
        outcome = self.run(*words, cwd=cwd, timeout=timeout)
        assert outcome.code == code, f"dvcx {' '.join(words)}: exit {outcome.code}, not {code}\n{outcome.text}"
        assert outcome.err.count("error:") == 1, outcome.text
        assert "hint:" in outcome.err, outcome.text
        for words_expected in says:
            assert words_expected in outcome.text, f"{words_expected!r} is not in:\n{outcome.text}"
        return outcome.text

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stage_file(self, text: str) -> None:
        self.put("dvcx.yaml", text)

    # Looking at what is left

    def temporaries(self) -> list[str]:
        """Temporary files anywhere in the project."""
        found = [path for path in self.root.rglob("tmp-*") if ".git/" not in str(path)]
        staging = self.root / ".dvcx/tmp"
        return [str(path) for path in (*found, *(staging.iterdir() if staging.is_dir() else ()))]

    def clean(self) -> dict[str, bytes]:
        """Every object of the cache by id. Fails where a name is no digest of its bytes or a record names what is not there."""
        held = store_objects(self.cache)
        for pointer in self.root.rglob("*.dvcx"):
            if pointer.is_file() and ".dvcx/" not in str(pointer.relative_to(self.root)) + "/":
                _held(json.loads(pointer.read_bytes()), held, str(pointer))
        lock = self.root / "dvcx.lock"
        if lock.exists():
            for stage in json.loads(lock.read_bytes())["stages"].values():
                for out in stage["outs"]:
                    _held(out, held, "dvcx.lock")
        return held

    def victim_is_untouched(self) -> None:
        assert {path.name: path.read_bytes() for path in self.victim.iterdir()} == {"secret.txt": b"do not touch\n"}


def new_world(base: Path, *, git: bool = True, **extra: str) -> World:
    """A fresh project below `base`, and the victim beside it."""
    root, victim = base / "project", base / "victim"
    root.mkdir(parents=True)
    victim.mkdir()
    (victim / "secret.txt").write_bytes(b"do not touch\n")
    world = World(root, victim, dict(extra))
    if git:
        world.git("init", "--quiet")
    world.ok("init", *(() if git else ("--no-git",)))
    return world


def copy_world(world: World, base: Path) -> World:
    """The same project once more, somewhere else; with the remote that lies beside it, if there is one (`BESIDE`)."""
    base.mkdir(exist_ok=True)
    remote = world.root / BESIDE
    # cp keeps hard links what they are.
    subprocess.run(["cp", "-a", world.root, world.victim, *([remote] if remote.exists() else []), base], check=True)
    copy = World(base / "project", base / "victim", world.extra)
    for path in copy.root.rglob("*"):
        if path.is_symlink() and os.readlink(path).startswith(str(world.root)):
            target = str(copy.root) + os.readlink(path)[len(str(world.root)) :]
            path.unlink()
            path.symlink_to(target)
    return copy


def store_objects(store: Path) -> dict[str, bytes]:
    """Objects of a store by id, loose ones and those an index names, all checked against their names."""
    held: dict[str, bytes] = {}
    for path in sorted((store / "objects").glob("*/*")):
        if path.name.startswith("tmp-"):
            continue
        data = path.read_bytes()
        object_id = f"xxh128:{path.parent.name}{path.name}"
        assert identity(data)[0] == object_id, f"{path} is not what it is called"
        held[object_id] = data
    for path in sorted((store / "index").glob("*.index")):
        data = path.read_bytes()
        assert blake3(data).hexdigest() == path.stem, f"{path} is not what it is called"
        for pack in decode_index(data, 16, xxhash.xxh3_128_digest, str(path)).packs:
            held.update(pack_objects(store / f"packs/{pack.name.hex()[:2]}/{pack.name.hex()}.pack"))
    return held


def pack_objects(path: Path) -> dict[str, bytes]:
    """Objects of one pack, checked."""
    import zstandard

    data = path.read_bytes()
    assert blake3(data).hexdigest() == path.stem, f"{path} is not what it is called"
    footer = data[-FOOTER_SIZE:]
    table = data[-FOOTER_SIZE - table_length(footer, len(data), str(path)) : -FOOTER_SIZE]
    held = {}
    for frame in decode_pack_table(data[:HEADER_SIZE], table, footer, len(data), xxhash.xxh3_128_digest, str(path)):
        if frame.kind == KIND_RECIPE:  # it has the names of the file it describes
            continue
        stored = data[frame.offset : frame.offset + frame.stored]
        raw = zstandard.ZstdDecompressor().decompress(stored) if frame.encoding == ZSTD else stored
        object_id, seal = identity(raw)
        assert (object_id, seal) == (f"xxh128:{frame.id.hex()}", frame.seal.hex()), f"{path} holds a wrong frame"
        held[object_id] = raw
    return held


def identity(data: bytes) -> tuple[str, str]:
    """(id, seal) of some bytes."""
    return "xxh128:" + xxhash.xxh3_128_hexdigest(data), blake3(data).hexdigest()


def tree_of(directory: Path) -> dict[str, tuple[str, str]]:
    """Every path below a directory: its kind and what is in it (digest, target or nothing)."""
    found: dict[str, tuple[str, str]] = {}
    for base, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(base, name)
            key = os.path.relpath(path, directory)
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            elif path.is_dir():
                found[key] = ("dir", "")
            elif not path.is_file():
                found[key] = ("special", "")
            else:
                kind = "exec" if path.stat().st_mode & 0o100 else "file"
                found[key] = (kind, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def _held(record: dict[str, object], held: dict[str, bytes], where: str) -> None:
    """Fail unless the content and, of a tree, everything below it is held, with the seal the record names."""
    todo = [(str(record["hash"]), str(record["blake3"]), record["kind"] == "tree")]
    while todo:
        object_id, seal, is_tree = todo.pop()
        assert object_id in held, f"{where} names {object_id}, which is nowhere"
        assert identity(held[object_id])[1] == seal, where
        if is_tree:
            for entry in decode_tree(held[object_id], where):
                todo.append((entry.id, entry.seal, entry.kind in ("dir", "shard")))


def kill_hard(process: subprocess.Popen[bytes]) -> None:
    """kill -9 one process we started, and wait for it."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def can_mount() -> bool:
    """Whether we may mount a tmpfs: root, on Linux, with the capability."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc is not None and shutil.which("mount") is not None


@contextlib.contextmanager
def mounted_image(path: Path, make: Sequence[str], *, megabytes: int, options: str = "") -> Iterator[Path]:
    """A file system of its own at `path`, made by the command `make` in a sparse file; gone afterwards. Skips without root."""
    import pytest

    if not can_mount():
        pytest.skip("mounting needs root")
    if shutil.which(make[0]) is None:
        pytest.skip(f"{make[0]} is not installed")
    path.mkdir(parents=True, exist_ok=True)
    image = path.with_name(path.name + ".img")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    mount = ["mount", "-o", f"loop{',' if options else ''}{options}", str(image), str(path)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        image.unlink()
        pytest.skip(f"this kernel has no such file system: {mounted.stderr.decode().strip()[:100]}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], capture_output=True, check=True)
        image.unlink()


MAKERS = {
    "ext4": (("mkfs.ext4", "-q"), 64),
    "xfs": (("mkfs.xfs", "-q"), 320),
    "btrfs": (("mkfs.btrfs", "-q"), 160),
    "vfat": (("mkfs.vfat",), 64),
}


@contextlib.contextmanager
def file_system(path: Path, kind: str, *, megabytes: int = 0) -> Iterator[Path]:
    """A fresh file system of this kind at `path`, of `megabytes` or as small as it may be; skips where it cannot be had."""
    if kind != "tmpfs":
        make, least = MAKERS[kind]
        with mounted_image(path, make, megabytes=megabytes or least) as disk:
            yield disk
        return
    import pytest

    path.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes or 64}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], capture_output=True, check=True)
