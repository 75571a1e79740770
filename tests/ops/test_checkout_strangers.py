"""checkout beside files that nobody looked at: those .dvcxignore names, those git keeps, those that change meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import Conflict, DiskRefused
from dvcx.events import Began
from dvcx.ops import cache as cache_ops
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.remove import remove
from dvcx.project import Project
from tests.ops.trying import again, commit_all, run_git, text, write


@pytest.fixture
def ignoring(project: Project) -> Project:
    """The directory `d` was recorded with a log in it; since then .dvcxignore names logs, and the log is another."""
    write(project, {"d/a": "a", "d/x.log": "recorded"})
    add(project, ["d"])
    write(project, {".dvcxignore": "*.log\n", "d/x.log": "precious"})
    return again(project)


def test_an_ignored_file_is_not_overwritten_silently(ignoring: Project, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"d/x\.log"):
        checkout(ignoring)
    assert text(ignoring, "d/x.log") == "precious"
    kept = checkout(ignoring, force=True).kept
    assert text(ignoring, "d/x.log") == "recorded"
    cache_ops.get(ignoring, kept[0].id, str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "precious"
    # What is right already is in nobody's way.
    assert checkout(ignoring).paths == ()


def test_an_ignored_link_is_not_overwritten_silently(ignoring: Project) -> None:
    Path(ignoring.root, "d/x.log").unlink()
    Path(ignoring.root, "d/x.log").symlink_to("elsewhere")
    with pytest.raises(Conflict, match=r"d/x\.log"):
        checkout(ignoring)
    assert os.readlink(Path(ignoring.root, "d/x.log")) == "elsewhere"


def test_ignored_files_in_a_directory_that_becomes_a_file(project: Project) -> None:
    write(project, {"d": "a file"})
    add(project, ["d"])
    Path(project.root, "d").unlink()
    write(project, {"d/a": "a", "other": "o"})
    add(project, ["other"])
    pointer = Path(project.root, "d.dvcx").read_bytes()
    add(project, ["d"])
    Path(project.root, "d.dvcx").write_bytes(pointer)
    write(project, {".dvcxignore": "*.log\n", "d/x.log": "precious"})
    with pytest.raises(Conflict, match="dvcxignore"):
        checkout(again(project))
    assert (text(project, "d/a"), text(project, "d/x.log")) == ("a", "precious"), "nothing was touched"


def test_a_path_another_commit_keeps_in_git_stays(project: Project) -> None:
    write(project, {"f": "the same"})
    commit_all(project)
    run_git(project, "rm", "-q", "--cached", "f")
    add(project, ["f"])
    commit_all(project)
    run_git(project, "checkout", "-q", "HEAD~1")
    assert checkout(again(project)).removed == 0
    assert text(project, "f") == "the same"


@pytest.mark.parametrize("late", ["f", "d/a", "d/new"])
def test_work_saved_while_files_are_staged_is_not_overwritten(project: Project, late: str) -> None:
    write(project, {"f": "old", "d/a": "old", "d/new": "old"})
    add(project, ["f", "d"])
    commit_all(project)
    write(project, {"f": "new", "d/a": "new"})
    Path(project.root, "d/new").unlink()
    add(project, ["f", "d"])
    run_git(project, "checkout", "-q", "HEAD", "--", "f.dvcx", "d.dvcx")

    def editing(event: Any) -> None:
        if isinstance(event, Began) and event.phase.startswith("placing"):
            write(project, {late: "typed just now"})

    with pytest.raises(DiskRefused, match="changed meanwhile"):
        checkout(again(project), emit=editing)
    assert text(project, late) == "typed just now"
    if late != "f":
        assert text(project, "f") == "new", "nothing was touched"


@pytest.mark.parametrize("verb", ["checkout", "remove"])
def test_a_copy_that_rotted_in_the_cache_is_no_copy(project: Project, verb: str) -> None:
    write(project, {"f": "first"})
    add(project, ["f"])
    commit_all(project)
    write(project, {"f": "second"})
    add(project, ["f"])
    for file in Path(project.cache_dir, "objects").rglob("*"):
        if file.is_file() and file.read_text() == "second":
            file.chmod(0o644)
            file.write_text("rotten")
    if verb == "checkout":
        run_git(project, "checkout", "-q", "HEAD", "--", "f.dvcx")
    with pytest.raises(Conflict):
        checkout(again(project)) if verb == "checkout" else remove(again(project), ["f"], keep_data=False)
    assert text(project, "f") == "second"
