"""Files that change while, or just after, they are looked at: every change is seen, and a name never names other bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dvcx.core.objects import Content
from dvcx.io.statindex import StatIndex
from dvcx.io.workspace import Looking, look
from tests.faults.world import World, file_system, identity


def _rewrite(path: Path, data: bytes, how: str) -> None:
    """Other bytes of the same length, by ways that leave as little trace as they can."""
    before = path.stat()
    if how == "in place":
        with path.open("r+b") as file:
            file.write(data)
    elif how == "touch -r":
        with path.open("r+b") as file:
            file.write(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "mmap":
        import mmap

        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:] = data
    elif how == "clock back":
        # What a copy with the times of its source does (rsync -t --inplace), when those are older than the file was.
        with path.open("r+b") as file:
            file.write(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 3_600_000_000_000))
    elif how == "rename":
        beside = path.with_name("beside")
        beside.write_bytes(data)
        os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
        beside.rename(path)
    elif how == "rsync":
        beside = path.parent.parent / "rsynced"
        beside.write_bytes(data)
        os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
        subprocess.run(["rsync", "-t", "--inplace", "--ignore-times", str(beside), str(path)], check=True)


needs_rsync = pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
HOW = ["in place", "touch -r", "mmap", "clock back", "rename", pytest.param("rsync", marks=needs_rsync)]


def _look(root: Path, index: StatIndex, path: str) -> Content:
    content = look(str(root), path, index=index, sink=Looking("xxh128"))
    assert content is not None
    return content


def _write_look_write(base: Path, how: str, where: str, rounds: int) -> None:
    """`rounds` times: write, look, write again at once with the same size; the second look must see the second bytes."""
    root = base / "root"
    (root / "d").mkdir(parents=True)
    file = root / "d/x"
    file.write_bytes(b"\0" * 8)
    index = StatIndex(str(base / "index.sqlite"), lambda text: None)
    target = "d/x" if where == "file" else "d"
    try:
        for number in range(rounds):
            first, second = (2 * number).to_bytes(8, "big"), (2 * number + 1).to_bytes(8, "big")
            _rewrite(file, first, how)
            before = _look(root, index, target)
            index.flush()
            _rewrite(file, second, how)
            after = _look(root, index, target)
            assert before != after, f"round {number}"
            if where == "file":
                assert (before.id, after.id) == (identity(first)[0], identity(second)[0])
    finally:
        index.close()


@pytest.mark.parametrize("where", ["file", "directory"])
@pytest.mark.parametrize("how", HOW)
def test_same_size_same_tick(tmp_path: Path, how: str, where: str) -> None:
    """Item 75: a thousand times write, hash, write again in the same tick with the same size: the change is always seen."""
    _write_look_write(tmp_path, how, where, 10 if how == "rsync" else 1000)


@pytest.mark.nightly
@pytest.mark.parametrize("where", ["file", "directory"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["ext4", "vfat", "xfs", "btrfs", "tmpfs"])
def test_same_size_same_tick_everywhere(tmp_path: Path, kind: str, how: str, where: str) -> None:
    """Item 75: the same on each file system this kernel has, with the ticks each of them has."""
    rounds = 50 if how == "rsync" else 1000
    with file_system(tmp_path / "disk", kind) as disk:
        _write_look_write(disk, how, where, rounds)


def test_clock_set_back(tmp_path: Path) -> None:
    """Item 75: times in the future or long ago are no reason to trust a file more than ctime allows."""
    root = tmp_path / "root"
    root.mkdir()
    file = root / "x"
    index = StatIndex(str(tmp_path / "index.sqlite"), lambda text: None)
    try:
        for stamp in (0, 1, 10**9, 4 * 10**9):
            file.write_bytes(b"before")
            os.utime(file, (stamp, stamp))
            before = _look(root, index, "x")
            with file.open("r+b") as handle:
                handle.write(b"after!")
            os.utime(file, (stamp, stamp))
            assert _look(root, index, "x") != before
    finally:
        index.close()


def test_whole_program(world: World) -> None:
    """Item 75: the same through the program: add, an edit that keeps size and mtime, status, at once and after a while."""
    file = world.put("x.txt", "aaaa\n")
    for number, text in enumerate((b"bbbb\n", b"cccc\n")):
        world.ok("add", "x.txt")
        if number:
            time.sleep(0.05)
            world.ok("status")
        _rewrite(file, text, "touch -r")
        assert "modified" in world.ok("status", "--json")


@pytest.mark.parametrize("size", [24 << 20, pytest.param(600 << 20, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("command", ["add", "status"])
def test_writer_loop(world: World, size: int, command: str) -> None:
    """Item 75: a program that keeps writing while a large file is read: exit 8, or a snapshot whose name is its content."""
    file = world.put("big.bin", bytes(size))
    if command == "status":
        world.ok("add", "big.bin")
    stop = threading.Event()

    def write() -> None:
        number = 0
        with file.open("r+b", buffering=0) as handle:
            while not stop.is_set():
                handle.seek((number * 7919 * 4096) % size)
                handle.write(number.to_bytes(8, "big"))
                number += 1
                time.sleep(0.0002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        outcome = world.run(command, *(["big.bin"] if command == "add" else []))
    finally:
        stop.set()
        writer.join()
    assert outcome.code in (0, 8), outcome.text
    world.clean()
    if outcome.code == 8:
        assert "changed while it was read" in outcome.err and "hint:" in outcome.err
        if command == "add":
            assert not (world.root / "big.bin.dvcx").exists()
    assert world.temporaries() == []
    world.ok("add", "big.bin")
    assert world.record("big.bin.dvcx")["hash"] == identity(file.read_bytes())[0]
    world.clean()


def test_files_come_and_go(world: World) -> None:
    """Bad input: files that vanish while a directory is added: exit 5 or 8, or a directory that names no wrong bytes."""
    for number in range(3000):
        world.put(f"d/{number:04}", f"{number}\n")
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            path = world.root / f"d/{number % 3000:04}"
            path.unlink(missing_ok=True)
            path.with_name(f"new-{number % 50}").write_bytes(b"new\n")
            path.write_bytes(b"again\n")
            number += 37

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        outcomes = [world.run("add", "d") for _ in range(2)]
    finally:
        stop.set()
        thread.join()
    for outcome in outcomes:
        assert outcome.code in (0, 5, 8), outcome.text
        assert outcome.code == 0 or "hint:" in outcome.err
    world.clean()
    world.ok("add", "d")
    world.clean()
