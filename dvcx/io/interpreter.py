"""Which program runs a command, and of a Python or an R what is installed in it: found by looking, without starting it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dvcx.io.hashing import seal

_BEFORE: Mapping[str, frozenset[str]] = {
    "env": frozenset({"-u", "--unset", "-C", "--chdir"}),
    "nice": frozenset({"-n", "--adjustment"}),
    **dict.fromkeys(("exec", "time", "nohup", "command"), frozenset[str]()),
}
"""Words that only lead to the program, with those of their options that take a word."""
_UV = ("--with", "--with-editable", "--with-requirements", "-p", "--python", "--project", "--directory", "--extra", "--group")
_CONDA = ("-n", "--name", "-p", "--prefix", "--cwd")
_LAUNCHERS: Mapping[str, frozenset[str]] = {
    "uv": frozenset((*_UV, "--only-group", "--package", "--env-file")),
    **dict.fromkeys(("poetry", "pipenv", "pdm", "rye", "hatch"), frozenset(("-p", "--project", "-C", "--directory", "-e"))),
    **dict.fromkeys(("conda", "mamba", "micromamba"), frozenset(_CONDA)),
    "pixi": frozenset(("-e", "--environment", "--manifest-path")),
}
"""Programs that run others in an environment, with those of their options that take a word."""
_DEEP = 4
"""So many programs lead to one another at most: a script, its interpreter, a link to that."""
_HEAD = 1 << 10


class Interpreter(NamedTuple):
    """The program of a command: its absolute `path`, its `version` and a digest over what is installed, "" where unknown."""

    path: str = ""
    version: str = ""
    packages: str = ""


class Fingerprints:
    """Answers for many commands; what is installed is read again only when its directory has changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._found: dict[tuple[object, str], str] = {}
        self._packages: dict[str, tuple[int, str]] = {}

    def of(self, command: str, directory: str) -> Interpreter:
        """The interpreter of a shell command that runs in `directory`; all empty when the shell does it alone."""
        words = _words(command)
        if not words:
            return Interpreter()
        launched = _launched(words)
        lead = tuple(words[: len(words) - len(launched) + 1]) if launched else words[0]
        key = (lead, directory if launched or "/" in words[0] or words[0].startswith("python") else "")
        path = self._found.get(key)
        if path is None:
            path = self._found[key] = self._program(words, launched, directory)
        name = os.path.basename(path)
        if name.startswith(("python", "pypy")):
            version, sites = _python(path)
        elif name in ("R", "Rscript"):
            version, sites = _r(path, self._environment)
        else:
            return Interpreter(path)
        digests = [self._digest(site) for site in sites]
        return Interpreter(path, version, seal("\n".join(digests).encode()).hex()[:32] if digests else "")

    def _program(self, words: Sequence[str], launched: Sequence[str], directory: str) -> str:
        """The program at the end of all that leads to it."""
        path = ""
        if launched:
            word = "python" if launched[0].endswith(".py") else launched[0]
            for place in self._places(words, directory):
                if "/" not in word and os.access(f"{place}/{word}", os.X_OK):
                    path = f"{place}/{word}"
                    break
        path = path or self._which(launched[0] if launched else words[0], directory)
        for _ in range(_DEEP):
            further = _of_script(path)
            if not further:
                break
            path = self._which(further, directory) or path
        return path

    def _places(self, words: Sequence[str], directory: str) -> Iterator[str]:
        """Where a program that runs others has them: directories, the first that has it counts."""
        launcher = os.path.basename(words[0])
        if _LAUNCHERS[launcher] == frozenset(_CONDA):
            prefix = _value(words, "-p", "--prefix")
            if prefix:
                yield f"{os.path.join(directory, prefix)}/bin"
            name = _value(words, "-n", "--name")
            for base in self._conda_roots(words[0]):
                yield f"{base}/envs/{name}/bin" if name and name != "base" else f"{base}/bin"
            return
        own = self._environment.get("UV_PROJECT_ENVIRONMENT") if launcher == "uv" else ""
        if own:
            yield f"{os.path.join(directory, own)}/bin"
        for base in _upwards(os.path.join(directory, _value(words, "--project", "--directory"))):
            inner = f".pixi/envs/{_value(words, '-e', '--environment') or 'default'}" if launcher == "pixi" else ".venv"
            yield f"{base}/{inner}/bin"
            if launcher == "poetry" and os.path.exists(f"{base}/pyproject.toml"):
                yield from _poetry(base, self._environment)
        if self._environment.get("VIRTUAL_ENV"):
            yield f"{self._environment['VIRTUAL_ENV']}/bin"

    def _conda_roots(self, word: str) -> Iterator[str]:
        for name in ("MAMBA_ROOT_PREFIX", "CONDA_ROOT"):
            if self._environment.get(name):
                yield self._environment[name]
        program = self._environment.get("CONDA_EXE") or self._which(word, "/")
        if program:
            yield os.path.dirname(os.path.dirname(os.path.realpath(program)))
        if self._environment.get("HOME"):
            yield f"{self._environment['HOME']}/.conda"

    def _which(self, word: str, directory: str) -> str:
        if "/" in word:
            path = os.path.join(directory, word)
            return os.path.normpath(path) if os.access(path, os.X_OK) else ""
        path = shutil.which(word, path=self._environment.get("PATH", os.defpath)) or ""
        return self._behind_shim(path, directory) if os.path.dirname(path).endswith("/shims") else path

    def _behind_shim(self, shim: str, directory: str) -> str:
        """The program that pyenv would run."""
        root = os.path.dirname(os.path.dirname(shim))
        files = (*(f"{base}/.python-version" for base in _upwards(directory)), f"{root}/version")
        version = self._environment.get("PYENV_VERSION") or next(filter(None, map(_first_line, files)), "")
        path = f"{root}/versions/{version.split(':')[0].strip()}/bin/{os.path.basename(shim)}"
        return path if os.access(path, os.X_OK) else shim

    def _digest(self, site: str) -> str:
        """A digest over names and versions of the packages in one directory."""
        try:
            changed = os.stat(site).st_mtime_ns
        except OSError:
            return ""
        known = self._packages.get(site)
        if known is None or known[0] != changed:
            names = sorted(_installed(site))
            known = self._packages[site] = (changed, seal("\n".join(names).encode("utf-8", "surrogateescape")).hex())
        return known[1]


