"""Checking out paths inside a tracked directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import NotFound, UsageError
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.status import status
from dvcx.project import Project


def test_one_file_one_directory_and_no_link_by_itself(project: Project, put: Callable[..., None]) -> None:
    put({"d/a": "a", "d/sub/b": "b"})
    os.symlink("b", f"{project.root}/d/sub/link")
    add(project, ["d"])
    shutil.rmtree(f"{project.root}/d")
    assert checkout(project, ["d/a"]).placed == 1
    assert not Path(project.root, "d/sub").exists()
    with pytest.raises(UsageError, match="symbolic link"):
        checkout(project, ["d/sub/link"])
    with pytest.raises(NotFound):
        checkout(project, ["d/a/below"])
    assert checkout(project, ["d/sub"]).placed == 2
    assert os.readlink(f"{project.root}/d/sub/link") == "b"
    assert status(project).clean
