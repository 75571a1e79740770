"""Which files commands ask for: an audit hook in every Python they start, and strace where it is there and may trace."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dvcx.errors import disk_refused

PYTHON, STRACE = "python", "strace"
MAX_SEEN = 256 << 20
"""So many bytes of one file of notes are read."""

# Runs in any Python that a command starts, before its own sitecustomize, which it finds and runs. Whatever fails here stays here.
_HOOK = '''\
import os, sys
def _watch(log, room):
    import threading
    known, inside = set(), set()
    def note(kind, path):
        if (kind, path) not in known and len(known) < 200000:
            known.add((kind, path))
            line = (kind + " " + ascii(path) + "\\n").encode()
            # Opened for each note: a program may close what it does not know, and get this number for a file of its own.
            file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
    def hook(event, found):
        if event not in ("open", "import", "os.listdir", "os.scandir"):
            return
        me = threading.get_ident()
        if me in inside:
            return
        inside.add(me)
        try:
            if event == "import":
                name = found[0].replace(".", "/")
                for base in found[2] or ():
                    base = os.path.abspath(base)
                    if base == room or base.startswith(room + "/"):
                        note("looked", base + "/" + name + ".py")
                        note("looked", base + "/" + name + "/__init__.py")
            elif isinstance(found[0], (str, bytes)):
                flags = found[2] if event == "open" and isinstance(found[2], int) else 0
                if flags & 3 != os.O_WRONLY and not flags & os.O_TRUNC:
                    note("opened", os.path.abspath(os.fsdecode(found[0])))
        except Exception:
            pass
        finally:
            inside.discard(me)
    sys.addaudithook(hook)
    note("python", sys.executable or "")
def _go_on(here):
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)
try:
    _watch(%s, %s)
except Exception:
    pass
_go_on(os.path.dirname(os.path.abspath(__file__)))
'''
_CALL = re.compile(r'(\w+)\((?:(?:AT_FDCWD|\d+)(?:<(?P<at>(?:[^>\\]|\\.)*)>)?, )?"(?P<path>(?:[^"\\]|\\.)*)"(?P<rest>.*)')
_WRITES = ("O_WRONLY", "O_TRUNC", "O_EXCL")
_FAILED = re.compile(r" = -1 E[A-Z]+ \([^()]*\)$")
_OPENING = frozenset({"open", "openat", "openat2", "execve", "execveat", "chdir"})
_LOOKING = frozenset({"access", "faccessat", "faccessat2", "stat", "lstat", "newfstatat", "statx", "readlink", "readlinkat"})
_TRACE = ("-ff", "-y", "-qq", "-e", "trace=%file", "-e", "signal=none")


class Seen(NamedTuple):
    """What commands asked for, by absolute path: `opened` to be read, run or listed; `sought`, that without success; `looked` at.

    `by` tells who saw it: python, which cannot tell success, strace. Where neither did, nothing is known.
    """

    by: tuple[str, ...]
    opened: frozenset[str]
    sought: frozenset[str]
    looked: frozenset[str]


class Witness:
    """Watches commands that run in the private directory `room`. Keeps its notes in `directory`, an empty one of its own."""

    def __init__(self, directory: str, room: str) -> None:
        self._directory, self._room = directory, room
        self._strace = _strace(directory)
        try:
            os.makedirs(f"{directory}/python")
            with open(f"{directory}/python/sitecustomize.py", "w", encoding="utf-8") as file:
                file.write(_HOOK % (ascii(f"{directory}/notes"), ascii(room)))
        except OSError as error:
            raise disk_refused(error, "preparing to watch the command", directory) from None

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command that is watched."""
        others = environment.get("PYTHONPATH")
        return {**environment, "PYTHONPATH": os.pathsep.join([f"{self._directory}/python", *([others] if others else [])])}

    def command(self, line: str) -> str:
        """The shell command that runs another one watched; it ends as that does."""
        if not self._strace:
            return line
        return f"exec {shlex.join([*self._strace, '-o', f'{self._directory}/calls', '/bin/sh', '-c', line])}"

    def seen(self) -> Seen:
        """What was asked for so far."""
        by: list[str] = []
        found: dict[str, set[str]] = {"opened": set(), "sought": set(), "looked": set(), PYTHON: set()}
        for kind, path in self._notes():
            found.get(kind, found["looked"]).add(path)
        if found[PYTHON]:
            by.append(PYTHON)
        if self._strace:
            by.append(STRACE)
            for name in os.listdir(self._directory):
                if name.startswith("calls."):
                    for kind, path in self._calls(f"{self._directory}/{name}"):
                        found[kind].add(path)
        return Seen(tuple(by), frozenset(found["opened"]), frozenset(found["sought"]), frozenset(found["looked"]))

    def _notes(self) -> Iterator[tuple[str, str]]:
        import ast

        for line in _lines(f"{self._directory}/notes"):
            kind, _, path = line.partition(" ")
            try:
                yield kind, posixpath.normpath(str(ast.literal_eval(path)))
            except (ValueError, SyntaxError):
                continue

    def _calls(self, file: str) -> Iterator[tuple[str, str]]:
        """(opened, sought or looked, absolute path) of one process."""
        here = self._room
        for line in _lines(file):
            found = _CALL.match(line)
            if found is None:
                continue
            call, path = found[1], _plain(found["path"])
            at = _plain(found["at"]) if found["at"] else here
            if line.startswith(f"{call}(AT_FDCWD<"):
                here = at
            whole = posixpath.normpath(posixpath.join(at, path))
            if call == "chdir" and found["rest"].endswith("= 0"):
                here = whole
            if call in _LOOKING or "O_PATH" in found["rest"]:
                yield "looked", whole
            elif call in _OPENING and not any(word in found["rest"] for word in _WRITES):
                yield "sought" if _FAILED.search(found["rest"]) else "opened", whole


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SEEN).decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _plain(text: str) -> str:
    """A path as strace writes it, with its escapes resolved."""
    if "\\" not in text:
        return text
    raw = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1", "replace")
    return raw.decode("utf-8", "surrogateescape")


def _strace(directory: str) -> tuple[str, ...]:
    """The beginning of a command line of strace, where it is there and may trace; () elsewhere."""
    program = shutil.which("strace")
    if program is None:
        return ()
    for more in (("--seccomp-bpf",), ()):
        words = (program, *_TRACE, *more)
        try:
            done = subprocess.run(
                [*words, "-o", f"{directory}/trial", "/bin/sh", "-c", "exit 7"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 7:
            return words
    return ()