def program(command: str) -> str:
    """The word of a shell command that names its program: `python` in `LR=1 exec python train.py`. "" when it is not plain."""
    return next(iter(_words(command)), "")


def _words(command: str) -> list[str]:
    """The words of a shell command from that which names its program on."""
    try:
        words = shlex.split(command.strip().partition("\n")[0], comments=True)
    except ValueError:
        return []
    valued: frozenset[str] = frozenset()
    leads = skip = False
    for number, word in enumerate(words):
        name, mark, _ = word.partition("=")
        if skip:
            skip = False
        elif leads and word.startswith("-") and len(word) > 1:
            skip = word in valued
        elif mark and name.isidentifier():
            continue
        elif os.path.basename(word) in _BEFORE:
            leads, valued = True, _BEFORE[os.path.basename(word)]
        else:
            return [] if not word or word[0] in "-(){}[!$`;&|<>" else words[number:]
    return []


def _launched(words: Sequence[str]) -> Sequence[str]:
    """What a program that runs others is to run: `python train.py` of `uv run --with x python train.py`; nothing of others."""
    valued = _LAUNCHERS.get(os.path.basename(words[0]))
    if valued is None:
        return ()
    runs = skip = False
    for number, word in enumerate(words[1:], 1):
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in valued
        elif not runs:
            if word != "run":
                return ()
            runs = True
        else:
            return words[number:]
    return ()


