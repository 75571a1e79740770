"""doctor: what runs here, what the file system can do, whether the project and its remotes are well. Holds no secrets."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dvcx.errors import DvcxError, NoProject, display
from dvcx.events import ignore
from dvcx.io import git, place
from dvcx.io.filesystem import file_system
from dvcx.io.statindex import health

if TYPE_CHECKING:
    from dvcx.project import Project

PACKAGES = (
    *("typer", "rich", "xxhash", "blake3", "zstandard", "pyfastcdc", "PyYAML", "tomlkit", "pathspec", "platformdirs", "fsspec"),
    *("obstore", "boto3", "paramiko", "pandas", "pyarrow", "plotext", "vl-convert-python"),
)
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class RemoteHealth:
    """Whether a remote answers: `state` reachable, empty (nothing was pushed to it), failed; and why not."""

    name: str
    url: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Versions, "" or "no" for what is not installed; of a project also its places, links, remotes, memories and warnings.

    `problems` is what needs repair, in words.
    """

    dvcx: str
    location: str
    python: str
    platform: str
    git: str
    packages: Mapping[str, str]
    project: str
    repository: str
    hash: str
    cache: str
    file_system: str
    cache_file_system: str
    link: tuple[str, ...]
    link_support: Mapping[str, bool]
    remotes: tuple[RemoteHealth, ...]
    memories: Mapping[str, str]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


def doctor(start: str) -> Diagnosis:
    """Examine the installation and the project around the directory `start`, if there is one. Never fails."""
    from dvcx import __file__ as location
    from dvcx import __version__
    from dvcx.project import open_project

    problems: list[str] = []
    version = git.version()
    if not version:
        problems.append("there is no git program: install git")
    basic = Diagnosis(
        dvcx=__version__,
        location=os.path.dirname(location),
        python=platform.python_version(),
        platform=platform.platform(),
        git=version or "no",
        packages=_packages(),
        project="",
        repository="",
        hash="",
        cache="",
        file_system=file_system(start),
        cache_file_system="",
        link=(),
        link_support={},
        remotes=(),
        memories={},
        warnings=(),
        problems=tuple(problems),
    )
    try:
        return _with_project(basic, open_project(start))
    except NoProject:
        return basic
    except DvcxError as error:
        return replace(basic, problems=(*problems, _told(error)))


def _packages() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "no"
    return found


def _with_project(basic: Diagnosis, project: Project) -> Diagnosis:
    problems = list(basic.problems)
    support: dict[str, bool] = {}
    try:
        project.cache(ignore).close()
        project.rules()
        # The cache and the place where files are staged may not exist yet; their parents do.
        support = place.link_support(_existing(project.cache_dir), _existing(project.staging_dir))
    except DvcxError as error:
        problems.append(_told(error))
    except OSError as error:
        problems.append(f"{display(project.cache_dir)}: links could not be tried: {error.strerror}")
    first = project.links[0]
    if support and not support.get(first, True) and first != "reflink":
        problems.append(f"cache.link prefers {first}, which does not work between the cache and the project")
    remotes = _remotes(project)
    problems += [f"remote '{one.name}': {one.reason}" for one in remotes if one.state == "failed"]
    memories = _memories(project)
    problems += [f"{name}: {state}" for name, state in memories.items() if state not in ("ok", "none yet")]
    return replace(
        basic,
        project=project.root,
        repository=project.git.top if project.git is not None else "no",
        hash=project.algorithm,
        cache=project.cache_dir,
        file_system=file_system(project.root),
        cache_file_system=file_system(_existing(project.cache_dir)),
        link=project.links,
        link_support=support,
        remotes=remotes,
        memories=memories,
        warnings=project.warnings,
        problems=tuple(problems),
    )


def _memories(project: Project) -> dict[str, str]:
    found = {"statindex.sqlite": health(f"{project.state_dir}/statindex.sqlite")}
    try:
        names = sorted(os.listdir(project.state_dir))
    except OSError:
        names = []
    catalogs = [name for name in names if name.startswith("catalog-") and name.endswith(".sqlite")]
    found.update((name, health(f"{project.state_dir}/{name}")) for name in catalogs)
    return found


def _remotes(project: Project) -> tuple[RemoteHealth, ...]:
    """Ask every remote at once; one that does not answer in time has failed."""
    answers: dict[str, RemoteHealth] = {}
    threads = {}
    for name in project.config.remotes():
        threads[name] = threading.Thread(target=lambda name=name: answers.update({name: _ask(project, name)}), daemon=True)
        threads[name].start()
    found = []
    for name, thread in threads.items():
        thread.join(PATIENCE)
        url = project.config.remote(name)["url"]
        found.append(answers.get(name) or RemoteHealth(name, url, "failed", f"no answer within {PATIENCE:.0f} seconds"))
    return tuple(found)


def _ask(project: Project, name: str) -> RemoteHealth:
    url = project.config.remote(name)["url"]
    values = {**project.config.values, f"remote.{name}.timeout": min(5, int(project.config.get(f"remote.{name}.timeout")))}
    hasty = replace(project, config=project.config._replace(values=values))
    try:
        store = hasty.remote(name, ignore)
        try:
            if store.local is not None and not os.path.isdir(store.local.root):
                return RemoteHealth(name, url, "empty", "there is no such directory yet; the first push makes it")
            if not store.id:
                # Nothing was ever pushed; a listing tells an empty place from one that is not there.
                next(iter(store.backend.list("index")), None)
                return RemoteHealth(name, url, "empty", "nothing was pushed to it yet")
            return RemoteHealth(name, url, "reachable", "")
        finally:
            store.close()
    except DvcxError as error:
        return RemoteHealth(name, url, "failed", _told(error))


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _told(error: DvcxError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
