"""config: read and change settings, one key at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dvcx.core import config
from dvcx.errors import NotFound, UsageError, display
from dvcx.io import configfile, lock
from dvcx.io.configfile import COMMITTED_FILE, PRIVATE_FILE
from dvcx.ops import records

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a text, number, flag or list, and the file or variable it comes from. Secrets are stars."""

    key: str
    value: str | int | bool | tuple[str, ...] | None
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that was made, and the defaults of the rest."""

    items: tuple[Setting, ...]


def get(project: Project, key: str) -> Setting:
    """One setting, or its default. Raises `UsageError` for an unknown key, `NotFound` for one without a value."""
    row = config.find(key)
    if key.startswith("remote."):
        project.config.remote(key.split(".")[1])
    value = project.config.get(key)
    if value is None:
        local = "" if row.committed else "--local "
        raise NotFound(f"'{display(key)}' is not set", f"dvcx config set {local}{display(key)} VALUE")
    return _setting(key, value, project.config.sources.get(key, "default"))


def set_(project: Project, key: str, value: str, *, local: bool = False) -> Setting:
    """Set a key from the text a user typed, in the committed or the private (`local`) file.

    Raises `UsageError` for an unknown key, an unusable value, and a key that may not stand in a committed file.
    """
    row = config.find(key)
    if row.project_only:
        raise UsageError(f"'{key}' is fixed by dvcx init", "make another project with: dvcx init --hash blake3")
    parsed = config.parse_value(key, value)
    if key == "core.remote":
        project.config.remote(parsed)
    if row.type == "url" and key.endswith(".url"):
        name = key.split(".")[1]
        raise UsageError(f"'{key}' is not set this way", f"dvcx remote add {name} URL, or dvcx remote modify {name} url URL")
    with changing(project):
        write(project, key, parsed, local=local)
    return _setting(key, parsed, PRIVATE_FILE if local else COMMITTED_FILE)


def unset(project: Project, key: str, *, local: bool = False) -> Setting:
    """Take a key out of the committed or the private file; what holds now. Raises `NotFound` when it does not stand there."""
    row = config.find(key)
    file = PRIVATE_FILE if local else COMMITTED_FILE
    if key.endswith(".url"):
        raise UsageError("a remote without a url is no remote", f"dvcx remote remove {key.split('.')[1]}")
    with changing(project):
        if not write(project, key, None, local=local):
            raise not_set_there(project, key, file)
    return _setting(key, row.default, "default")


def show(project: Project) -> Settings:
    """All settings: those that were made with where they come from, and defaults."""
    keys = {key for key in config.KEYS if not key.startswith("remote.")} | set(project.config.values)
    values = ((key, project.config.get(key)) for key in sorted(keys))
    return Settings(
        tuple(_setting(key, value, project.config.sources.get(key, "default")) for key, value in values if value is not None)
    )


@contextmanager
def changing(project: Project) -> Iterator[None]:
    """Hold the configuration while it is changed; a short lock of its own, so that it waits for no other work."""
    with lock.hold(f"{project.state_dir}/config.lock", command="dvcx config", timeout=10):
        yield


def write(project: Project, key: str, value: Any, *, local: bool) -> bool:
    """Put a checked value into one of the project's two files (None takes it out) and stage it; whether the file changed."""
    name = PRIVATE_FILE if local else COMMITTED_FILE
    changed = configfile.edit(f"{project.root}/{name}", key, value, private=local)
    if changed and not local:
        records.autostage(project, [name])
    return changed


def not_set_there(project: Project, key: str, file: str) -> NotFound:
    """The error for taking out of `file` what is not in it."""
    source = project.config.sources.get(key, "")
    hint = "dvcx config list shows what is set"
    if source == PRIVATE_FILE:
        hint = f"it is set in {source}: add --local"
    elif source == COMMITTED_FILE:
        hint = f"it is set in {source}: leave out --local"
    elif source:
        hint = f"it is set in {display(source)}: change it there"
    return NotFound(f"'{display(key)}' is not set in {file}", hint)


def _setting(key: str, value: Any, source: str) -> Setting:
    return Setting(key, "****" if config.find(key).secret and value is not None else value, source)
