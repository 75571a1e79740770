from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import NotFound
from dvcx.ops import records
from dvcx.ops.add import add
from dvcx.ops.list import list_
from dvcx.project import Project
from tests.ops.conftest import Git

Put = Callable[..., None]


@pytest.fixture
def tracked(project: Project, put: Put, git: Git) -> Project:
    put({"images/a": "aa", "images/sub/b": "bbb", "deep/data.csv": "1,2"})
    Path(project.root, "images/run").write_text("#!")
    Path(project.root, "images/run").chmod(0o755)
    os.symlink("a", f"{project.root}/images/link")
    add(project, ["images", "deep/data.csv"])
    git("commit", "-qm", "one")
    return project


def rows(project: Project, target: str = "", **options: object) -> list[tuple[str, str, int, int, str]]:
    found = list_(project, target, **options)  # type: ignore[arg-type]
    return [(item.path, item.kind, item.size, item.files, item.tracked_by) for item in found.items]


def test_what_is_tracked(tracked: Project) -> None:
    assert rows(tracked) == [
        ("deep/data.csv", "file", 3, 1, "deep/data.csv.dvcx"),
        ("images", "dir", 8, 4, "images.dvcx"),
    ]
    assert rows(tracked, "deep") == rows(tracked)[:1]
    assert rows(tracked, "deep/data.csv.dvcx") == rows(tracked)[:1]


def test_a_tracked_directory_is_opened(tracked: Project) -> None:
    assert [row[:3] for row in rows(tracked, "images")] == [
        ("images/a", "file", 2),
        ("images/link", "link", 1),
        ("images/run", "exec", 2),
        ("images/sub", "dir", 3),
    ]
    assert [row[0] for row in rows(tracked, "images/sub")] == ["images/sub/b"]
    assert [row[0] for row in rows(tracked, "images/sub/b")] == ["images/sub/b"]
    assert [row[0] for row in rows(tracked, recursive=True)][-1] == "images/sub/b"
    assert {row[4] for row in rows(tracked, "images", recursive=True)} == {"images.dvcx"}


def test_a_revision(tracked: Project, put: Put) -> None:
    put({"images/later": "x"})
    add(tracked, ["images"])
    assert rows(tracked)[1][3] == 5
    assert rows(tracked, rev="HEAD")[1][3] == 4
    with pytest.raises(NotFound):
        rows(tracked, rev="nothing")


def test_outputs_of_stages_that_have_run(tracked: Project, put: Put) -> None:
    put({"dvcx.yaml": "stages:\n  s:\n    cmd: x\n    outs: [out, other]\n"})
    content = records.load(tracked).contents()["deep/data.csv"]
    records.write_lock(tracked, {"s": records.LockEntry("x", {}, {}, {"out": content})})
    assert ("out", "file", 3, 1, "s") in rows(tracked)
    assert [row[0] for row in rows(tracked, "s")] == ["out"]


def test_what_is_not_there(tracked: Project) -> None:
    for target in ("nowhere", "images/nowhere", "images/a/b"):
        with pytest.raises(NotFound):
            rows(tracked, target)
    shutil.rmtree(tracked.cache_dir)
    assert len(rows(tracked)) == 2
    with pytest.raises(NotFound, match="listing of 'images'"):
        rows(tracked, "images")
