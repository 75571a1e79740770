"""What inputs outside the project are now: files by their content, urls by what their server says. Read only; nothing is kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.pipeline.externals import is_url
from dvcx.core.records import content_line
from dvcx.errors import DvcxError, NotFound, RemoteFailed, display
from dvcx.io.statindex import Remembers, Row
from dvcx.io.workspace import Looking, Rules, look

if TYPE_CHECKING:
    from dvcx.project import Project

LANES = 16
_PASSED_OVER = Rules(lambda path, is_directory: path.rpartition("/")[2] in (".git", ".dvcx"), "external")


class Answers(NamedTuple):
    """What external inputs are, by address ("" for one that is absent), and why those that could not be asked were not."""

    found: Mapping[str, str]
    unasked: Mapping[str, DvcxError]


def ask(project: Project, addresses: Iterable[str], *, index: Remembers, patience: float) -> Answers:
    """Look at external inputs: files here, then all urls at once, which have `patience` seconds together to answer."""
    found: dict[str, str] = {}
    unasked: dict[str, DvcxError] = {}
    jobs: dict[str, Callable[[], str]] = {}
    for address in dict.fromkeys(addresses):
        try:
            url, options = _resolved(project, address)
        except DvcxError as error:
            unasked[address] = error
            continue
        if is_url(url):
            jobs[address] = lambda url=url, options=options: _version(url, options, patience)  # type: ignore[misc]
            continue
        try:
            found[address] = _content(project, url, index)
        except DvcxError as error:
            unasked[address] = type(error)(f"{display(address)}: {error.message}", error.hint)
    for address, answer in _all_of(jobs, patience).items():
        if isinstance(answer, DvcxError):
            unasked[address] = answer
        else:
            found[address] = answer
    return Answers(found, unasked)


def _resolved(project: Project, address: str) -> tuple[str, dict[str, str]]:
    """An absolute path, or the url that is asked and settings to ask with: of `remote://NAME/path` those of the remote."""
    if not address.startswith("remote://"):
        return (address if is_url(address) else os.path.join(project.root, address)), {}
    name, _, path = address.removeprefix("remote://").partition("/")
    options = {key: str(value) for key, value in project.config.remote(project.remote_name(name)).items()}
    url = options.pop("url")
    if not is_url(url):
        return os.path.join(project.root, os.path.expanduser(url), path), {}
    if url.startswith("file://"):
        return os.path.join(url.removeprefix("file://").removeprefix("localhost"), path), {}
    return f"{url.rstrip('/')}/{path}", {**options, "name": name}


def _content(project: Project, path: str, index: Remembers) -> str:
    """A file's or directory's content. A link at the top counts as what it points to; `.git` and `.dvcx` are passed over."""
    real = os.path.realpath(path)
    base, name = os.path.split(real)
    sink = Looking(project.algorithm)
    try:
        content = look(base, name, index=_Beside(index, base), sink=sink, rules=_PASSED_OVER) if os.path.isdir(base) else None
    except NotFound:
        return ""
    return "" if content is None else content_line(content._replace(executable=False))


class _Beside:
    """The stat index for a directory outside the project, under names no path of the project has."""

    def __init__(self, index: Remembers, base: str) -> None:
        self._index, self._prefix = index, f".dvcx/external{base}"

    def get(self, path: str) -> Row | None:
        """What is remembered of a directory."""
        return self._index.get(f"{self._prefix}/{path}")

    def put(self, path: str, row: Row) -> None:
        """Remember a directory."""
        self._index.put(f"{self._prefix}/{path}", row)


def _version(url: str, options: Mapping[str, str], patience: float) -> str:
    from dvcx.io.store.outside import version_at

    end = time.monotonic() + patience
    pause = 0.5
    while True:
        try:
            return version_at(url, options, timeout=max(1.0, min(end - time.monotonic(), 60.0)))
        except RemoteFailed as error:
            if not error.transient or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause *= 2


def _all_of(jobs: Mapping[str, Callable[[], str]], patience: float) -> dict[str, str | DvcxError]:
    """The answers of all jobs, run side by side; what has none after `patience` seconds is left to itself."""
    answers: dict[str, str | DvcxError] = {}
    todo = list(jobs.items())[::-1]

    def work() -> None:
        while todo:
            try:
                address, job = todo.pop()
            except IndexError:
                return
            try:
                answers[address] = job()
            except DvcxError as error:
                answers[address] = error
            except Exception as error:  # a library's own failure, in a thread that nobody else listens to
                answers[address] = RemoteFailed(f"{display(address)}: it could not be asked ({type(error).__name__})")

    threads = [threading.Thread(target=work, name="dvcx-external", daemon=True) for _ in range(min(LANES, len(jobs)))]
    end = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    known = dict(answers)
    for address in jobs:
        if address not in known:
            hint = "check the network; what it was when the stage ran stays recorded"
            known[address] = RemoteFailed(f"{display(address)}: no answer within {patience:g} seconds", hint)
    return known
