"""pull: fetch and checkout in one, and what was corrupt in the cache is replaced on the way."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.packing import SMALL
from dvcx.errors import Conflict, IntegrityError, NotFound
from dvcx.events import Warned
from dvcx.io.store.store import object_name
from dvcx.ops.add import add
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, clone, commit_all, pointer, seen, setting, text, wipe_cache, with_remote, write


@pytest.fixture
def pushed(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`f`, `big` and `d`, pushed and committed."""
    write(project, {"f": "12345", "big": random.Random(1).randbytes(SMALL + 9), "d/a": "a", "d/sub/c": "ccc"})
    write(project, {f"many/{number}": f"{number}" * 40 for number in range(120)})
    add(project, ["many"])
    add(project, ["f", "big", "d"])  # alone they are too few for a pack
    project = with_remote(project, tmp_path_factory.mktemp("remote"))
    push(project, ["f"])
    push(project)
    commit_all(project)
    return again(project)


PATHS = ("f", "big", "d", "many")


def snapshot(project: Project) -> dict[str, str]:
    return {key: value for path in PATHS for key, value in seen(project, path).items()}


@pytest.mark.parametrize("links", [("copy",), ("hardlink",), ("symlink",)])
def test_a_fresh_clone_gets_it_all(pushed: Project, tmp_path_factory: pytest.TempPathFactory, links: tuple[str, ...]) -> None:
    there = setting(clone(pushed, tmp_path_factory.mktemp("clone") / "c"), cache_link=links)
    done = pull(there)
    assert done.fetched.objects == 1 + 1 + 4 + 121 and done.checkout.placed == 124
    assert snapshot(there) == snapshot(pushed) and status(there).clean
    assert pull(there).fetched.objects == 0
    assert status(again(there)).clean


def test_a_target_alone(pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = clone(pushed, tmp_path_factory.mktemp("clone") / "c")
    done = pull(there, ["d/sub"])
    assert (done.fetched.objects, done.checkout.placed) == (3, 1)
    assert snapshot(there) == {"d": "/", "d/sub": "/", "d/sub/c": "ccc"}
    pull(there, ["f"])
    assert text(there, "f") == "12345" and not Path(there.root, "big").exists()


def test_half_of_it_is_there(pushed: Project) -> None:
    """Half fetched, half placed: what is missing comes, the rest stays."""
    objects = sorted(Path(pushed.cache_dir, "objects").glob("*/*"))
    for path in objects[::2]:
        path.unlink()
    for path in ("d/a", "many/3", "f"):
        Path(pushed.root, path).unlink()
    stays = os.stat(f"{pushed.root}/many/4")
    done = pull(again(pushed))
    assert done.fetched.objects == len(objects[::2]) and done.checkout.placed == 3
    assert os.stat(f"{pushed.root}/many/4") == stays and status(again(pushed)).clean


def test_unsaved_work_is_in_the_way(pushed: Project) -> None:
    write(pushed, {"d/a": "mine"})
    with pytest.raises(Conflict, match="d/a"):
        pull(pushed)
    assert text(pushed, "d/a") == "mine"
    done = pull(pushed, force=True)
    assert text(pushed, "d/a") == "a" and [kept.path for kept in done.checkout.kept] == ["d/a"]


@pytest.mark.parametrize("path", ["f", "big", "many/5", "d"])
@pytest.mark.parametrize("link", ["copy", "hardlink", "symlink"])
def test_a_corrupt_copy_in_the_cache_is_replaced(pushed: Project, events: list[Any], path: str, link: str) -> None:
    before = snapshot(pushed)
    if path == "many/5":
        (victim,) = Path(pushed.cache_dir).glob("packs/*/*")
        at = victim.read_bytes().index(b"5" * 40)
    else:
        victim, at = Path(pushed.cache_dir, object_name(pointer(pushed, f"{path}.dvcx")["hash"])), 3
    data = bytearray(victim.read_bytes())
    data[at] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    for name in PATHS:
        if Path(pushed.root, name).is_dir():
            shutil.rmtree(Path(pushed.root, name))
        else:
            Path(pushed.root, name).unlink()
    project = setting(again(pushed), cache_link=(link, "copy"))
    done = pull(project, emit=events.append)
    assert done.fetched.repaired == 1
    assert snapshot(project) == before and status(project).clean
    assert any(isinstance(event, Warned) and "was corrupt; replaced" in event.message for event in events)
    if path in ("f", "big", "d"):
        (kept,) = Path(project.cache_dir, "quarantine").iterdir()
        assert kept.read_bytes() == bytes(data)
    shutil.rmtree(Path(project.root, "many"))
    assert pull(again(project)).fetched.repaired == 0


def test_fetch_replaces_a_corrupt_listing_and_leaves_the_workspace(pushed: Project) -> None:
    from dvcx.ops.fetch import fetch

    victim = Path(pushed.cache_dir, object_name(pointer(pushed, "d.dvcx")["hash"]))
    victim.chmod(0o644)
    victim.write_bytes(b"dvcx-tree 1\n")
    before = snapshot(pushed)
    assert fetch(again(pushed)).repaired == 1
    assert fetch(again(pushed)).repaired == 0 and snapshot(pushed) == before
    assert victim.read_bytes() != b"dvcx-tree 1\n"


def test_corrupt_in_both_places_is_an_error(pushed: Project, events: list[Any]) -> None:
    identity = pointer(pushed, "f.dvcx")["hash"]
    remote = Path(pushed.config.remote("origin")["url"])
    for base in (Path(pushed.cache_dir), remote):
        path = base / object_name(identity)
        path.chmod(0o644)
        path.write_bytes(b"54321")
    Path(pushed.root, "f").unlink()
    with pytest.raises(IntegrityError, match=identity):
        pull(again(pushed))
    assert not Path(pushed.root, "f").exists()


def test_what_is_nowhere(pushed: Project) -> None:
    wipe_cache(pushed)
    shutil.rmtree(Path(pushed.config.remote("origin")["url"]))
    Path(pushed.config.remote("origin")["url"]).mkdir()
    shutil.rmtree(Path(pushed.root, "d"))
    with pytest.raises(NotFound):
        pull(again(pushed))
    assert text(pushed, "f") == "12345" and not Path(pushed.root, "d").exists()


def test_in_a_worktree(pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvcx.project import open_project
    from tests.ops.trying import run_git

    tree = tmp_path_factory.mktemp("trees") / "t"
    run_git(pushed, "worktree", "add", "-q", "--detach", str(tree))
    there = open_project(str(tree))
    pull(there)
    assert snapshot(there) == snapshot(pushed) and status(there).clean
    assert run_git(there, "status", "--porcelain") == ""
