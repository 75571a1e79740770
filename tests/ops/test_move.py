from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError
from dvcx.events import Warned
from dvcx.io import place
from dvcx.ops import records
from dvcx.ops.add import add
from dvcx.ops.move import Moved, move
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.conftest import Git

Put = Callable[..., None]


@pytest.fixture
def tracked(project: Project, put: Put, git: Git) -> Project:
    put({"images/a": "aa", "images/sub/b": "bbb", "data.csv": "1,2"})
    add(project, ["images", "data.csv"])
    git("commit", "-qm", "one")
    return project


def test_a_file(tracked: Project, git: Git) -> None:
    assert move(tracked, "data.csv", "new/dir/raw.csv") == Moved("data.csv", "new/dir/raw.csv", "new/dir/raw.csv.dvcx")
    assert Path(tracked.root, "new/dir/raw.csv").read_text() == "1,2"
    assert not os.path.lexists(f"{tracked.root}/data.csv")
    assert Path(tracked.root, "new/dir/.gitignore").read_text() == "/raw.csv\n"
    assert Path(tracked.root, ".gitignore").read_text() == "/images\n"
    assert records.load(tracked).pointers["new/dir/raw.csv"][1].path == "raw.csv"
    assert status(tracked).clean
    assert "??" not in git("status", "--porcelain")


def test_into_a_directory_and_by_its_pointer(tracked: Project) -> None:
    Path(tracked.root, "archive").mkdir()
    assert move(tracked, "images.dvcx", "archive").destination == "archive/images"
    assert Path(tracked.root, "archive/images/sub/b").read_text() == "bbb"
    assert status(tracked).clean
    assert move(tracked, "archive/images", "").destination == "images"


def test_changes_and_absence_move_along(tracked: Project, put: Put) -> None:
    put({"images/a": "changed"})
    move(tracked, "images", "pictures")
    assert [change.path for change in status(tracked).data] == ["pictures"]
    Path(tracked.root, "data.csv").unlink()
    move(tracked, "data.csv", "raw.csv")
    assert [(change.path, change.state) for change in status(tracked).data][-1] == ("raw.csv", "deleted")


def test_nothing_is_overwritten(tracked: Project, put: Put, git: Git) -> None:
    put({"there": "mine", "kept.csv": "git's", "x.dvcx": "{}", "dvcx.yaml": "stages:\n  s: {cmd: a, outs: [out]}\n"})
    git("add", "kept.csv")
    Path(tracked.root, "kept.csv").unlink()
    Path(tracked.root, "x.dvcx").unlink()
    Path(tracked.root, "x.dvcx").mkdir()
    os.symlink("images", f"{tracked.root}/link")
    for destination, kind in (
        ("there", Conflict),
        ("kept.csv", Conflict),
        ("x", Conflict),
        ("images", Conflict),
        ("images/new", Conflict),
        ("out", Conflict),
        ("out/below", Conflict),
        ("link", UnsafeInput),
        ("link/below", UnsafeInput),
        ("data.csv", UsageError),
        ("data.csv/below", UsageError),
        ("y.dvcx", UsageError),
        ("sub/dvcx.lock", UsageError),
        (".gitignore", UsageError),
        (".dvcx/x", UnsafeInput),
    ):
        with pytest.raises(kind):
            move(tracked, "data.csv", destination)
    assert Path(tracked.root, "data.csv").read_text() == "1,2"
    assert Path(tracked.root, "there").read_text() == "mine"
    assert sorted(records.load(tracked).pointers) == ["data.csv", "images"]


def test_sources_that_cannot_move(tracked: Project, put: Put) -> None:
    put({"dvcx.yaml": "stages:\n  s: {cmd: a, outs: [out]}\n", "group/x": "x"})
    add(tracked, ["group/x"])
    for source, kind in (
        ("out", Conflict),
        ("images/a", Conflict),
        ("group", Conflict),
        ("nowhere", NotFound),
        ("", UnsafeInput),
    ):
        with pytest.raises(kind):
            move(tracked, source, "elsewhere")


def test_stages_that_read_it_are_named(tracked: Project, put: Put, events: list[Any]) -> None:
    put({"dvcx.yaml": "stages:\n  s: {cmd: a, deps: [data.csv], outs: [out]}\n"})
    move(tracked, "data.csv", "raw.csv", emit=events.append)
    assert [event.message for event in events if isinstance(event, Warned)] == [
        "stage 's' reads data.csv, which is called raw.csv now"
    ]


@pytest.mark.parametrize("step", ["write_pointer", "rename", "remove_record"])
def test_killed_half_way_the_data_lies_where_a_pointer_points(
    tracked: Project, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    from dvcx.io import files

    owner: Any = {"write_pointer": records, "rename": place, "remove_record": files}[step]
    work = getattr(owner, step)

    def die(*words: Any, **options: Any) -> None:
        work(*words, **options)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, step, die)
        move(tracked, "data.csv", "raw.csv")
    pointers = records.load(tracked).pointers
    [there] = [path for path in ("data.csv", "raw.csv") if os.path.lexists(f"{tracked.root}/{path}")]
    assert there in pointers
    assert Path(tracked.root, there).read_text() == "1,2"


def test_a_rename_that_fails_leaves_everything(tracked: Project, monkeypatch: pytest.MonkeyPatch, git: Git) -> None:
    def refuse(*words: Any) -> None:
        raise Conflict("no", "no")

    monkeypatch.setattr(place, "rename", refuse)
    with pytest.raises(Conflict):
        move(tracked, "data.csv", "raw.csv")
    assert sorted(records.load(tracked).pointers) == ["data.csv", "images"]
    assert Path(tracked.root, "data.csv").exists()
