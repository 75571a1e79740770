"""drop: what a remote holds leaves the cache, and nothing else."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

import dvcx
from dvcx.errors import Busy, Conflict, IntegrityError, NotFound, RemoteFailed, UsageError
from dvcx.events import Warned
from dvcx.io.store import marks
from dvcx.ops.add import add
from dvcx.ops.commit import commit
from dvcx.ops.drop import Dropped, DroppedItem, drop
from dvcx.ops.gc import gc
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.status import status
from dvcx.project import Project
from tests.faults.world import store_objects
from tests.ops.trying import again, commit_all, pointer, seen, setting, with_remote, write

BIG = "x" * 3_000


@pytest.fixture
def pushed(project: Project, tmp_path: Path) -> Project:
    """A file, a directory of a few files and one of many, on a remote."""
    project = with_remote(project, tmp_path / "remote")
    write(project, {"f": "file", "d/a": "a", "d/sub/same": "file"})
    write(project, {f"many/{number}": f"{number} {BIG}" for number in range(150)})
    add(project, ["f", "d", "many"])
    commit_all(project)
    push(again(project))
    return again(project)


def objects(project: Project) -> dict[str, bytes]:
    return store_objects(Path(project.cache_dir))


def blobs(project: Project) -> set[bytes]:
    return {data for data in objects(project).values() if not data.startswith(b"dvcx-tree")}


def test_what_a_remote_holds_leaves_and_comes_back(pushed: Project) -> None:
    before = objects(pushed)
    planned = drop(pushed, ["many"], dry_run=True)
    assert objects(pushed) == before
    done = drop(again(pushed), ["many"])
    assert replace(planned, dry_run=False) == done
    assert done == Dropped((DroppedItem("many", "origin", 0),), 150, done.bytes, 0, False, False)
    assert blobs(pushed) == {b"file", b"a"}
    assert len(os.listdir(f"{pushed.root}/many")) == 150
    assert gc(again(pushed)).objects == 0  # listings are still there
    shutil.rmtree(f"{pushed.root}/many")
    pull(again(pushed))
    assert objects(pushed) == before


def test_with_the_files(pushed: Project) -> None:
    done = drop(pushed, ["d", "many"], workspace=True, verify=True)
    assert {item.path: item.deleted for item in done.items} == {"d": 2, "many": 150}
    assert not Path(pushed.root, "d/a").exists() and not Path(pushed.root, "many").exists()
    assert done.shared == 1 and blobs(pushed) == {b"file"}, "f needs the same bytes"
    pull(again(pushed))
    assert seen(pushed, "d") == {"d": "/", "d/a": "a", "d/sub": "/", "d/sub/same": "file"}


def test_the_files_after_the_cache(pushed: Project) -> None:
    drop(pushed, ["many"])
    drop(again(pushed), ["many"], workspace=True)
    assert not os.path.exists(f"{pushed.root}/many")
    pull(again(pushed))
    assert len(os.listdir(f"{pushed.root}/many")) == 150


def test_ignored_files_stay(pushed: Project) -> None:
    write(pushed, {".dvcxignore": "*.log\n", "many/run.log": "log"})
    events: list[object] = []
    drop(again(pushed), ["many"], workspace=True, emit=events.append)
    assert os.listdir(f"{pushed.root}/many") == ["run.log"]
    assert any(isinstance(event, Warned) and "many stays" in event.message for event in events)


def test_dropped_files_are_not_pulled_rather_than_deleted(pushed: Project) -> None:
    """A part, then the whole with a part of it back: no commit takes what was dropped for deleted."""
    recorded = pointer(pushed, "many.dvcx")
    drop(pushed, ["many/7"], workspace=True)
    assert [change.state for change in status(again(pushed)).data] == ["not pulled"]
    write(pushed, {"many/new": "one more"})
    commit(again(pushed), ["many"])
    assert pointer(pushed, "many.dvcx")["files"] == recorded["files"] + 1
    push(again(pushed))
    drop(again(pushed), ["many"], workspace=True)
    assert [change.state for change in status(again(pushed)).data] == ["not pulled"]
    pull(again(pushed), ["many/8"])
    commit(again(pushed), ["many"])
    assert pointer(pushed, "many.dvcx")["files"] == recorded["files"] + 1


def test_what_was_dropped_is_held_on_the_remote(pushed: Project, tmp_path: Path) -> None:
    """A collection elsewhere, which does not know that somebody needs it, may not take it."""
    write(pushed, {"large": random.Random(3).randbytes(12 << 20)})
    add(again(pushed), ["large"])
    push(again(pushed))
    remote = again(pushed).remote("origin", lambda event: None)
    everything = [key for _, key, _, _ in remote.catalog.everything()]
    marked = time.time() - 20 * 86400
    marks.complete(remote, marks.fresh_name(marked), marked, everything)
    drop(again(pushed), ["large", "many"], dry_run=True)
    assert marks.used_since(remote, marks.read(remote), marked) == set()
    drop(again(pushed), ["large"])
    held = marks.used_since(remote, marks.read(remote), marked)
    assert len(held) > 3 and held < set(everything), "the chunks"
    drop(again(pushed), ["many"])
    assert len(marks.used_since(remote, marks.read(remote), marked) - held) == 151
    marks.begin(remote, marks.fresh_name(time.time()), time.time())
    before = objects(pushed)
    with pytest.raises(Busy, match="under way"):
        drop(again(pushed), ["f"])
    assert objects(pushed) == before
    remote.close()


def test_a_part_of_a_directory(pushed: Project) -> None:
    drop(pushed, ["many/7", "d/a"])
    assert len(blobs(pushed)) == 150
    Path(pushed.root, "many/7").unlink()
    pull(again(pushed))
    assert status(again(pushed)).clean


def test_what_is_not_on_the_remote_stays(pushed: Project) -> None:
    write(pushed, {"d/new": "new"})
    add(pushed, ["d"])
    before = objects(pushed)
    with pytest.raises(NotFound, match="objects are not on remote 'origin'"):
        drop(again(pushed), ["d"])
    assert objects(pushed) == before
    push(again(pushed))
    drop(again(pushed), ["d"])


def test_what_was_deleted_there_stays(pushed: Project, tmp_path: Path) -> None:
    digits = pointer(pushed, "f.dvcx")["hash"][7:]
    found = [path for path in (tmp_path / "remote/objects").rglob("*") if path.name == digits[2:]]
    for path in (*found, *(tmp_path / "remote/packs").rglob("*.pack")):
        path.unlink()
    with pytest.raises(NotFound):
        drop(pushed, ["f"])


def test_what_is_corrupt_there_stays(pushed: Project, tmp_path: Path) -> None:
    for path in (tmp_path / "remote/packs").rglob("*.pack"):
        data = bytearray(path.read_bytes())
        data[200:4000] = b"?" * 3800
        path.chmod(0o644)
        path.write_bytes(data)
    before = objects(pushed)
    with pytest.raises(IntegrityError, match="wrong bytes"):
        drop(pushed, ["many"], verify=True)
    assert objects(pushed) == before


def test_a_remote_that_is_gone(pushed: Project, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises((RemoteFailed, NotFound)):
        drop(pushed, ["f"])
    with pytest.raises(UsageError):
        drop(pushed, [])


def test_unrecorded_changes_stop_it(pushed: Project) -> None:
    write(pushed, {"many/7": "mine"})
    before = objects(pushed)
    with pytest.raises(Conflict, match="many/7"):
        drop(pushed, ["many"], workspace=True)
    assert objects(pushed) == before and Path(pushed.root, "many/8").exists()


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_links_become_files_first(pushed: Project, link: str) -> None:
    linking = setting(pushed, cache_link=(link,))
    Path(pushed.root, "f").unlink()
    pull(linking)
    drop(linking, ["f", "d"])
    assert not Path(pushed.root, "f").is_symlink() and Path(pushed.root, "f").read_text() == "file"


def test_the_public_name(pushed: Project) -> None:
    assert isinstance(dvcx.drop(pushed, ["f"]), Dropped)
