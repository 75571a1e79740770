from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.objects import Content
from dvcx.errors import Conflict, NotFound, UsageError
from dvcx.events import Warned
from dvcx.ops import records
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.list import list_
from dvcx.ops.remove import RemovedItem, remove
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.conftest import Git, linked

Put = Callable[..., None]


@pytest.fixture
def tracked(project: Project, put: Put, git: Git) -> Project:
    put({"images/a": "aa", "images/sub/b": "bbb", "data.csv": "1,2", "more/x": "x", "more/y": "y"})
    add(project, ["images", "data.csv", "more/x", "more/y"])
    git("commit", "-qm", "one")
    return project


def exists(project: Project, path: str) -> bool:
    return os.path.lexists(f"{project.root}/{path}")


def paths(project: Project) -> list[str]:
    return [item.path for item in list_(project, recursive=True).items]


def test_the_data_stays(tracked: Project, git: Git) -> None:
    result = remove(tracked, ["data.csv"])
    assert result.items == (RemovedItem("data.csv", "data", "data.csv.dvcx", 0),)
    assert exists(tracked, "data.csv")
    assert not exists(tracked, "data.csv.dvcx")
    assert Path(tracked.root, ".gitignore").read_text() == "/images\n"
    assert git("status", "--porcelain").splitlines() == ["M  .gitignore", "D  data.csv.dvcx", "?? data.csv"]
    checkout(tracked)
    assert exists(tracked, "data.csv")


def test_deleting(tracked: Project, git: Git) -> None:
    result = remove(tracked, ["images.dvcx", "more"], keep_data=False)
    assert [(item.path, item.deleted) for item in result.items] == [("images", 2), ("more/x", 1), ("more/y", 1)]
    assert not exists(tracked, "images")
    assert not exists(tracked, "more/x")
    assert paths(tracked) == ["data.csv"]
    git("reset", "-q", "--hard")
    checkout(tracked)
    assert Path(tracked.root, "images/sub/b").read_text() == "bbb"


def test_bytes_that_are_nowhere_else_are_not_deleted(tracked: Project, put: Put) -> None:
    put({"images/new": "never recorded"})
    with pytest.raises(Conflict, match="images/new: not in the cache") as caught:
        remove(tracked, ["data.csv", "images"], keep_data=False)
    assert "dvcx commit images" in caught.value.hint
    assert exists(tracked, "images/new")
    assert exists(tracked, "data.csv.dvcx")
    shutil.rmtree(tracked.cache_dir)
    with pytest.raises(Conflict):
        remove(tracked, ["data.csv"], keep_data=False)
    assert exists(tracked, "data.csv")


def test_a_dry_run_changes_nothing(tracked: Project, git: Git) -> None:
    result = remove(tracked, ["images", "data.csv"], keep_data=False, dry_run=True)
    assert (result.dry_run, [item.deleted for item in result.items]) == (True, [2, 1])
    assert git("status", "--porcelain") == ""
    assert exists(tracked, "images/a")


def test_a_path_inside_a_tracked_directory(tracked: Project, events: list[Any]) -> None:
    result = remove(tracked, ["images/sub/b"], emit=events.append)
    assert result.items[0].kind == "inside"
    assert paths(tracked) == ["data.csv", "images/a", "more/x", "more/y"]
    assert any(isinstance(event, Warned) and "images/sub/b stays" in event.message for event in events)
    remove(tracked, ["images/a"], keep_data=False)
    assert not exists(tracked, "images/a")
    assert paths(tracked) == ["data.csv", "more/x", "more/y"]


def test_deleting_inside_leaves_a_clean_status(tracked: Project) -> None:
    remove(tracked, ["images/sub/b", "images/a"], keep_data=False)
    assert status(tracked).clean
    assert exists(tracked, "images/sub")
    remove(tracked, ["images/sub", "images"], keep_data=False)
    assert not exists(tracked, "images")


def test_a_stage(tracked: Project, put: Put, git: Git) -> None:
    text = "stages:\n  # keep me\n  one: {cmd: a, outs: [out]}\n  two: {cmd: b, deps: [out]}\n"
    put({"dvcx.yaml": text, "out": "1,2", ".gitignore": "/out\n/images\n/data.csv\n"})
    content = records.load(tracked).contents()["data.csv"]
    records.write_lock(tracked, {"one": records.LockEntry("a", {}, {}, {"out": content})})
    result = remove(tracked, ["one"])
    assert result.items == (RemovedItem("one", "stage", "dvcx.yaml", 0),)
    after = records.load(tracked)
    assert [stage.name for stage in after.stages] == ["two"]
    assert after.lock == {}
    assert exists(tracked, "out")
    assert "/out" not in Path(tracked.root, ".gitignore").read_text()
    assert "dvcx.lock" in git("diff", "--cached", "--name-only")


def test_a_stage_with_its_outputs(tracked: Project, put: Put) -> None:
    put({"dvcx.yaml": "stages:\n  one: {cmd: a, outs: [out]}\n", "out": "1,2"})
    remove(tracked, ["one"], keep_data=False)
    assert not exists(tracked, "out")
    put({"dvcx.yaml": "stages:\n  one: {cmd: a, outs: [out]}\n", "out": "nowhere else"})
    with pytest.raises(Conflict):
        remove(tracked, ["one"], keep_data=False)
    assert "one" in Path(tracked.root, "dvcx.yaml").read_text()


def test_targets_that_are_refused(tracked: Project, put: Put) -> None:
    put({"dvcx.yaml": "stages:\n  one: {cmd: a, outs: [out]}\n", "sub/dvcx.yaml": "stages:\n  one: {cmd: a, outs: [out]}\n"})
    with pytest.raises(Conflict, match="written by stage 'one'"):
        remove(tracked, ["out"])
    for target in ("nowhere", "images/nowhere", ""):
        with pytest.raises(NotFound):
            remove(tracked, ["data.csv", target])
    assert exists(tracked, "data.csv.dvcx")
    assert remove(tracked, ["one"]).items[0].record == "dvcx.yaml"
    put({"a/dvcx.yaml": "stages:\n  one: {cmd: a}\n"})
    with pytest.raises(UsageError, match="several"):
        remove(tracked, ["one"])


def test_kept_data_is_no_link_into_the_cache(tracked: Project, put: Put) -> None:
    big = "x" * (1 << 20)
    put({"big": big})
    project = linked(tracked, "symlink", "copy")
    add(project, ["big"])
    assert os.path.islink(f"{project.root}/big")
    remove(project, ["big"])
    assert not os.path.islink(f"{project.root}/big")
    assert Path(project.root, "big").read_text() == big


def test_ignored_files_stay(tracked: Project, put: Put, events: list[Any]) -> None:
    put({".dvcxignore": "*.log\n", "images/run.log": "log"})
    remove(tracked, ["images"], keep_data=False, emit=events.append)
    assert exists(tracked, "images/run.log")
    assert not exists(tracked, "images/a")
    assert any(isinstance(event, Warned) and ".dvcxignore" in event.message for event in events)


def test_an_absent_path_is_only_untracked(tracked: Project) -> None:
    shutil.rmtree(f"{tracked.root}/images")
    assert remove(tracked, ["images"], keep_data=False).items[0].deleted == 0
    assert isinstance(records.load(tracked).contents()["data.csv"], Content)
    assert "images" not in records.load(tracked).contents()
