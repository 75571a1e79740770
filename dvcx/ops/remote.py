"""remote: name the stores that data is pushed to and pulled from."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dvcx.core import config
from dvcx.core.paths import contains, path_problem
from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended, ignore
from dvcx.io import configfile, git
from dvcx.io.configfile import COMMITTED_FILE, PRIVATE_FILE
from dvcx.ops import records
from dvcx.ops.config import changing, not_set_there, write

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote: its name and url, whether it is the default one, and the file (or variable) it comes from."""

    name: str
    url: str
    default: bool
    source: str


@dataclass(frozen=True, slots=True)
class Remotes:
    """All remotes, by name."""

    items: tuple[Remote, ...]


@dataclass(frozen=True, slots=True)
class RemoteSetting:
    """One setting of a remote as it is now; `value` is "" when it was removed, and stars for a secret."""

    name: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """One thing that was tried: `verdict` is ok, failed, note or skipped. `permission` is what the credentials lack."""

    check: str
    verdict: str
    words: str
    hint: str
    permission: str


@dataclass(frozen=True, slots=True)
class RemoteChecked:
    """What was tried on a remote, in order. `fit`: nothing failed. `readable`: at least fetch and pull work."""

    remote: str
    url: str
    fit: bool
    readable: bool
    items: tuple[CheckedItem, ...]


def add(
    project: Project,
    name: str,
    url: str,
    *,
    default: bool = False,
    force: bool = False,
    local: bool = False,
    base: str = "",
    actions: str = "",
) -> Remote:
    """Add a remote to the committed file, or with `local` to the private one.

    A relative directory is relative to `base` (absolute; the project's root when left out) and is stored relative to the
    root. A directory inside the project is git-ignored. Raises `Conflict` for a name that is taken unless `force`, which
    drops all settings of the old one; `UsageError` for a url with a password or of no known scheme. `actions` is what
    results of stages may do there.
    """
    config.check_remote_name(name)
    if name in project.config.remotes() and not force:
        raise Conflict(
            f"there is a remote '{name}' already: {display(project.config.remote(name)['url'])}",
            f"dvcx remote modify {name} url {display(url)}; or choose another name; or add --force",
        )
    place, inside = _place(project, url, base)
    place = config.parse_value(f"remote.{name}.url", place)
    _check_address(place, name)
    prefix = f"remote.{name}."
    if actions:
        actions = config.parse_value(prefix + "actions", actions)
    with changing(project):
        write(project, prefix + "url", place, local=local)
        for key in _stored(project, local=local):
            if key.startswith(prefix) and key != prefix + "url":
                write(project, key, None, local=local)
        if not local:
            # Credentials of the old place must not go to the new one, nor may its url hide the new one.
            write(project, f"remote.{name}", None, local=True)
        if actions:
            write(project, prefix + "actions", actions, local=local)
        if default:
            write(project, "core.remote", name, local=local)
    _ignore(project, inside)
    chosen = default or project.config.get("core.remote") == name
    return Remote(name, place, chosen, PRIVATE_FILE if local else COMMITTED_FILE)


def list_(project: Project) -> Remotes:
    """All remotes. One alone is the default without being named."""
    names = project.config.remotes()
    default = project.config.get("core.remote") or (names[0] if len(names) == 1 else "")
    return Remotes(tuple(_remote(project, name, default) for name in names))


def remove(project: Project, name: str) -> Remote:
    """Forget a remote in both files of the project, also as the default; what is stored there stays. Raises `NotFound`."""
    gone = _remote(project, name, str(project.config.get("core.remote") or ""))
    with changing(project):
        changed = [write(project, f"remote.{name}", None, local=local) for local in (False, True)]
        if not any(changed):
            raise NotFound(
                f"remote '{name}' is not in a file of this project", f"it comes from {display(gone.source)}: remove it there"
            )
        for local in (False, True):
            if _stored(project, local=local).get("core.remote") == name:
                write(project, "core.remote", None, local=local)
    _show_again(project, gone.url)
    return gone


def default(project: Project, name: str) -> Remote:
    """Make a remote the default one: in the private file when the remote, or the present default, stands there."""
    project.config.remote(name)
    sources = project.config.sources
    private = PRIVATE_FILE in (sources.get(f"remote.{name}.url"), sources.get("core.remote"))
    with changing(project):
        write(project, "core.remote", name, local=private)
    return _remote(project, name, name)


