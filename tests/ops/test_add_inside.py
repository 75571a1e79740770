"""Adding paths inside a tracked directory."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from dvcx.errors import Conflict, UnsafeInput
from dvcx.ops.add import add
from dvcx.ops.list import list_
from dvcx.ops.status import status
from dvcx.project import Project


def test_several_paths_at_once_and_new_directories(project: Project, put: Callable[..., None]) -> None:
    put({"d/a": "a", "d/sub/b": "b"})
    add(project, ["d"])
    put({"d/a": "changed", "d/sub/c": "c", "d/new/deep/x": "x", "d/left": "left"})
    result = add(project, ["d/a", "d/sub/c", "d/new/deep/x"])
    assert [(item.path, item.state) for item in result.items] == [("d", "updated")]
    found = [(item.path, item.size) for item in list_(project, recursive=True).items]
    assert found == [("d/a", 7), ("d/new/deep/x", 1), ("d/sub/b", 1), ("d/sub/c", 1)]
    assert status(project).data[0].text == "1 file added"
    add(project, ["d/left"])
    assert status(project).clean


def test_a_link_by_itself(project: Project, put: Callable[..., None]) -> None:
    put({"d/a": "a", "d/sub/b": "b"})
    add(project, ["d"])
    os.symlink("../a", f"{project.root}/d/sub/link")
    add(project, ["d/sub/link"])
    assert status(project).clean
    assert [item.kind for item in list_(project, "d/sub").items] == ["file", "link"]
    os.remove(f"{project.root}/d/sub/link")
    os.symlink("b", f"{project.root}/d/sub/link")
    assert [item.state for item in add(project, ["d/sub/link", "d/sub/b"]).items] == ["updated"]
    assert status(project).clean
    with pytest.raises(UnsafeInput, match="symbolic link"):
        os.symlink("d", f"{project.root}/outside")
        add(project, ["outside"])


@pytest.mark.parametrize("path", ["d/x.log", "d/private/deep/y"])
def test_what_dvcxignore_hides_is_not_added_inside(project: Project, put: Callable[..., None], path: str) -> None:
    put({"d/a": "a", ".dvcxignore": "*.log\nprivate/\n"})
    add(project, ["d"])
    put({path: "hidden"})
    with pytest.raises(Conflict, match="dvcxignore"):
        add(project, [path])
    assert status(project).clean
