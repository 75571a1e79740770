"""Which program runs a command, and of a Python what is installed in it: found by looking, without starting it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from dvcx.io.hashing import seal

_BEFORE = frozenset({"env", "exec", "time", "nice", "nohup", "command"})
"""Words that only lead to the program."""


class Interpreter(NamedTuple):
    """The program of a command: its absolute `path`, its `version` and a digest over what is installed, "" where unknown."""

    path: str = ""
    version: str = ""
    packages: str = ""


class Fingerprints:
    """Answers for many commands; what is installed is read again only when its directory has changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._found: dict[tuple[str, str], str] = {}
        self._packages: dict[str, tuple[int, str]] = {}

    def of(self, command: str, directory: str) -> Interpreter:
        """The interpreter of a shell command that runs in `directory`; all empty when the shell does it alone."""
        word = program(command)
        if not word:
            return Interpreter()
        key = (word, directory if "/" in word else "")
        path = self._found.get(key)
        if path is None:
            path = self._found[key] = self._which(word, directory)
        if not path or not os.path.basename(path).startswith("python"):
            return Interpreter(path)
        version, sites = _python(path)
        digests = [self._digest(site) for site in sites]
        return Interpreter(path, version, seal("\n".join(digests).encode()).hex()[:32] if digests else "")

    def _which(self, word: str, directory: str) -> str:
        if "/" in word:
            path = os.path.join(directory, word)
            return os.path.normpath(path) if os.access(path, os.X_OK) else ""
        return shutil.which(word, path=self._environment.get("PATH", os.defpath)) or ""

    def _digest(self, site: str) -> str:
        """A digest over names and versions of the packages in one directory."""
        try:
            changed = os.stat(site).st_mtime_ns
        except OSError:
            return ""
        known = self._packages.get(site)
        if known is None or known[0] != changed:
            names = sorted(name for name in os.listdir(site) if name.endswith((".dist-info", ".egg-info")))
            known = self._packages[site] = (changed, seal("\n".join(names).encode("utf-8", "surrogateescape")).hex())
        return known[1]


def program(command: str) -> str:
    """The word of a shell command that names its program: `python` in `LR=1 exec python train.py`. "" when it is not plain."""
    try:
        words = shlex.split(command.strip().partition("\n")[0], comments=True)
    except ValueError:
        return ""
    for word in words:
        name, mark, _ = word.partition("=")
        if (mark and name.isidentifier()) or word in _BEFORE:
            continue
        return "" if word[0] in "-(){}[!$`;&|<>" else word
    return ""


def _python(path: str) -> tuple[str, list[str]]:
    """(version, directories of installed packages) of the Python at `path`, by where it lies."""
    prefix = os.path.dirname(os.path.dirname(path))
    version = _of_environment(prefix)
    if not version:
        path = os.path.realpath(path)
        prefix = os.path.dirname(os.path.dirname(path))
    version = version or os.path.basename(path).removeprefix("python")
    short = ".".join(version.split(".")[:2])
    below = (f"{prefix}/lib/python{short}", f"{prefix}/local/lib/python{short}", f"{prefix}/lib/python3")
    sites = [f"{base}/{name}" for base in below for name in ("site-packages", "dist-packages")]
    return version, [site for site in sites if os.path.isdir(site)]


def _of_environment(prefix: str) -> str:
    """The version a virtual environment says its Python has; "" for a directory that is none."""
    try:
        with open(f"{prefix}/pyvenv.cfg", encoding="utf-8") as file:
            lines = [line.partition("=") for line in file.read(1 << 16).splitlines()]
    except (OSError, UnicodeDecodeError):
        return ""
    found = {key.strip(): value.strip() for key, _, value in lines}
    return found.get("version") or ".".join(found.get("version_info", "").split(".")[:3])