def modify(
    project: Project, name: str, key: str, value: str = "", *, unset: bool = False, local: bool = False, base: str = ""
) -> RemoteSetting:
    """Set, or with `unset` take out, one setting of a remote. Credentials are refused without `local` (`UsageError`)."""
    project.config.remote(name)
    full = f"remote.{name}.{key}"
    row = config.find(full)
    if unset:
        if key == "url" and _stored(project, local=not local).get(full) is None:
            raise UsageError("a remote without a url is no remote", f"dvcx remote remove {name}")
        with changing(project):
            if not write(project, full, None, local=local):
                raise not_set_there(project, full, PRIVATE_FILE if local else COMMITTED_FILE)
        return RemoteSetting(name, key, "")
    inside = ""
    if key == "url":
        value, inside = _place(project, value, base)
    parsed = config.parse_value(full, value)
    if key == "url":
        _check_address(value, name)
    with changing(project):
        write(project, full, parsed, local=local)
    _ignore(project, inside)
    return RemoteSetting(name, key, "****" if row.secret else config.shown(full, parsed))


def check(project: Project, name: str = "", *, quick: bool = False, emit: Emit = ignore) -> RemoteChecked:
    """Try out on a remote, under a private name, all that dvcx needs of one; nothing stays behind.

    `quick` leaves out what sends 40 MiB. Raises `RemoteFailed` when it cannot be reached at all, or denies the login.
    """
    from dvcx.io.files import private_directory
    from dvcx.io.store import contract
    from dvcx.io.store.scratch import scratch

    name = project.remote_name(name)
    private_directory(project.state_dir)
    items = []
    backend = project.remote_backend(name, emit)
    emit(Began("checking the remote", files=len(contract.CHECKS)))
    try:
        with scratch(f"{project.state_dir}/tmp") as directory:
            for found in contract.examine(backend, scratch=directory, quick=quick):
                emit(Advanced(1))
                items.append(CheckedItem(*found))
    finally:
        backend.close()
        emit(Ended("checking the remote"))
    failed = {item.check for item in items if item.verdict == contract.FAILED}
    return RemoteChecked(name, backend.url, not failed, not failed & {"list", "read"}, tuple(items))


def _check_address(url: str, name: str) -> None:
    from dvcx.io.store.schemes import check_address

    check_address(url, name)


def _place(project: Project, url: str, base: str) -> tuple[str, str]:
    """The url as it is stored, and the project path it lies at when it is a directory inside the project."""
    scheme, mark, _ = url.partition("://")
    if mark and scheme.lower() != "file":
        return url, ""
    typed = _path_of(url) if mark else os.path.expanduser(url)
    if not typed or "\0" in typed or (mark and not typed.startswith("/")):
        raise UsageError(f"not the place of a remote: '{display(url)}'", "give a directory, s3://BUCKET/PREFIX, or another URL")
    start = os.path.realpath(base) if base else project.root
    absolute = posixpath.normpath(posixpath.join(start, typed))
    inside = _inside(project, absolute)
    if mark or posixpath.isabs(typed):
        return (url if mark else absolute), inside
    return posixpath.relpath(absolute, project.root), inside


def _path_of(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""


def _inside(project: Project, absolute: str) -> str:
    real = os.path.realpath(absolute)
    cache = os.path.realpath(project.cache_dir)
    if contains(cache, real) or contains(real, cache):
        raise UsageError(f"{display(absolute)} is, or holds, this project's cache", "choose another directory for the remote")
    if contains(real, project.root):
        raise UsageError(f"{display(absolute)} holds this project", "choose a directory of its own for the remote")
    if not contains(project.root, real):
        return ""
    path = real[len(project.root) + 1 :]
    problem = path_problem(path)
    if problem:
        raise UnsafeInput(f"{display(path)}: no place for a remote: {problem}", "choose a directory of its own")
    tracked = records.load(project)
    owner = tracked.owner(path)
    if owner:
        raise Conflict(f"{display(path)} lies in '{display(owner)}', which is tracked", "choose another directory for the remote")
    return path


def _ignore(project: Project, inside: str) -> None:
    """A store inside the work tree must not end up in git."""
    if inside and project.git is not None and not git.ignored(project.git, [inside]):
        records.autostage(project, git.ignore_all(project.root, [inside]))


def _show_again(project: Project, url: str) -> None:
    """A store that was inside the work tree, and is no more, needs no line in .gitignore. One that is there stays ignored."""
    if project.git is None or ("://" in url and not url.startswith("file://")):
        return
    absolute = os.path.normpath(os.path.join(project.root, _path_of(url) if "://" in url else url))
    if contains(project.root, absolute) and absolute != project.root and not os.path.lexists(absolute):
        records.autostage(project, git.unignore_all(project.root, [absolute[len(project.root) + 1 :]]))


def _remote(project: Project, name: str, default: str) -> Remote:
    url = project.config.remote(name)["url"]
    return Remote(name, url, name == default, project.config.sources[f"remote.{name}.url"])



def _stored(project: Project, *, local: bool) -> dict[str, Any]:
    return configfile.stored(f"{project.root}/{PRIVATE_FILE if local else COMMITTED_FILE}", private=local)