def _value(words: Sequence[str], *options: str) -> str:
    """What one of these options is given; "" without."""
    for word, after in zip(words, (*words[1:], ""), strict=True):
        if word in options:
            return after
        name, mark, value = word.partition("=")
        if mark and name in options:
            return value
    return ""


def _upwards(directory: str) -> Iterator[str]:
    here = os.path.normpath(directory)
    yield here
    while os.path.dirname(here) != here:
        here = os.path.dirname(here)
        yield here


def _poetry(base: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Where poetry keeps the environments of the project at `base`, unless that is in it."""
    import base64
    import hashlib

    caches = environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '')}/.cache"
    cache = environment.get("POETRY_CACHE_DIR") or f"{caches}/pypoetry"
    mark = base64.urlsafe_b64encode(hashlib.sha256(os.fsencode(os.path.realpath(base))).digest()).decode()[:8]
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(f"{cache}/virtualenvs")):
            if f"-{mark}-py" in name:
                yield f"{cache}/virtualenvs/{name}/bin"


def _of_script(path: str) -> str:
    """The program a script's first line names; "" for what is no script, and for one of the shell."""
    if not path or os.path.basename(path) in ("R", "Rscript"):
        return ""
    line = _first_line(path)
    words = _words(line[2:]) if line.startswith("#!") else []
    return words[0] if words and os.path.basename(words[0]) not in ("sh", "bash", "dash", "zsh") else ""


def _first_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD).partition(b"\n")[0].decode("utf-8", "replace")
    except OSError:
        return ""


def _installed(site: str) -> Iterator[str]:
    """A line for each package in a directory that a Python, conda or R installs into."""
    with contextlib.suppress(OSError):
        for name in os.listdir(site):
            if name.endswith((".dist-info", ".egg-info")) or (site.endswith("/conda-meta") and name.endswith(".json")):
                yield name
            elif "/R/" in f"{site}/" or site.endswith("library"):
                version = _r_version(f"{site}/{name}/DESCRIPTION")
                if version:
                    yield f"{name} {version}"


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
    return version, [site for site in (*sites, f"{prefix}/conda-meta") if os.path.isdir(site)]


def _of_environment(prefix: str) -> str:
    """The version a virtual environment says its Python has; "" for a directory that is none."""
    try:
        with open(f"{prefix}/pyvenv.cfg", encoding="utf-8") as file:
            lines = [line.partition("=") for line in file.read(1 << 16).splitlines()]
    except (OSError, UnicodeDecodeError):
        return ""
    found = {key.strip(): value.strip() for key, _, value in lines}
    return found.get("version") or ".".join(found.get("version_info", "").split(".")[:3])


def _r(path: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """(version, directories of installed packages) of the R at `path`, by where it lies."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    homes = (environment.get("R_HOME", ""), prefix, f"{prefix}/lib/R", f"{prefix}/lib64/R", "/usr/lib/R", "/usr/lib64/R")
    home = next((home for home in homes if home and os.path.isfile(f"{home}/library/base/DESCRIPTION")), "")
    if not home:
        return "", []
    version = _r_version(f"{home}/library/base/DESCRIPTION")
    listed = [environment.get(name, "") for name in ("R_LIBS", "R_LIBS_SITE", "R_LIBS_USER")]
    sites = [site for text in listed for site in text.split(os.pathsep) if site]
    user, short = f"{environment.get('HOME', '')}/R", ".".join(version.split(".")[:2])
    with contextlib.suppress(OSError):
        sites += [f"{user}/{name}/{short}" for name in sorted(os.listdir(user)) if name.endswith("-library")]
    sites += [f"{home}/library", f"{home}/site-library", "/usr/local/lib/R/site-library", "/usr/lib/R/site-library"]
    return version, [site for site in dict.fromkeys(sites) if os.path.isdir(site)]


def _r_version(path: str) -> str:
    """What the description of an R package says its version is."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"^Version:\s*(\S+)", file.read(1 << 16), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1) if found else ""
