"""Projects to try operations on: real directories, real git."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvcx.ops.init import init
from dvcx.project import Project, open_project

Git = Callable[..., str]


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project at the root of a git repository, to be copied."""
    made = tmp_path_factory.mktemp("empty")
    subprocess.run(["git", "init", "--quiet", "--template=", "--initial-branch=main", str(made)], check=True)
    init(str(made))
    return made


@pytest.fixture
def project(empty: Path, tmp_path: Path) -> Project:
    """An empty project at the root of a git repository."""
    shutil.copytree(empty, tmp_path, symlinks=True, dirs_exist_ok=True)
    return open_project(str(tmp_path))


@pytest.fixture
def put(project: Project) -> Callable[..., None]:
    """`put({"a/b": "text"})` writes files of the project, making directories."""

    def write(tree: dict[str, str]) -> None:
        for path, text in tree.items():
            file = Path(project.root, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return write


@pytest.fixture
def events() -> list[Any]:
    """Hand `events.append` to an operation as `emit`."""
    return []


def linked(project: Project, *links: str) -> Project:
    """The project with other preferences for links."""
    return replace(project, config=project.config._replace(values={**project.config.values, "cache.link": links}))
