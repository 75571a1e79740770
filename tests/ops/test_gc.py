"""gc: what stays because something needs it, what goes, and that it comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dvcx
from dvcx.core.collecting import DAY
from dvcx.errors import Busy, Conflict, DvcxError, IntegrityError, NotFound, RemoteFailed, UsageError
from dvcx.events import Warned
from dvcx.io import lock
from dvcx.io.store import marks
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.collected import Collected
from dvcx.ops.exec_action import exec_action, make_request
from dvcx.ops.gc import gc
from dvcx.ops.init import init
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.remove import remove
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project, open_project
from tests.faults.world import store_objects
from tests.io.store.conftest import s3_server, seaweedfs  # noqa: F401
from tests.ops.trying import again, clone, commit_all, pointer, run_git, setting, wipe_cache, with_remote, write
from tests.servers import S3Server

BIG = "x" * 3_000


def age(where: str | Path, days: float = 30.0) -> None:
    """Make everything in a store look as if it had been written long ago."""
    then = time.time() - days * DAY
    for base, _, names in os.walk(where):
        for name in names:
            os.utime(os.path.join(base, name), (then, then))


@pytest.fixture(autouse=True)
def old_ctimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can set a ctime: here it counts as what mtime says."""
    monkeypatch.setattr("dvcx.io.store.fresh.newest", lambda found: found.st_mtime)


def store(project: Project) -> dict[str, bytes]:
    return store_objects(Path(project.cache_dir))


def objects(project: Project) -> set[str]:
    return set(store(project))


def old(project: Project, files: dict[str, str | bytes], paths: list[str]) -> set[str]:
    """Add files, make the cache look old; the objects it holds."""
    write(project, files)
    add(project, paths)
    age(project.cache_dir)
    return objects(project)


def unused(project: Project, count: int = 1) -> set[str]:
    """Old objects that nothing names: loose ones, or a pack of them."""
    before = objects(project) if os.path.isdir(project.cache_dir) else set()
    made = old(project, {f"gone/{number}": f"unused {number} {BIG}" for number in range(count)}, ["gone"])
    remove(again(project), ["gone"], keep_data=False)
    run_git(project, "rm", "-q", "--cached", "--ignore-unmatch", "gone.dvcx")
    return made - before


# What goes, and comes back


@pytest.mark.parametrize("count", [3, 150])
def test_what_nothing_needs_goes_and_comes_back(project: Project, count: int) -> None:
    old(project, {"kept": "kept"}, ["kept"])
    gone = unused(project, count)
    everything = store(project)
    planned = gc(again(project), dry_run=True)
    assert store(project) == everything
    done = gc(again(project))
    assert replace(planned, dry_run=False) == done
    assert objects(project) == everything.keys() - gone
    assert (done.objects, done.needed) == (count + 1, 1)
    assert done.bytes > count * len(BIG)
    restored = gc(again(project), undo=True)
    assert restored.restored == len(done.files) + (1 if count > 100 else 0)  # the index of the pack
    assert store(project) == everything
    assert gc(again(project)).objects == 0, "what came back is young"


def test_what_is_young_stays(project: Project) -> None:
    write(project, {"f": "one"})
    add(project, ["f"])
    write(project, {"f": "two"})
    add(again(project), ["f"])
    done = gc(again(project))
    assert (done.objects, done.young) == (0, 1)
    age(project.cache_dir, 13)
    assert gc(again(project)).objects == 0
    assert gc(again(project), grace=12, dry_run=True).objects == 1
    age(project.cache_dir, 15)
    assert gc(again(project)).objects == 1


def test_the_trash_is_emptied_after_a_week(project: Project) -> None:
    gone = unused(project)
    gc(again(project))
    [day] = os.listdir(f"{project.cache_dir}/trash")
    os.rename(f"{project.cache_dir}/trash/{day}", f"{project.cache_dir}/trash/2026-01-01")
    Path(project.cache_dir, "trash/2026-01-01/strange").write_text("not ours")
    planned = gc(again(project), dry_run=True)
    assert planned.expired == len(gone) and {file.why for file in planned.files} == {"expired"}
    done = gc(again(project))
    assert (done.expired, done.trash_bytes) == (len(gone), 0)
    assert os.listdir(f"{project.cache_dir}/trash/2026-01-01") == ["strange"]
    with pytest.raises(NotFound, match="empty"):
        gc(again(project), undo=True)


def test_undo_takes_the_last_day_or_all(project: Project) -> None:
    first = unused(project)
    gc(again(project))
    [day] = os.listdir(f"{project.cache_dir}/trash")
    os.rename(f"{project.cache_dir}/trash/{day}", f"{project.cache_dir}/trash/2026-01-01")
    write(project, {"other": "other"})
    add(again(project), ["other"])
    age(project.cache_dir)
    remove(again(project), ["other"], keep_data=False)
    second = objects(project)
    run_git(project, "rm", "-q", "--cached", "--ignore-unmatch", "other.dvcx")
    gc(again(project), dry_run=True)
    os.rename(f"{project.cache_dir}/trash/2026-01-01", f"{project.cache_dir}/trash/{day[:4]}-12-31")
    os.rename(f"{project.cache_dir}/trash/{day[:4]}-12-31", f"{project.cache_dir}/trash/9998-01-01")
    gc(again(project))
    os.rename(f"{project.cache_dir}/trash/9998-01-01", f"{project.cache_dir}/trash/0001-01-01")
    gc(again(project), undo=True)
    assert objects(project) == second
    gc(again(project), undo=True, all_days=True)
    assert objects(project) == second | first


def test_a_corrupt_file_stays_in_the_trash(project: Project) -> None:
    unused(project, 2)
    gc(again(project))
    path = next(Path(project.cache_dir, "trash").rglob("objects/*/*"))
    path.chmod(0o644)
    path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(IntegrityError, match="corrupt and stay"):
        gc(again(project), undo=True)
    assert path.exists() and len(objects(project)) == 2


def test_packs_that_are_mostly_unused_are_written_anew(project: Project) -> None:
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(200)})
    add(project, ["d"])
    for number in range(120):
        Path(project.root, f"d/{number}").unlink()
    add(again(project), ["d"])
    age(project.cache_dir)
    before = objects(project)
    done = gc(again(project))
    assert {file.why for file in done.files} == {"repacked"}
    assert done.objects == 121 and done.needed == 81
    left = objects(project)
    assert len(left) == 81 and left < before
    shutil.rmtree(f"{project.root}/d")
    checkout(again(project))
    assert len(os.listdir(f"{project.root}/d")) == 80
    gc(again(project), undo=True)
    assert objects(project) == before
    assert status(again(project)).clean


def test_packs_that_are_mostly_needed_stay(project: Project) -> None:
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(200)})
    add(project, ["d"])
    for number in range(20):
        Path(project.root, f"d/{number}").unlink()
    add(again(project), ["d"])
    age(project.cache_dir)
    done = gc(again(project))
    assert (done.files, done.sparse) == ((), 21)


