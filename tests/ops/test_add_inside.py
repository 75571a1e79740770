"""Adding paths inside a tracked directory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dvcx.errors import Conflict
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


@pytest.mark.parametrize("path", ["d/x.log", "d/private/deep/y"])
def test_what_dvcxignore_hides_is_not_added_inside(project: Project, put: Callable[..., None], path: str) -> None:
    put({"d/a": "a", ".dvcxignore": "*.log\nprivate/\n"})
    add(project, ["d"])
    put({path: "hidden"})
    with pytest.raises(Conflict, match="dvcxignore"):
        add(project, [path])
    assert status(project).clean
