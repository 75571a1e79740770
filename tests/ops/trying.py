"""What tests of several operations share: other settings, clones, and the whole of a workspace as plain values."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvcx.ops import remote
from dvcx.project import Project, open_project

Files = dict[str, str]


def again(project: Project) -> Project:
    """The project opened anew, as the next command would."""
    return open_project(project.root)


def setting(project: Project, **values: Any) -> Project:
    """The project with other settings: `cache_link=("copy",)` for `cache.link`."""
    changed = {key.replace("_", ".", 1): value for key, value in values.items()}
    return replace(project, config=project.config._replace(values={**project.config.values, **changed}))


def write(project: Project, files: dict[str, str | bytes]) -> None:
    """Write files of the project, making directories."""
    for path, data in files.items():
        file = Path(project.root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)


def text(project: Project, path: str) -> str:
    return Path(project.root, path).read_text()


def seen(project: Project, path: str) -> dict[str, str]:
    """Everything at and below a path: text of files ("x:" before that of executables), "-> target", "/" for directories."""
    found: dict[str, str] = {}

    def walk(here: Path, name: str) -> None:
        if here.is_symlink() and not os.readlink(here).startswith(project.cache_dir):
            found[name] = f"-> {os.readlink(here)}"
        elif here.is_dir():
            found[name] = "/"
            for child in sorted(here.iterdir()):
                walk(child, f"{name}/{child.name}")
        elif here.exists():
            found[name] = ("x:" if here.stat().st_mode & 0o100 else "") + here.read_bytes().decode("latin-1")

    walk(Path(project.root, path), path)
    return found


def wipe_cache(project: Project) -> None:
    """The cache is gone, as in a fresh clone."""
    subprocess.run(["rm", "-rf", project.cache_dir], check=True)


def objects(project: Project) -> int:
    """How many objects the cache holds: loose ones and those in packs."""
    store = project.cache(lambda event: None)
    try:
        return store.count() + sum(1 for _ in store.loose_objects())
    finally:
        store.close()


def with_remote(project: Project, directory: Path, name: str = "origin") -> Project:
    """The project with a directory as its default remote."""
    directory.mkdir(parents=True, exist_ok=True)
    remote.add(project, name, str(directory), default=True)
    return again(project)


def run_git(project: Project, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout


def commit_all(project: Project, message: str = "work") -> str:
    """`git add -A`, commit; the commit's name."""
    run_git(project, "add", "-A")
    run_git(project, "commit", "-qm", message, "--allow-empty")
    return run_git(project, "rev-parse", "HEAD").strip()


def clone(project: Project, destination: Path) -> Project:
    """Another person's clone of what is committed."""
    done = subprocess.run(["git", "clone", "-q", project.root, str(destination)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return open_project(str(destination))


def pointer(project: Project, path: str) -> dict[str, Any]:
    import json

    record = json.loads(Path(project.root, path).read_bytes())
    assert isinstance(record, dict)
    return record


def lock(project: Project, path: str = "dvcx.lock") -> dict[str, Any]:
    """The stages of a lock."""
    stages = pointer(project, path)["stages"]
    assert isinstance(stages, dict)
    return stages
