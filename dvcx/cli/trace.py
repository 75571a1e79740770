"""The trace of an unexpected error: a file with what a developer needs and without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from dvcx import __version__

REPORT = "https://dvcx.readthedocs.io/en/latest/contributing/"

_SECRET_NAME = re.compile(
    r"secret|token|password|passwd|credential|access_key|account_key|api_?key|connection_string|sas", re.IGNORECASE
)
_USERINFO = re.compile(r"(\w://)[^/@\s'\"]+@")
_SIGNATURE = re.compile(r"((?:signature|sig|token|credential|password)=)[^&\s'\"]+", re.IGNORECASE)


def write_trace(error: BaseException, arguments: Sequence[str], known: Collection[str]) -> str:
    """Write the trace of `error`, `known` secrets redacted; the file's path, "" when it could not be written."""
    import platform
    import tempfile
    import time
    import traceback

    stamp = time.strftime("%Y%m%d-%H%M%S")
    running = f"dvcx {__version__} · Python {platform.python_version()} · {platform.platform()}"
    head = f"{running}\narguments: {list(arguments)!r}\n\n"
    try:
        text = redact(head + "".join(traceback.format_exception(error)), known)
        descriptor, path = tempfile.mkstemp(prefix=f"dvcx-{stamp}-", suffix=".log", dir=_directory())
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except (OSError, MemoryError, RecursionError):
        return ""
    return path


def secrets() -> list[str]:
    """Values that must not be shown, found by their names in the environment and in the settings."""
    found = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    root = _project()
    files = [os.path.join(root, ".dvcx", name) for name in ("config.local.toml", "config.toml")] if root else []
    import platformdirs

    for path in [*files, os.path.join(platformdirs.user_config_dir("dvcx", appauthor=False), "config.toml")]:
        found += _in_file(path)
    # A short value ("", "1", "true") would blot out half the trace and is no secret.
    return sorted({value for value in found if len(value) >= 6}, key=len, reverse=True)


def redact(text: str, known: Collection[str]) -> str:
    """`text` without the `known` secrets, without user:password in URLs, without signatures in queries."""
    for value in known:
        text = text.replace(value, "[redacted]")
    return _SIGNATURE.sub(r"\1[redacted]", _USERINFO.sub(r"\1[redacted]@", text))


def _in_file(path: str) -> list[str]:
    import tomllib
    from pathlib import Path

    try:
        with Path(path).open("rb") as file:
            return _values(tomllib.load(file))
    except (OSError, ValueError):
        return []


def _values(table: dict[str, object]) -> list[str]:
    found: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _values(value)
        elif isinstance(value, str) and _SECRET_NAME.search(name):
            found.append(value)
    return found


def _directory() -> str | None:
    """`.dvcx/state/logs` of the project around, made if needed; None (the system's temporary directory) without one."""
    root = _project()
    if not root:
        return None
    logs = os.path.join(os.path.realpath(root), ".dvcx", "state", "logs")
    try:
        os.makedirs(logs, mode=0o700, exist_ok=True)
        if os.path.realpath(logs) != logs:
            return None  # a link, perhaps committed by somebody else
    except OSError:
        return None
    return logs if os.access(logs, os.W_OK) else None


def _project() -> str:
    try:
        directory = os.getcwd()
    except OSError:
        return ""
    while not os.path.isdir(os.path.join(directory, ".dvcx")):
        parent = os.path.dirname(directory)
        if parent == directory:
            return ""
        directory = parent
    return directory
