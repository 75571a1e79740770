"""The one path rule: which paths from a file or a user may name something in the project. No file system here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from dvcx.errors import UnsafeInput, display

MAX_COMPONENT = 255
MAX_PATH = 4096
MAX_DEPTH = 255

# Code points HFS+ ignores in names: `.g\u200cit` opens `.git` there (git's CVE-2014-9390).
_IGNORABLE = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_RESERVED = frozenset({".git", ".dvcx"})
# Compiled by re when it is needed, which is seldom; every command imports this file.
_SHORT_NAME = "(git|dvcx)~[0-9]+"
_PLAIN = re.compile(r"(?!tmp-dvcx-)[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}").fullmatch


def check_name(name: str, where: str) -> str:
    """`name` if it may be one component of a tracked path, else `UnsafeInput` naming `where` it came from."""
    if _PLAIN(name) and not name.endswith("."):
        return name
    problem = _problem(name)
    if problem:
        raise UnsafeInput(f"{where}: unsafe name '{display(name)}': {problem}", "rename it, or repair the record it came from")
    return name


def check_path(path: object, where: str) -> str:
    """`path` if it is a safe relative POSIX path, else `UnsafeInput`. It is returned unchanged: no normalising."""
    if not isinstance(path, str):
        raise UnsafeInput(f"{where}: a path must be text, not {type(path).__name__}", "repair the record (git checkout -- FILE)")
    problem = path_problem(path)
    if problem:
        raise UnsafeInput(
            f"{where}: unsafe path '{display(path[:200])}': {problem}",
            "a path must be relative and stay inside the project; repair the record it came from",
        )
    return path


def path_problem(path: str) -> str:
    """Why `path` is refused, in words; an empty text when it is safe."""
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if _has_drive(path):
        return "it names a drive"
    if len(path) > MAX_PATH or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH:
        return f"it is longer than {MAX_PATH} bytes"
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        return f"it has more than {MAX_DEPTH} components"
    for part in parts:
        if not (_PLAIN(part) and not part.endswith(".")):
            problem = _problem(part)
            if problem:
                return problem
    return ""


def _has_drive(path: str) -> bool:
    return path[1:2] == ":" and path[0].isascii() and path[0].isalpha()


def _problem(name: str) -> str:
    if not name:
        return "it has an empty component"
    if name in (".", ".."):
        return f"it has a '{name}' component"
    if "\0" in name:
        return "it holds a NUL"
    if "/" in name:
        return "a name cannot hold a slash"
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if len(encoded) > MAX_COMPONENT:
        return f"a component is longer than {MAX_COMPONENT} bytes"
    if name.startswith("tmp-dvcx-"):
        return "names starting with 'tmp-dvcx-' are dvcx's own temporary files"
    folded = unicodedata.normalize("NFKC", name.translate(_IGNORABLE)).casefold().rstrip(". ")
    if folded in _RESERVED or folded.split(":", 1)[0].rstrip(". ") in _RESERVED or re.fullmatch(_SHORT_NAME, folded):
        return f"a file system may take '{display(name)}' for .git or .dvcx"
    if name.endswith("\r"):
        return "it ends with a carriage return"
    return ""


def join(base: str, path: str) -> str:
    """`path`, relative to the directory `base` ("" is the project's root), made relative to the root."""
    return f"{base}/{path}" if base else path


def resolve(base: str, path: str, where: str) -> str:
    """Like `join`, but `path` may hold `.` and `..` as long as the result lies inside the project; "" is the root itself.

    For paths in dvcx.yaml, which people write relative to a stage's wdir.
    """
    if not isinstance(path, str) or not path or "\0" in path or path.startswith("/") or _has_drive(path):
        check_path(path, where)
    parts = base.split("/") if base else []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise UnsafeInput(
                    f"{where}: unsafe path '{display(path)}': it leaves the project",
                    "keep inputs and outputs inside the project",
                )
            parts.pop()
        else:
            parts.append(part)
    return check_path("/".join(parts), where) if parts else ""


def relative(path: str, base: str) -> str:
    """`path` (relative to the root) as seen from the directory `base`, with `..` where needed."""
    here = base.split("/") if base else []
    there = path.split("/") if path else []
    common = 0
    while common < min(len(here), len(there)) and here[common] == there[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + there[common:]) or "."


def parent(path: str) -> str:
    """The directory `path` is in, "" for the root."""
    return path.rpartition("/")[0]


def contains(outer: str, inner: str) -> bool:
    """Whether `inner` is `outer` or below it; "" contains everything."""
    return not outer or inner == outer or inner.startswith(outer + "/")


def fold(name: str) -> str:
    """The key under which a case-folding, normalising file system would know `name`."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def twins(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two different ones of `paths` that a case-folding, normalising file system would take for one; None without any."""
    known: dict[str, str] = {}
    for path in paths:
        other = known.setdefault(fold(path), path)
        if other != path:
            return other, path
    return None


def several(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths or targets handed to the Python API: one text is one path, not its letters; those of pathlib become texts."""
    # Not os.fspath: this room has no os.
    many = [paths] if isinstance(paths, str) or hasattr(paths, "__fspath__") else paths
    return tuple(path if isinstance(path, str) else path.__fspath__() for path in many)
