"""How long `gc --dry-run` takes over many objects: `python -m tests.benchmarks.collecting [OBJECTS]`.

The cache is made without a workspace: packs of small objects and the listings that name nine in ten of them, in a hundred
commits. What is measured is the command itself, first with an empty catalog and then again.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dvcx.core.objects import Content, Digest, Entry
from dvcx.core.records import Pointer, encode_pointer
from dvcx.events import ignore
from dvcx.io.hashing import digest
from dvcx.io.store.writer import Writer
from dvcx.io.workspace import store_tree
from dvcx.ops.init import init
from dvcx.project import open_project

COMMITS = 100


def _fill(root: Path, count: int) -> None:
    """A project whose history of pointers names nine in ten of `count` objects."""
    project = open_project(str(root))
    with project.cache_writer_lock("filling", ignore):
        cache = project.cache(ignore, write=True)
        with Writer(cache, "", fsync="none") as writer:
            number = 0
            for commit in range(COMMITS):
                _commit(root, commit, _directory(writer, range(number, number + count * 9 // 10 // COMMITS)))
                number += count * 9 // 10 // COMMITS
            for unused in range(number, count):
                data = b"object number %d" % unused
                writer.put(digest(data, "xxh128"), data)
            writer.commit()
        cache.close()


def _directory(writer: Writer, numbers: range) -> Content:
    def keep(data: bytes) -> Digest:
        names = digest(data, "xxh128")
        writer.put(names, data, tree=True)
        return names

    entries = []
    for number in numbers:
        data = b"object number %d" % number
        names = digest(data, "xxh128")
        writer.put(names, data)
        entries.append(Entry(f"{number:08}.txt", "file", len(data), names.id, names.seal))
    return store_tree(entries, keep)


def _commit(root: Path, number: int, content: Content) -> None:
    (root / "data.dvcx").write_bytes(encode_pointer(Pointer("data", content)))
    subprocess.run(["git", "add", "data.dvcx"], cwd=root, check=True)
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", str(number)]
    subprocess.run(words, cwd=root, check=True)


def main(count: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="dvcx-gc-") as base:
        root = Path(base, "project")
        root.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        init(str(root))
        began = time.monotonic()
        _fill(root, count)
        print(f"made a cache of {count:,} objects in {time.monotonic() - began:.1f} s")
        for catalog in root.glob(".dvcx/state/catalog-*"):
            catalog.unlink()
        for words in (["gc", "--dry-run", "--grace", "0"], ["gc", "--dry-run", "--grace", "0"], ["gc", "--dry-run"]):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "dvcx", *words], cwd=root, capture_output=True, text=True, check=True, env=_environment()
            )
            seconds = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
            print(f"dvcx {' '.join(words)}: {seconds:.1f} s, at most {peak} MiB\n{done.stdout}")


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
