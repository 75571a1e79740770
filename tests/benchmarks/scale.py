"""What is measured on very many objects: a million small files, and stores that hold a million objects or thousands of packs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from blake3 import blake3

from dvcx.core.packing import Frame, IndexContent, PackInfo, encode_index
from dvcx.io.hashing import xxh128
from tests.benchmarks.bench import Bench

PROGRAM = (sys.executable, "-m", "dvcx")


def million(bench: Bench, count: int) -> None:
    """`add`, `status` and `gc --dry-run` over very many files of 1 KiB; the catalog of a remote with 5,000 packs."""
    where = bench.project("million")
    _tiny_files(where / "data", count)
    seconds, memory = bench.run(where, *PROGRAM, "add", "data")
    bench.fact(f"add of {count:,} files of 1 KiB", seconds, 40, "s")
    bench.fact(f"add of {count:,} files: peak memory", memory, 1000, "MB")
    bench.fact(f"status after it: {count:,} files", bench.run(where, *PROGRAM, "status")[0], 5, "s")
    bench.run(where, "git", "add", "-A")
    bench.run(where, "git", "commit", "-qm", "a million")
    bench.fact(f"gc --dry-run over {count:,} objects", bench.run(where, *PROGRAM, "gc", "--dry-run")[0], 20, "s")
    shutil.rmtree(where)
    _many_packs(bench, 5_000)


def _tiny_files(where: Path, count: int) -> None:
    for at in range(0, count, 1000):
        directory = where / f"d{at // 1000:04d}"
        directory.mkdir(parents=True)
        block = os.urandom(1024)
        for number in range(min(1000, count - at)):
            fd = os.open(f"{directory}/f{number:04d}", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, number.to_bytes(8, "little") + block[8:])
            os.close(fd)


def _many_packs(bench: Bench, count: int) -> None:
    """A remote in a directory with so many packs, each with an index of its own: the listing and the indexes are read."""
    where = bench.project("packs")
    remote = bench.directory / "packs-remote"
    (where / "one.csv").write_text("a,b\n1,2\n")
    bench.run(where, *PROGRAM, "add", "one.csv")
    bench.run(where, *PROGRAM, "remote", "add", "-d", "r", str(remote))
    bench.run(where, *PROGRAM, "push")
    chance = os.urandom
    for number in range(count):
        name = blake3(number.to_bytes(4, "little")).digest()
        frames = [Frame(chance(16), chance(32), 2, 0, 16 + at * 1000, 1000, 1000) for at in range(60)]
        size = 16 + 60_000 + 74 * 60 + 40
        pack = remote / "packs" / name.hex()[:2] / f"{name.hex()}.pack"
        pack.parent.mkdir(parents=True, exist_ok=True)
        with pack.open("wb") as file:
            file.truncate(size)
        data = encode_index(IndexContent([PackInfo(name, size, frames)], []), 16, xxh128)
        index = remote / "index" / f"{blake3(data).hexdigest()}.index"
        index.parent.mkdir(exist_ok=True)
        index.write_bytes(data)
    shutil.rmtree(where / ".dvcx/state")
    bench.fact(f"push to a remote with {count:,} packs not seen before", bench.run(where, *PROGRAM, "push")[0], 2, "s")
    bench.fact(f"the same, its {count:,} packs known", bench.run(where, *PROGRAM, "push")[0], 0, "s")