def test_many_small_indexes_become_one(project: Project) -> None:
    for number in range(34):
        write(project, {f"d{number}/{name}": f"{number} {name}" for name in range(100)})
        add(again(project), [f"d{number}"])
    before = store(project)
    assert len(os.listdir(f"{project.cache_dir}/index")) == 34
    gc(again(project))
    assert len(os.listdir(f"{project.cache_dir}/index")) == 1
    assert store(project) == before


def test_results_that_cannot_be_restored_go(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": "stages:\n  s: {cmd: 'cp in out', deps: [in], outs: [out]}\n"})
    add(project, ["in"])
    repro(again(project))
    write(project, {"in": "2"})
    repro(again(project))
    age(project.cache_dir)
    done = gc(again(project))
    assert done.objects == 1  # "1": the input and the output are one object
    assert len(list(Path(project.cache_dir, "actions").rglob("*.json"))) == 1
    write(project, {"in": "1"})
    assert [run.how for run in repro(again(project)).runs] == ["ran"]


# Roots: reliability item 72


def _git_dir(project: Project) -> Path:
    return Path(run_git(project, "rev-parse", "--absolute-git-dir").strip())


def _tree(project: Project) -> Path:
    """The second work tree, and in it the directory of the project."""
    top = run_git(project, "rev-parse", "--show-toplevel").strip()
    return Path(f"{top}-tree", os.path.relpath(project.root, top))


def _branch(project: Project) -> None:
    run_git(project, "checkout", "-q", "-b", "side")
    commit_all(project)
    run_git(project, "checkout", "-q", "main")


def _tag(project: Project) -> None:
    run_git(project, "checkout", "-q", "--detach")
    commit_all(project)
    run_git(project, "tag", "-a", "v1", "-m", "v1")
    _forget(project)


def _reflog(project: Project) -> None:
    commit_all(project)
    run_git(project, "reset", "-q", "--hard", "HEAD~1")


def _stash(project: Project) -> None:
    run_git(project, "add", "-A")
    run_git(project, "stash", "push", "-q")
    _forget(project, stash=True)


def _older_stash(project: Project) -> None:
    run_git(project, "add", "-A")
    run_git(project, "stash", "push", "-q")
    Path(project.root, "plain").write_text("x")
    run_git(project, "add", "-A")
    run_git(project, "stash", "push", "-q")


def _untracked_in_stash(project: Project) -> None:
    run_git(project, "reset", "-q")
    run_git(project, "stash", "push", "-q", "--include-untracked")


def _index(project: Project) -> None:
    run_git(project, "add", "data.dvcx")
    Path(project.root, "data.dvcx").unlink()


def _untracked(project: Project) -> None:
    run_git(project, "reset", "-q")


def _detached(project: Project) -> None:
    run_git(project, "checkout", "-q", "--detach")
    commit_all(project)
    shutil.rmtree(_git_dir(project) / "logs")


def _worktree(project: Project) -> None:
    top = run_git(project, "rev-parse", "--show-toplevel").strip()
    run_git(project, "worktree", "add", "-q", "--detach", f"{top}-tree")
    _tree(project).mkdir(parents=True, exist_ok=True)
    os.rename(f"{project.root}/data.dvcx", _tree(project) / "data.dvcx")
    run_git(project, "rm", "-q", "--cached", "data.dvcx")


def _worktree_index(project: Project) -> None:
    _worktree(project)
    tree = _tree(project)
    run_git(replace(project, root=str(tree)), "add", "data.dvcx")
    (tree / "data.dvcx").unlink()


def _worktree_detached(project: Project) -> None:
    _worktree(project)
    tree = replace(project, root=str(_tree(project)))
    commit_all(tree)
    Path(tree.root, "data.dvcx").unlink()
    run_git(tree, "update-index", "--remove", "data.dvcx")
    for logs in _git_dir(project).rglob("logs"):
        shutil.rmtree(logs)


def _remote_ref(project: Project) -> None:
    _branch(project)
    name = run_git(project, "rev-parse", "side").strip()
    run_git(project, "update-ref", "refs/remotes/origin/side", name)
    run_git(project, "branch", "-q", "-D", "side")
    _forget(project)


def _note(project: Project) -> None:
    _branch(project)
    name = run_git(project, "rev-parse", "side").strip()
    run_git(project, "update-ref", "refs/custom/kept", name)
    run_git(project, "branch", "-q", "-D", "side")
    _forget(project)


def _merge(project: Project) -> None:
    """Only in a merge commit, in neither of its parents."""
    os.rename(f"{project.root}/data.dvcx", f"{project.root}/aside")
    run_git(project, "rm", "-q", "--cached", "data.dvcx")
    commit_all(project)
    run_git(project, "checkout", "-q", "-b", "side")
    commit_all(project, "side")
    run_git(project, "checkout", "-q", "main")
    Path(project.root, "other").write_text("x")
    commit_all(project, "main")
    run_git(project, "merge", "-q", "--no-ff", "--no-commit", "side")
    os.rename(f"{project.root}/aside", f"{project.root}/data.dvcx")
    commit_all(project, "merge")
    run_git(project, "rm", "-q", "data.dvcx")
    commit_all(project, "gone")


def _ignored_side(project: Project) -> None:
    """Only on a side of a merge that kept the other side: what default history simplification leaves out."""
    _branch(project)
    Path(project.root, "other").write_text("x")
    commit_all(project, "main")
    run_git(project, "merge", "-q", "-s", "ours", "side", "-m", "ours")
    run_git(project, "branch", "-q", "-D", "side")
    _forget(project)


def _merge_head(project: Project) -> None:
    _branch(project)
    name = run_git(project, "rev-parse", "side").strip()
    run_git(project, "branch", "-q", "-D", "side")
    _forget(project)
    (_git_dir(project) / "MERGE_HEAD").write_text(f"{name}\n")


def _forget(project: Project, *, stash: bool = False) -> None:
    """Without reflogs, so that only what is tested can hold the data."""
    if not stash:
        run_git(project, "checkout", "-q", "main")
        shutil.rmtree(_git_dir(project) / "logs", ignore_errors=True)


KINDS: list[Callable[[Project], None]] = [
    *(_branch, _tag, _reflog, _stash, _older_stash, _untracked_in_stash, _index, _untracked, _detached, _worktree),
    *(_worktree_index, _worktree_detached, _remote_ref, _note, _merge, _ignored_side, _merge_head),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
@pytest.mark.parametrize("where", ["", "deep/er"], ids=["top", "below"])
def test_every_kind_of_root_keeps(repo: Path, kind: Callable[[Project], None], where: str) -> None:
    """Item 72. `where`: the project is at the top of the repository, or below it."""
    (repo / where).mkdir(parents=True, exist_ok=True)
    init(str(repo / where))
    project = open_project(str(repo / where))
    commit_all(project, "empty")
    needed = old(project, {"data/a": f"a {BIG}", "data/sub/b": f"b {BIG}"}, ["data"])
    run_git(project, "reset", "-q")
    shutil.rmtree(f"{project.root}/data")
    gone = _other(project)
    run_git(project, "add", "data.dvcx")
    kind(project)
    done = gc(open_project(project.root), dry_run=True)
    assert done.objects == len(gone) and done.needed == len(needed)
    gc(open_project(project.root))
    assert objects(project) == needed


def _other(project: Project) -> set[str]:
    """An old object that nothing names, so that each test sees that something goes."""
    before = objects(project)
    write(project, {"other": "other"})
    add(again(project), ["other"])
    age(project.cache_dir)
    os.unlink(f"{project.root}/other.dvcx")
    run_git(project, "rm", "-q", "--cached", "--ignore-unmatch", "other.dvcx")
    os.unlink(f"{project.root}/other")
    return objects(project) - before


def test_submodules_are_other_projects(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    inner = tmp_path_factory.mktemp("inner")
    run_git(replace(project, root=str(inner)), "init", "-q")
    init(str(inner))
    module = open_project(str(inner))
    write(module, {"m/1": "in the module"})
    add(module, ["m"])
    commit_all(module)
    commit_all(project)
    run_git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    commit_all(project)
    gone = unused(project)
    assert gc(again(project)).objects == len(gone)
    # A collection in the submodule itself.
    inside = open_project(f"{project.root}/sub")
    write(inside, {"m/1": "in the module"})
    add(inside, ["m"])
    gone = unused(inside)
    assert gc(again(inside)).objects == len(gone)


def test_other_projects_of_a_repository_do_not_stop_it(project: Project) -> None:
    os.mkdir(f"{project.root}/other")
    init(f"{project.root}/other")
    other = open_project(f"{project.root}/other")
    write(other, {"d/1": "theirs"})
    add(other, ["d"])
    commit_all(project)
    gone = unused(project)
    assert gc(again(project)).objects == len(gone)


def test_a_shallow_clone_is_told(project: Project, tmp_path: Path, events: list[Any]) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    commit_all(project)
    write(project, {"f": "2"})
    add(again(project), ["f"])
    commit_all(project)
    run_git(project, "clone", "-q", "--depth=1", f"file://{project.root}", f"{tmp_path}/shallow")
    shallow = open_project(f"{tmp_path}/shallow")
    write(shallow, {"f": "2"})
    add(shallow, ["f"])
    gc(again(shallow), emit=events.append)
    assert any(isinstance(event, Warned) and "shallow" in event.message for event in events)
    assert len(objects(shallow)) == 1


# Whatever cannot be read: reliability item 73


def _nothing_goes(project: Project, kind: type[DvcxError], says: str, **options: Any) -> None:
    everything = sorted(Path(project.cache_dir).rglob("*"))
    with pytest.raises(kind, match=says) as caught:
        gc(again(project), **options)
    assert caught.value.hint
    assert sorted(Path(project.cache_dir).rglob("*")) == everything


def test_an_unreadable_pointer_stops_it(project: Project) -> None:
    unused(project)
    Path(project.root, "bad.dvcx").write_text("{")
    _nothing_goes(project, IntegrityError, "bad.dvcx")


def test_an_unreadable_pointer_of_long_ago_stops_it_until_forced(project: Project, events: list[Any]) -> None:
    Path(project.root, "bad.dvcx").write_text("")
    commit_all(project)
    Path(project.root, "bad.dvcx").unlink()
    commit_all(project)
    gone = unused(project)
    _nothing_goes(project, IntegrityError, r"bad.dvcx \(git blob")
    assert gc(again(project), force=True, emit=events.append).objects == len(gone)
    assert any(isinstance(event, Warned) and "passed over" in event.message for event in events)


def test_a_missing_listing_stops_it_unless_a_remote_has_it(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    old(project, {"d/sub/1": "1", "d/2": "2"}, ["d"])
    commit_all(project)
    gone = unused(project)
    tree = pointer(project, "d.dvcx")["hash"]
    Path(project.cache_dir, f"objects/{tree[7:9]}/{tree[9:]}").unlink()
    _nothing_goes(project, NotFound, tree)
    left = objects(project)
    project_with_data = again(project)
    shutil.copytree(project.cache_dir, tmp_path / "saved")
    add(project_with_data, ["d"])
    push(again(project))
    shutil.rmtree(project.cache_dir)
    shutil.copytree(tmp_path / "saved", project.cache_dir)
    age(project.cache_dir)
    gc(again(project))
    assert objects(project) == left - gone


def test_a_missing_listing_that_is_lost_can_be_passed_over(project: Project, events: list[Any]) -> None:
    old(project, {"d/1": "1"}, ["d"])
    commit_all(project)
    tree = pointer(project, "d.dvcx")["hash"]
    Path(project.cache_dir, f"objects/{tree[7:9]}/{tree[9:]}").unlink()
    _nothing_goes(project, NotFound, "listing")
    assert gc(again(project), force=True, emit=events.append).objects == 1


def test_a_corrupt_listing_stops_it(project: Project) -> None:
    unused(project)
    old(project, {"d/1": "1"}, ["d"])
    tree = pointer(project, "d.dvcx")["hash"]
    path = Path(project.cache_dir, f"objects/{tree[7:9]}/{tree[9:]}")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    _nothing_goes(project, IntegrityError, "hash mismatch")


def test_another_hash_stops_it(project: Project) -> None:
    unused(project)
    record = {"dvcx": 1, "path": "x", "kind": "blob", "hash": "blake3:" + "0" * 64, "blake3": "0" * 64, "size": 1}
    Path(project.root, "x.dvcx").write_text(json.dumps(record))
    _nothing_goes(project, IntegrityError, "xxh128")


def test_missing_parts_of_git_stop_it(project: Project) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    commit_all(project)
    unused(project)
    tree = run_git(project, "rev-parse", "HEAD^{tree}").strip()
    Path(project.root, ".git/objects", tree[:2], tree[2:]).unlink()
    _nothing_goes(project, DvcxError, "git")


def test_a_work_tree_that_is_gone_stops_it(project: Project, tmp_path: Path) -> None:
    commit_all(project)
    run_git(project, "worktree", "add", "-q", "--detach", f"{project.root}-tree")
    unused(project)
    shutil.rmtree(f"{project.root}-tree")
    _nothing_goes(project, NotFound, "work tree")
    run_git(project, "worktree", "prune")
    assert gc(again(project)).objects


def test_a_broken_branch_stops_it(project: Project) -> None:
    commit_all(project)
    unused(project)
    Path(project.root, ".git/refs/heads/broken").write_text("1" * 40 + "\n")
    _nothing_goes(project, DvcxError, "broken")


def test_a_broken_pack_stops_it(project: Project) -> None:
    unused(project, 150)
    path = next(Path(project.cache_dir, "packs").rglob("*.pack"))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    age(project.cache_dir)
    _nothing_goes(project, IntegrityError, "table")


def test_outputs_that_are_never_kept_do_not_stop_it(project: Project) -> None:
    text = "stages:\n  s:\n    cmd: mkdir -p out && cp in out/x\n    deps: [in]\n    outs: [{out: {cache: false}}]\n"
    write(project, {"in": "1", "dvcx.yaml": text})
    add(project, ["in"])
    repro(again(project))
    Path(project.root, ".gitignore").write_text("/in\n/out\n")
    commit_all(project)
    gone = unused(project)
    assert gc(again(project)).objects == len(gone)


# Together with others


def test_gc_waits_for_writers(project: Project) -> None:
    unused(project)
    with lock.hold(f"{project.cache_dir}/lock", command="dvcx add", timeout=0, shared=True):
        import threading

        errors: list[BaseException] = []

        def collect() -> None:
            try:
                gc(_impatient(project))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()
    assert isinstance(errors[0], Busy)


def _impatient(project: Project) -> Project:
    config = project.config._replace(values={**project.config.values, "core.lock_timeout": 0})
    return replace(again(project), config=config)


def test_what_is_used_again_counts_as_young(project: Project) -> None:
    gone = unused(project)
    write(project, {"gone/0": f"unused 0 {BIG}"})
    add(again(project), ["gone"])
    os.unlink(f"{project.root}/gone.dvcx")
    run_git(project, "rm", "-q", "--cached", "--ignore-unmatch", "gone.dvcx")
    done = gc(again(project))
    assert (done.objects, done.young) == (0, len(gone))


def _shared(project: Project, other: Project, cache: Path) -> tuple[Project, Project]:
    from dvcx.ops.config import set_

    for one in (project, other):
        set_(one, "cache.dir", str(cache), local=True)
    return again(project), again(other)


def test_no_project_takes_what_another_needs(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("shared")
    (base / "b").mkdir()
    run_git(replace(project, root=str(base / "b")), "init", "-q")
    init(str(base / "b"))
    first, second = _shared(project, open_project(str(base / "b")), base / "cache")
    needed = old(second, {"theirs/1": "1", "theirs/2": "2"}, ["theirs"])
    gone = unused(first)
    assert gc(again(first)).objects == len(gone)
    assert objects(first) == needed
    assert len(os.listdir(base / "cache/roots")) == 2
    os.rename(base / "b", base / "away")
    gone = unused(first)
    _nothing_goes(first, NotFound, "is not there")
    record = next(path for path in (base / "cache/roots").iterdir() if str(base / "b") in path.read_text())
    record.write_text("{")
    _nothing_goes(first, IntegrityError, "roots")
    record.unlink()
    assert gc(again(first)).objects == len(gone) + len(needed)


def test_a_project_that_lost_its_git_stops_it(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What only its history needs is not known any more."""
    base = tmp_path_factory.mktemp("shared")
    (base / "b").mkdir()
    run_git(replace(project, root=str(base / "b")), "init", "-q")
    init(str(base / "b"))
    first, second = _shared(project, open_project(str(base / "b")), base / "cache")
    history = old(second, {"theirs": "1"}, ["theirs"])
    commit_all(second)
    old(again(second), {"theirs": "2"}, ["theirs"])
    commit_all(again(second))
    gone = unused(first)
    os.rename(base / "b/.git", base / "git")
    add(again(second), ["theirs"])  # its record is not written anew without it
    _nothing_goes(first, NotFound, "in no git repository any more")
    _nothing_goes(second, NotFound, "in no git repository any more")
    os.rename(base / "git", base / "b/.git")
    assert gc(again(first)).objects == len(gone)
    assert history < objects(first)


def test_a_cache_in_one_project_that_another_uses(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvcx.ops.config import set_

    base = tmp_path_factory.mktemp("other")
    run_git(replace(project, root=str(base)), "init", "-q")
    init(str(base))
    mine = old(project, {"mine": "mine"}, ["mine"])
    set_(open_project(str(base)), "cache.dir", project.cache_dir, local=True)
    theirs = old(open_project(str(base)), {"theirs": BIG}, ["theirs"])
    gone = unused(project)
    assert gc(again(project)).objects == len(gone)
    assert objects(project) == mine | theirs
    # And what a link of that one may lead to stays though a remote holds it.
    shared = with_remote(again(project), base / "remote")
    write(shared, {"same": BIG})
    add(again(shared), ["same"])
    push(again(shared))
    set_(open_project(str(base)), "cache.link", "symlink", local=True)
    gc(again(shared), max_size="0")
    assert objects(project) == theirs


# --max-size


def test_max_size_drops_what_was_used_least_recently(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    for number in range(3):
        write(project, {f"f{number}": str(number) * 5_000})
        add(again(project), [f"f{number}"])
    for number in range(3):
        digits = pointer(project, f"f{number}.dvcx")["hash"][7:]
        then = time.time() - (40 - number) * DAY
        os.utime(f"{project.cache_dir}/objects/{digits[:2]}/{digits[2:]}", (then, then))
    push(again(project), ["f0", "f2"])
    shutil.rmtree(f"{project.cache_dir}/fresh", ignore_errors=True)
    planned = gc(again(project), max_size="11K", dry_run=True)
    done = gc(again(project), max_size="11K")
    assert replace(planned, dry_run=False) == done
    assert done.dropped == 1 and done.size <= 11 << 10
    assert [file.why for file in done.files] == ["on a remote"]
    assert pointer(project, "f0.dvcx")["hash"] not in objects(project)
    done = gc(again(project), max_size="1")
    assert done.dropped == 1 and objects(project) == {pointer(project, "f1.dvcx")["hash"]}
    os.unlink(f"{project.root}/f0")
    pull(again(project), ["f0"])
    assert Path(project.root, "f0").read_text() == "0" * 5_000


def test_max_size_drops_packs(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(150)})
    add(project, ["d"])
    push(again(project))
    done = gc(again(project), max_size="0")
    assert done.dropped == 151 and objects(project) == set()
    shutil.rmtree(f"{project.root}/d")
    pull(again(project))
    assert len(os.listdir(f"{project.root}/d")) == 150


def test_max_size_keeps_what_links_lead_to(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    write(project, {"f": BIG})
    linking = setting(project, cache_link=("symlink",))
    add(linking, ["f"])
    push(linking)
    assert gc(linking, max_size="0").dropped == 0
    assert Path(project.root, "f").read_text() == BIG


def test_max_size_holds_what_it_counts_on(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(150)} | {"f": BIG})
    add(project, ["d", "f"])
    push(again(project))
    remote = again(project).remote("origin", lambda event: None)
    everything = {key for _, key, _, _ in remote.catalog.everything()}
    marked = time.time() - 20 * DAY
    marks.complete(remote, marks.fresh_name(marked), marked, everything)
    gc(again(project), max_size="0", dry_run=True)
    assert marks.used_since(remote, marks.read(remote), marked) == set()
    marks.begin(remote, name := marks.fresh_name(time.time()), time.time())
    with pytest.raises(Busy):
        gc(again(project), max_size="0")
    assert len(objects(project)) == 152
    marks.remove(remote, name)
    assert gc(again(project), max_size="0").dropped == 152
    assert marks.used_since(remote, marks.read(remote), marked) == everything
    remote.close()


def test_max_size_without_a_remote(project: Project) -> None:
    old(project, {"f": BIG}, ["f"])
    with pytest.raises(UsageError):
        gc(again(project), max_size="0")
    with pytest.raises(UsageError, match="size"):
        gc(again(project), max_size="much")


# A remote


@pytest.fixture
def alone(project: Project, tmp_path: Path) -> Project:
    """A project whose remote is its own, holding one needed and some unneeded objects."""
    from dvcx.ops.remote import modify

    project = with_remote(project, tmp_path / "remote")
    modify(project, "origin", "gc", "true")
    return again(project)


def _unused_there(project: Project, count: int) -> tuple[set[str], set[str]]:
    """(needed, unused) objects of the remote."""
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(count)})
    add(again(project), ["d"])
    push(again(project))
    everything = set(store_objects(_remote(project)))
    for number in range(count - count // 4):
        Path(project.root, f"d/{number}").unlink()
    add(again(project), ["d"])
    push(again(project))
    now = set(store_objects(_remote(project)))
    fresh_tree = now - everything
    keep = {pointer(project, "d.dvcx")["hash"]}
    for identity, data in store_objects(_remote(project)).items():
        if not data.startswith(b"dvcx-tree") and int(data.split()[0]) >= count - count // 4:
            keep.add(identity)
    assert fresh_tree <= keep
    return keep, now - keep


def _remote(project: Project) -> Path:
    return Path(project.root, project.config.remote("origin")["url"])


def _backdate(project: Project, days: float) -> None:
    """The marks of a remote and all that is in it were written so many days earlier."""
    remote = _remote(project)
    age(remote, days + 1)
    for path in (remote / "gc").glob("*.json"):
        record = json.loads(path.read_text())
        record["time"] -= days * DAY
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("count", [8, 200])
def test_a_remote_is_collected_in_two_phases(alone: Project, count: int) -> None:
    needed, gone = _unused_there(alone, count)
    everything = store_objects(_remote(alone))
    (_remote(alone) / "notes.txt").write_text("mine")
    (_remote(alone) / "objects/notes.txt").write_text("mine")
    first = gc(again(alone), remote="origin")
    assert (first.objects, first.marked) == (0, len(gone)) and first.ripe
    second = gc(again(alone), remote="origin")
    assert (second.objects, second.marked) == (0, len(gone))
    _backdate(alone, 15)
    planned = gc(again(alone), remote="origin", dry_run=True)
    done = gc(again(alone), remote="origin")
    assert replace(planned, dry_run=False) == done
    assert done.objects == len(gone) and done.marked == 0
    assert set(store_objects(_remote(alone))) == needed
    assert (_remote(alone) / "notes.txt").exists() and (_remote(alone) / "objects/notes.txt").exists()
    shutil.rmtree(f"{alone.root}/d")
    wipe_cache(alone)
    pull(again(alone))
    assert len(os.listdir(f"{alone.root}/d")) == count // 4
    gc(again(alone), remote="origin", undo=True)
    assert store_objects(_remote(alone)) == everything


def test_results_and_requests_of_a_remote_go_with_what_they_name(alone: Project) -> None:
    stage = "stages: {s: {cmd: cp in out, deps: [in], outs: [out]}, t: {cmd: cp o2 out2, deps: [o2], outs: [out2]}}"
    write(alone, {"in": "1", "o2": "other", "dvcx.yaml": stage})
    repro(again(alone))
    push(again(alone))  # the result of both
    key = make_request(again(alone), "s", remote="origin").key  # of one that has its result there
    write(alone, {"in": "2"})
    lonely = make_request(again(alone), "s", remote="origin").key  # of one that never ran
    (_remote(alone) / f"actions/{lonely[:2]}/{'ab' * 32}.request.json").write_bytes(b"broken")

    def there() -> set[str]:
        return {path.name for path in (_remote(alone) / "actions").rglob("*.json")}

    assert {f"{key}.json", f"{key}.request.json", f"{lonely}.request.json"} < there()
    write(alone, {"dvcx.yaml": stage.replace("cp in out", "cp in out; true"), "in": "3"})
    repro(again(alone))
    gc(again(alone), remote="origin")
    before = there()
    _backdate(alone, 15)
    done = gc(again(alone), remote="origin")
    # "1" is an output of the result and an input of its request; "2" the input of the other. What "t" wrote is needed still.
    assert done.objects == 2 and there() == before - {f"{key}.json", f"{key}.request.json", f"{lonely}.request.json"}
    gc(again(alone), remote="origin", undo=True)
    assert there() == before and exec_action(lonely, project=again(alone), remote="origin").how == "ran"


def test_what_was_needed_in_between_waits_anew(alone: Project) -> None:
    _, gone = _unused_there(alone, 8)
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    for number in range(6):
        write(alone, {f"d/{number}": f"{number} {BIG}"})
    add(again(alone), ["d"])
    push(again(alone))  # counts on what is there
    assert gc(again(alone), remote="origin").objects == 0
    for number in range(6):
        Path(alone.root, f"d/{number}").unlink()
    add(again(alone), ["d"])
    done = gc(again(alone), remote="origin")
    assert done.objects == 0 and done.marked >= len(gone)


def test_what_a_push_counts_on_stays(alone: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The pusher's commit is not known to the one who collects."""
    commit_all(alone)
    other = clone(alone, tmp_path_factory.mktemp("clone") / "c")
    _, gone = _unused_there(alone, 8)
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    write(other, {"e/0": f"0 {BIG}"})
    add(other, ["e"])
    push(again(other))
    assert any(path.suffix == ".used" for path in (_remote(alone) / "gc").iterdir())
    done = gc(again(alone), remote="origin")
    assert 0 < done.objects < len(gone)
    assert not [item for item in _wanted(other) if item not in store_objects(_remote(alone))]


@pytest.mark.parametrize("counted", [False, True])
def test_a_collection_since_a_push_looked_is_seen(
    alone: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """It begins and ends between the push's listing and its look at the marks, with or without a list that names the same."""
    commit_all(alone)
    other = clone(alone, tmp_path_factory.mktemp("clone") / "c")
    _, gone = _unused_there(alone, 8)
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    write(other, {"e/0": f"0 {BIG}", "e/1": "new"})
    add(other, ["e"])
    real = marks.hold

    def late(store: Any, ids: Any, **options: Any) -> None:
        ids = list(ids)
        monkeypatch.setattr(marks, "hold", real)
        assert gc(again(alone), remote="origin").objects == len(gone)
        if counted:
            marks.complete(store, marks.fresh_name(time.time()), time.time(), ids)
        real(store, ids, **options)

    monkeypatch.setattr(marks, "hold", late)
    with pytest.raises(Busy, match="took 1 of 1 object"):
        push(again(other))
    assert push(again(other)).objects >= 2
    assert not [item for item in _wanted(other) if item not in store_objects(_remote(alone))]


@pytest.mark.parametrize("how", ["failed half-way", "clock ahead"])
def test_a_collection_that_failed_and_a_clock_that_is_ahead(
    alone: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A push that listed the remote before sees what was taken, though the collection failed, or its own clock is wrong."""
    commit_all(alone)
    other = clone(alone, tmp_path_factory.mktemp("clone") / "c")
    _unused_there(alone, 8)
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    for file in Path(alone.config.remote("origin")["url"], "gc").iterdir():
        os.utime(file, (time.time() - 15 * DAY,) * 2)
    write(other, {"e/0": f"0 {BIG}", "e/1": "new"})
    add(other, ["e"])
    real = marks.hold

    def broken(*args: Any) -> None:
        raise RemoteFailed("the line broke", "mend it")

    def late(store: Any, ids: Any, **options: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(marks, "hold", real)
            if how == "clock ahead":
                assert gc(again(alone), remote="origin").objects
                patch.setattr(marks, "time", _Later(7200))
                store.listed_at += 7200
            else:
                with patch.context() as worse:
                    worse.setattr("dvcx.io.store.sweep.purge", broken)
                    with pytest.raises(RemoteFailed, match="the line broke"):
                        gc(again(alone), remote="origin")
                assert not any(mark.state == "working" for mark in marks.read(store).records.values())
            real(store, ids, **options)

    with monkeypatch.context() as patch:
        patch.setattr(marks, "hold", late)
        with pytest.raises(Busy, match="took 1 of 1 object"):
            push(again(other))
    assert push(again(other)).objects >= 2
    gc(again(alone), remote="origin")
    assert not [item for item in _wanted(other) if item not in store_objects(_remote(alone))]


def test_a_long_collection_says_that_it_is_at_work(alone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvcx.ops import gc_remote

    remote = alone.remote("origin", lambda event: None, write=True)
    began = time.time() - 2 * DAY
    marks.begin(remote, name := marks.fresh_name(began), began)
    assert marks.active(marks.read(remote), "", time.time()) is None
    beat = gc_remote._heart(remote, name, began, {name})
    beat()
    active = marks.active(marks.read(remote), "", time.time())
    assert active is not None and active.time > time.time() - 60 and active.began == began
    monkeypatch.setattr(marks, "begin", lambda *args: pytest.fail("twice in five minutes"))
    beat()
    remote.close()


@pytest.mark.parametrize("count", [8, 200])
@pytest.mark.parametrize("phase", ["_repack", "_reindex", "move", "purge", "complete"])
def test_a_collection_that_was_killed_is_ended(
    alone: Project, monkeypatch: pytest.MonkeyPatch, phase: str, count: int
) -> None:
    """Wherever it was: everything is back, nobody is kept away any more, and a later collection does its work."""
    monkeypatch.setattr("dvcx.io.store.fresh.newest", lambda found: max(found.st_mtime, found.st_ctime))
    _, gone = _unused_there(alone, count)
    everything = store_objects(_remote(alone))
    monkeypatch.setattr("dvcx.ops.gc_remote.decide", _as_if_old)
    gc(again(alone), remote="origin")
    with monkeypatch.context() as patch:
        _kill_in(patch, phase)
        with pytest.raises(SystemExit):
            gc(again(alone), remote="origin", grace=0)
    assert phase not in ("purge", "complete") or store_objects(_remote(alone)).keys() < everything.keys()
    for work in (gc, lambda *args, **options: push(args[0])):
        with pytest.raises(Busy, match="last sign of life") as raised:
            write(alone, {"d/0": f"0 {BIG}"})
            add(again(alone), ["d"])
            work(again(alone), remote="origin")
        assert raised.value.hint.endswith("dvcx gc --remote 'origin' --abort")
    with pytest.raises(Busy, match="gave a sign of life 0 min ago"):
        gc(again(alone), remote="origin", abort=True)
    before = sorted(_remote(alone).rglob("*"))
    planned = gc(again(alone), remote="origin", abort=True, force=True, dry_run=True)
    assert sorted(_remote(alone).rglob("*")) == before
    done = gc(again(alone), remote="origin", abort=True, force=True)
    assert replace(planned, dry_run=False) == done and done.ended[0].startswith("pid ")
    assert store_objects(_remote(alone)) == everything
    assert not any(mark.state == "working" for mark in _marks(alone).records.values())
    with pytest.raises(NotFound, match="no collection of it was begun and left"):
        gc(again(alone), remote="origin", abort=True)
    Path(alone.root, "d/0").unlink()
    add(again(alone), ["d"])
    assert gc(again(alone), remote="origin", grace=0).objects >= len(gone)


def _marks(project: Project) -> marks.Marks:
    remote = project.remote("origin", lambda event: None)
    try:
        return marks.read(remote)
    finally:
        remote.close()


def _kill_in(patch: pytest.MonkeyPatch, phase: str) -> None:
    """The process ends there: nothing cleans up behind it."""

    def die(*args: Any, **options: Any) -> None:
        raise SystemExit

    if phase == "move":
        from dvcx.io.store.local import LocalBackend

        real, count = LocalBackend.move, iter(range(100))
        patch.setattr(LocalBackend, "move", lambda *args: die() if next(count) == 1 else real(*args))
    else:
        patch.setattr(f"dvcx.io.store.{'marks' if phase == 'complete' else 'sweep'}.{phase}", die)
    patch.setattr(marks, "remove", lambda *args: None)
    patch.setattr(marks, "give_up", lambda *args: None)


def test_killed_before_any_change_of_a_remote(
    alone: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """kill -9: the next gc does it all, or says how the killed one is ended; then nothing is missing, and it does it all."""
    monkeypatch.setattr("dvcx.io.store.fresh.newest", lambda found: max(found.st_mtime, found.st_ctime))
    monkeypatch.setattr("dvcx.ops.gc_remote.decide", _as_if_old)
    needed, _ = _unused_there(alone, 200)
    write(alone, {"loose": "l" * (2 << 20)})
    add(again(alone), ["loose"])
    push(again(alone))
    remove(again(alone), ["loose"], keep_data=False)
    everything = store_objects(_remote(alone))
    gc(again(alone), remote="origin")
    template = shutil.copytree(_remote(alone), tmp_path_factory.mktemp("template") / "remote", symlinks=True)
    number, ended, killed = 0, 0, True
    while killed:
        shutil.rmtree(_remote(alone))
        shutil.copytree(template, _remote(alone), symlinks=True)
        killed = _killed_before(number, lambda: gc(again(alone), remote="origin", grace=0))
        try:
            gc(again(alone), remote="origin", grace=0)
        except Busy as busy:
            assert "--abort" in busy.hint
            gc(again(alone), remote="origin", abort=True, force=True)
            assert store_objects(_remote(alone)) == everything, number
            gc(again(alone), remote="origin", grace=0)
            ended += 1
        assert store_objects(_remote(alone)).keys() == needed, number
        number += 1
    assert number > 8 and ended >= number - 4


def _killed_before(number: int, work: Callable[[], object]) -> bool:
    """Do this in another process, killed before its change of this number to a directory; whether it was."""
    child = os.fork()
    if child == 0:
        from dvcx.io.store.local import LocalBackend

        left = iter(range(number))
        for name in ("write", "upload", "move", "delete"):
            real = getattr(LocalBackend, name)

            def changing(*args: Any, real: Any = real, **options: Any) -> Any:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            setattr(LocalBackend, name, changing)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_collection_that_was_killed_passes_after_a_day(alone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    _unused_there(alone, 8)
    gc(again(alone), remote="origin")
    with monkeypatch.context() as patch:
        _kill_in(patch, "purge")
        with pytest.raises(SystemExit):
            gc(again(alone), remote="origin")
    (name,) = marks.at_work(_marks(alone))
    path = _remote(alone) / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "time": time.time() - DAY - 60}))
    gc(again(alone), remote="origin")
    assert name not in _marks(alone).names
    with pytest.raises(NotFound):
        gc(again(alone), remote="origin", abort=True)


def test_what_abort_goes_with(alone: Project) -> None:
    for options in ({}, {"remote": "origin", "undo": True}, {"remote": "origin", "max_size": "1G"}):
        with pytest.raises(UsageError, match="--abort goes with"):
            gc(again(alone), abort=True, **options)
    _unused_there(alone, 8)
    with pytest.raises(NotFound, match="no collection"):
        gc(again(alone), remote="origin", abort=True)


def test_a_collection_while_a_push_sends_is_seen(
    alone: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that the push found there are gone when its index is to name them."""
    from dvcx.io.store import writer

    other, third = _two_versions(alone, tmp_path_factory)
    real = writer.Writer._write_index

    def late(self: Any) -> None:
        monkeypatch.setattr(writer.Writer, "_write_index", real)
        assert gc(again(alone), remote="origin").objects > 2
        real(self)

    monkeypatch.setattr(writer.Writer, "_write_index", late)
    with pytest.raises(Busy, match="since this looked there"):
        push(again(other))
    push(again(other))
    wipe_cache(other)
    Path(other.root, "mine").unlink()
    pull(again(other))
    assert Path(other.root, "mine").read_bytes() == third


def _wanted(project: Project) -> set[str]:
    blobs = {identity for identity, data in store(project).items() if data.startswith(b"0 ")}
    return {pointer(project, "e.dvcx")["hash"]} | blobs


def test_a_remote_is_not_collected_on_any_doubt(alone: Project, tmp_path: Path) -> None:
    _unused_there(alone, 8)
    commit_all(alone)
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    everything = sorted(_remote(alone).rglob("*"))

    def refuses(kind: type[DvcxError], says: str, project: Project | None = None) -> None:
        with pytest.raises(kind, match=says):
            gc(project or again(alone), remote="origin")
        assert sorted(_remote(alone).rglob("*")) == everything

    refuses(UsageError, "this project's alone", setting_remote(alone, "gc", False))
    (Path(alone.root) / "bad.dvcx").write_text("{")
    refuses(IntegrityError, "bad.dvcx")
    (Path(alone.root) / "bad.dvcx").unlink()
    run_git(alone, "clone", "-q", "--depth=1", f"file://{alone.root}", f"{tmp_path}/shallow")
    refuses(Conflict, "shallow", replace(open_project(f"{tmp_path}/shallow"), config=alone.config))
    name = _remote(alone) / "gc/2026-01-01-0123456789abcdef.json"
    name.write_text(json.dumps({"dvcx": 1, "state": "working", "time": time.time() - 60, "by": "pid 1 on elsewhere"}))
    everything = sorted(_remote(alone).rglob("*"))
    refuses(Busy, "pid 1 on elsewhere")
    with pytest.raises(Busy, match="under way"):
        write(alone, {"d/0": f"0 {BIG}"})
        add(again(alone), ["d"])
        push(again(alone))
    name.write_text("{")
    refuses(IntegrityError, "broken mark")
    name.unlink()
    with pytest.raises(UsageError):
        gc(again(alone), remote="origin", force=True)


def test_a_mark_of_the_future_passes(alone: Project) -> None:
    _unused_there(alone, 8)
    (_remote(alone) / "gc").mkdir(exist_ok=True)
    name = _remote(alone) / "gc/2026-01-01-0123456789abcdef.json"
    for ahead, refused in ((300.0, True), (DAY + 600, False), (9e10, False)):
        name.write_text(json.dumps({"dvcx": 1, "state": "working", "time": time.time() + ahead, "by": "pid 1 on elsewhere"}))
        write(alone, {"new": str(ahead)})
        add(again(alone), ["new"])
        if refused:
            with pytest.raises(Busy, match="pid 1 on elsewhere"):
                push(again(alone))
        else:
            assert push(again(alone)).objects >= 1
            assert gc(again(alone), remote="origin", dry_run=True).objects == 0


def setting_remote(project: Project, key: str, value: Any) -> Project:
    config = project.config._replace(values={**project.config.values, f"remote.origin.{key}": value})
    return replace(project, config=config)


def test_clocks_that_differ_stop_it(alone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvcx.ops import gc_remote

    _unused_there(alone, 8)
    before = sorted(_remote(alone).rglob("*"))
    real = time.time

    class Clock:
        def __getattr__(self, name: str) -> Any:
            return (lambda: real() + 400) if name == "time" else getattr(time, name)

    monkeypatch.setattr(gc_remote, "time", Clock())
    with pytest.raises(DvcxError, match="clock"):
        gc(again(alone), remote="origin")
    assert sorted(path for path in _remote(alone).rglob("*") if path.name != "gc") == before


# Chunks of large blobs


def _two_versions(alone: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, bytes]:
    """Two versions that `alone` pushed, the first marked and old by now; a clone that added a file like it, and that file."""
    first, second, third = _versions()
    return _pushed_and_marked(alone, tmp_path_factory, (first, second), third), third


def _pushed_and_marked(
    alone: Project, tmp_path_factory: pytest.TempPathFactory, versions: tuple[bytes, bytes], mine: bytes
) -> Project:
    """Versions of one file that `alone` pushed, what only the first needs marked and old by now; a clone that added `mine`."""
    commit_all(alone)
    other = clone(alone, tmp_path_factory.mktemp("clone") / "c")
    for data in versions:
        write(alone, {"large": data})
        add(again(alone), ["large"])
        push(again(alone))
    gc(again(alone), remote="origin")
    _backdate(alone, 15)
    write(other, {"mine": mine})
    add(other, ["mine"])
    return other


def _versions() -> list[bytes]:
    """A large file three times: shared, shared in part with the first, the first once more with an end of its own."""
    import random

    chance = random.Random(7)
    parts = [chance.randbytes(6 << 20) for _ in range(4)]
    return [parts[0] + parts[1], parts[0] + parts[2], parts[1] + parts[3]]


def _sizes(remote: Path) -> dict[str, int]:
    """Loose objects and packs of a store, with their bytes."""
    found = (path for part in ("objects", "packs") for path in (remote / part).rglob("*") if path.is_file())
    return {str(path.relative_to(remote)): path.stat().st_size for path in found}


def test_chunks_stay_with_the_blobs_that_need_them(alone: Project) -> None:
    first, second, _ = _versions()
    for data in (first, second):
        write(alone, {"large": data})
        add(again(alone), ["large"])
        push(again(alone))
    before = _sizes(_remote(alone))
    done = gc(again(alone), remote="origin")
    assert done.marked > 2 and done.objects == 0
    _backdate(alone, 15)
    done = gc(again(alone), remote="origin")
    assert done.objects > 2 and done.marked == 0
    assert sum(_sizes(_remote(alone)).values()) < sum(before.values()) - (4 << 20)
    wipe_cache(alone)
    Path(alone.root, "large").unlink()
    pull(again(alone))
    assert Path(alone.root, "large").read_bytes() == second
    gc(again(alone), remote="origin", undo=True)
    assert before.items() <= _sizes(_remote(alone)).items()


def test_chunks_a_push_counts_on_stay(alone: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    other, third = _two_versions(alone, tmp_path_factory)
    sent = push(again(other))
    assert sent.new < len(third) - (4 << 20)
    gc(again(alone), remote="origin")
    wipe_cache(other)
    Path(other.root, "mine").unlink()
    pull(again(other))
    assert Path(other.root, "mine").read_bytes() == third


@pytest.mark.parametrize("blob_alone", [False, True])
def test_chunks_of_a_blob_a_push_counts_on_stay(
    alone: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, blob_alone: bool
) -> None:
    """The push sends nothing of the blob; an older dvcx named the blob alone."""
    first, _, _ = _versions()
    other = _pushed_and_marked(alone, tmp_path_factory, (first, b"nothing of it"), first)
    if blob_alone:
        monkeypatch.setattr("dvcx.io.store.store.Store.with_chunks", lambda self, keys: set(keys))
    assert push(again(other)).present == 1
    held = sum(path.stat().st_size for path in (_remote(alone) / "gc").glob("*.used"))
    assert (held > 16) == (not blob_alone)
    assert gc(again(alone), remote="origin").objects == 0
    wipe_cache(other)
    Path(other.root, "mine").unlink()
    pull(again(other))
    assert Path(other.root, "mine").read_bytes() == first


def test_max_size_trusts_chunks(project: Project, tmp_path: Path) -> None:
    project = with_remote(project, tmp_path / "remote")
    write(project, {"large": _versions()[0]})
    add(project, ["large"])
    push(again(project))
    assert gc(again(project), max_size="1M").dropped == 1
    Path(project.root, "large").unlink()
    pull(again(project))
    for path in (tmp_path / "remote/packs").rglob("*.pack"):
        path.unlink()
    assert gc(again(project), max_size="1M").dropped == 0


# S3


def test_a_remote_on_s3(project: Project, seaweedfs: S3Server, tmp_path: Path) -> None:  # noqa: F811
    from dvcx.ops.remote import add as add_remote
    from dvcx.ops.remote import modify

    url, options = seaweedfs.fresh()
    add_remote(project, "origin", url, default=True)
    for key, value in options.items():
        modify(again(project), "origin", key, value, local=True)
    modify(again(project), "origin", "gc", "true")
    write(project, {f"d/{number}": f"{number} {BIG}" for number in range(150)} | {"f": "one", "large": _versions()[0]})
    add(again(project), ["d", "f", "large"])
    push(again(project))
    for number in range(120):
        Path(project.root, f"d/{number}").unlink()
    write(project, {"f": "two", "large": _versions()[1]})
    add(again(project), ["d", "f", "large"])
    push(again(project))
    store = again(project).remote("origin", lambda event: None)
    store.backend.write("objects/notes.txt", b"mine")
    first = gc(again(project), remote="origin")
    assert first.marked > 120 and first.objects == 0
    # What lies there is young: only the clocks of a test pass so quickly.
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("dvcx.ops.gc_remote.MAX_SKEW", 1e9)
        patch.setattr("dvcx.ops.gc_remote.time", _Later(20 * DAY))
        patch.setattr("dvcx.ops.gc_remote.decide", _as_if_old)
        done = gc(again(project), remote="origin")
    assert done.objects == first.marked
    names = [item.name for item in store.backend.list("")]
    assert any(name.startswith("trash/") for name in names) and "objects/notes.txt" in names
    shutil.rmtree(f"{project.root}/d")
    wipe_cache(project)
    Path(project.root, "f").unlink()
    Path(project.root, "large").unlink()
    pull(again(project))
    assert Path(project.root, "large").read_bytes() == _versions()[1] and len(os.listdir(f"{project.root}/d")) == 30
    gc(again(project), remote="origin", undo=True)
    assert not list(store.backend.list("trash"))
    store.close()


class _Later:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return (lambda: time.time() + self._seconds) if name == "time" else getattr(time, name)


def _as_if_old(loose: Any, packs: Any, live: Any, *, before: float, only: Any) -> Any:
    from dvcx.core.collecting import decide

    return decide(loose, packs, live, before=time.time() + DAY, only=only)


def test_the_public_names(project: Project) -> None:
    old(project, {"f": "1"}, ["f"])
    assert isinstance(dvcx.gc(again(project), dry_run=True), Collected)


def test_marks_of_nobody(alone: Project) -> None:
    """A push to a remote that nobody collects asks once."""
    _unused_there(alone, 8)
    remote = alone.remote("origin", lambda event: None)
    try:
        assert marks.read(remote).records == {}
    finally:
        remote.close()
