from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.changes import Change
from dvcx.errors import NotFound
from dvcx.ops.add import add
from dvcx.ops.diff import diff
from dvcx.project import Project
from tests.ops.conftest import Git

Put = Callable[..., None]


@pytest.fixture
def recorded(project: Project, put: Put, git: Git) -> Project:
    """Revision `one`: images/ with three files, data.csv; `two`: one renamed, one changed, one new, data.csv gone."""
    put({"images/a": "aa", "images/sub/b": "bbb", "images/c": "c", "data.csv": "1,2"})
    add(project, ["images", "data.csv"])
    git("commit", "-qm", "one")
    git("tag", "one")
    root = Path(project.root)
    (root / "images/sub/b").rename(root / "images/moved")
    put({"images/a": "aaaa", "images/new": "nnnnn"})
    add(project, ["images"])
    (root / "data.csv.dvcx").unlink()
    git("add", "-A")
    git("commit", "-qm", "two")
    git("tag", "two")
    return project


CHANGES = (
    Change("deleted", "data.csv", "", 3, -1),
    Change("modified", "images/a", "", 2, 4),
    Change("renamed", "images/moved", "images/sub/b", 3, 3),
    Change("added", "images/new", "", -1, 5),
)


def test_two_revisions(recorded: Project) -> None:
    result = diff(recorded, "one", "two")
    assert result.changes == CHANGES
    assert (result.added, result.deleted, result.modified, result.renamed, result.size_delta) == (1, 1, 1, 1, 4)
    back = diff(recorded, "two", "one")
    assert {change.state for change in back.changes} == {"added", "deleted", "modified", "renamed"}
    assert back.size_delta == -4
    assert diff(recorded, "two", "two").changes == ()


def test_a_revision_and_the_workspace(recorded: Project, put: Put) -> None:
    assert diff(recorded).changes == ()
    assert diff(recorded, "one").changes == CHANGES
    put({"images/later": "later"})
    Path(recorded.root, "images/c").unlink()
    assert diff(recorded).changes == (Change("deleted", "images/c", "", 1, -1), Change("added", "images/later", "", -1, 5))


def test_targets(recorded: Project) -> None:
    assert diff(recorded, "one", "two", targets=["images/sub"]).changes == (Change("deleted", "images/sub/b", "", 3, -1),)
    assert diff(recorded, "one", "two", targets=["images/c"]).changes == ()
    assert diff(recorded, "one", "two", targets=["data.csv.dvcx"]).changes == CHANGES[:1]
    assert diff(recorded, "one", targets=["images/a"]).changes == CHANGES[1:2]
    for target in ("nowhere", "images/nowhere"):
        with pytest.raises(NotFound):
            diff(recorded, "one", "two", targets=[target])


def test_a_directory_that_came_whole_is_listed_or_counted_as_one(recorded: Project, put: Put, git: Git) -> None:
    put({"more/x": "x", "more/deep/y": "yy"})
    add(recorded, ["more"])
    git("commit", "-qm", "three")
    assert [change.path for change in diff(recorded, "two", "HEAD").changes] == ["more/deep/y", "more/x"]
    shutil.rmtree(recorded.cache_dir)
    assert diff(recorded, "two", "HEAD").changes == (Change("added", "more", "", -1, 3),)
    with pytest.raises(NotFound, match="listing of 'images'") as caught:
        diff(recorded, "one", "HEAD")
    assert "dvcx fetch" in caught.value.hint
    # Nothing of an unchanged directory is read.
    assert diff(recorded, "two", "HEAD", targets=["images"]).changes == ()


def test_a_stages_output_counts_before_it_was_ever_recorded(recorded: Project, put: Put) -> None:
    put({"dvcx.yaml": "stages:\n  s:\n    cmd: x\n    outs: [out]\n", "out": "out"})
    assert diff(recorded).changes == (Change("added", "out", "", -1, 3),)
    assert diff(recorded, targets=["s"]).changes == (Change("added", "out", "", -1, 3),)


def test_unknown_revisions(project: Project) -> None:
    with pytest.raises(NotFound):
        diff(project)
    with pytest.raises(NotFound):
        diff(project, "v9")
