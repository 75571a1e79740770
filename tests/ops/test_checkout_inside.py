"""Checking out paths inside a tracked directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import Conflict, NotFound
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.status import status
from dvcx.project import Project


def test_one_file_one_directory_one_link(project: Project, put: Callable[..., None]) -> None:
    put({"d/a": "a", "d/sub/b": "b"})
    os.symlink("b", f"{project.root}/d/sub/link")
    add(project, ["d"])
    shutil.rmtree(f"{project.root}/d")
    assert checkout(project, ["d/a"]).placed == 1
    assert not Path(project.root, "d/sub").exists()
    assert checkout(project, ["d/sub/link"]).placed == 1
    assert os.readlink(f"{project.root}/d/sub/link") == "b" and not Path(project.root, "d/sub/b").exists()
    assert checkout(project, ["d/sub/link"]).unchanged == 1
    os.remove(f"{project.root}/d/sub/link")
    os.symlink("elsewhere", f"{project.root}/d/sub/link")
    with pytest.raises(Conflict, match="never recorded"):
        checkout(project, ["d/sub/link"])
    assert os.readlink(f"{project.root}/d/sub/link") == "elsewhere"
    (kept,) = checkout(project, ["d/sub/link"], force=True).kept
    assert kept.path == "d/sub/link" and os.readlink(f"{project.root}/d/sub/link") == "b"
    with pytest.raises(NotFound):
        checkout(project, ["d/a/below"])
    assert checkout(project, ["d/sub"]).placed == 1
    assert os.readlink(f"{project.root}/d/sub/link") == "b"
    assert status(project).clean


def test_a_link_and_a_file_take_turns(project: Project, put: Callable[..., None]) -> None:
    put({"d/a": "a", "d/b": "b"})
    add(project, ["d"])
    os.remove(f"{project.root}/d/b")
    os.symlink("nowhere", f"{project.root}/d/b")
    with pytest.raises(Conflict):
        checkout(project, ["d/b"])
    checkout(project, ["d/b"], force=True)
    assert Path(project.root, "d/b").read_text() == "b" and not Path(project.root, "d/b").is_symlink()
    assert status(project).clean
