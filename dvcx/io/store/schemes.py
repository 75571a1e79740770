"""The one table of addresses: which scheme is served by which backend, and what has to be installed for it."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from dvcx.errors import UsageError, display
from dvcx.io.store.backend import Backend, modify_command


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row: the kind of backend, the extra that brings its packages, and the modules that must be there."""

    kind: str
    extra: str = ""
    modules: tuple[str, ...] = ()
    user: bool = False  # whether `user@` may stand before the host


SCHEMES: Mapping[str, Scheme] = {
    "file": Scheme("directory"),
    "s3": Scheme("objects", "s3", ("obstore", "botocore")),
    "gs": Scheme("objects", "gs", ("obstore",)),
    "az": Scheme("objects", "az", ("obstore",)),
    "sftp": Scheme("files", "ssh", ("paramiko",), user=True),
    "ssh": Scheme("files", "ssh", ("paramiko",), user=True),
    "memory": Scheme("files"),
    "local": Scheme("files"),
}
# Schemes of fsspec that wrap another address, run code, or cannot be written or listed reliably.
REFUSED = frozenset(
    {
        *("http", "https", "ftp", "cached", "blockcache", "filecache", "simplecache", "reference", "dir", "generic"),
        *("python", "data", "zip", "tar", "libarchive", "git", "github", "gitlab", "jupyter", "jlab", "async_wrapper"),
        *("asynclocal", "s3a", "gcs", "abfs", "abfss", "adl"),
    }
)


def open_backend(url: str, options: Mapping[str, str], *, base: str) -> Backend:
    """The backend for an address: a directory (relative to `base`), or a url of a known scheme.

    `options` are the remote's settings; those a backend does not know are passed over. `UsageError` for an address that is
    malformed, of an unknown scheme, lacks a package, or holds credentials.
    """
    options = {key: str(value) for key, value in options.items()}
    if "://" not in url:
        return _directory(_path_of(url, options), options, base)
    parts, row = _read(url, options)
    scheme = parts.scheme
    for module in row.modules:
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"{scheme}:// remotes need the package {module}", f'pip install "dvcx[{row.extra}]"')
    if row.kind == "directory":
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{display(url)} names another host", "use file:///PATH, or sftp://HOST/PATH")
        return _directory(unquote(parts.path), options, base)
    if row.kind == "objects":
        from dvcx.io.store.objectstore import ObjectBackend

        return ObjectBackend(url, options)
    from dvcx.io.store.fsspec import FsspecBackend

    return FsspecBackend(url, options)


def check_address(url: str, name: str) -> None:
    """`UsageError` unless the url of remote `name` can be one: of a known scheme, well-formed, without credentials."""
    options = {"name": name}
    if "://" in url:
        _read(url, options)
    else:
        _path_of(url, options)


def _read(url: str, options: Mapping[str, str]) -> tuple[SplitResult, Scheme]:
    parts = _split(url)
    row = SCHEMES.get(parts.scheme) or _other(parts.scheme)
    _check_no_credentials(parts, row, options)
    return parts, row


def _directory(path: str, options: Mapping[str, str], base: str) -> Backend:
    from dvcx.io.store.local import LocalBackend

    root = os.path.normpath(os.path.join(base, os.path.expanduser(path)))
    return LocalBackend(root, fsync=options.get("fsync") or "batch", must_exist=True)


def _path_of(text: str, options: Mapping[str, str]) -> str:
    if not text or "\0" in text:
        raise UsageError("the address of a remote is empty or holds a NUL", f"{modify_command(options)} url URL")
    scheme = re.match(r"([a-z][a-z0-9+.-]+):", text)
    if scheme and scheme[1] in SCHEMES:
        raise UsageError(f"{display(scheme[1])}: must be followed by two slashes", f"write {scheme[1]}://…")
    return text


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        raise UsageError("the address of the remote is malformed", "write SCHEME://HOST/PATH") from None
    if re.match(r"[^/]*::", url) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", parts.scheme):
        raise UsageError("the scheme of the remote's address is malformed", f"write one of {_known()}")
    if any(char < " " or char == "\x7f" for char in url) or ".." in unquote(parts.path).split("/"):
        raise UsageError("the address of the remote holds '..' or a control character", "write the plain path")
    return parts


def _check_no_credentials(parts: SplitResult, row: Scheme, options: Mapping[str, str]) -> None:
    shown = f"{parts.scheme}://{display(parts.netloc.rpartition('@')[2])}{display(parts.path)}"
    if parts.password is not None or (parts.username is not None and not row.user):
        raise UsageError(
            f"the address of the remote {shown} holds credentials; it would end up in git",
            "remove them from the url; put access_key_id and secret_access_key into .dvcx/config.local.toml "
            f"({modify_command(options)} access_key_id KEY --local), or into the environment",
        )
    if parts.query or parts.fragment:
        raise UsageError(
            f"the address of the remote {shown} has a part after '?' or '#', where tokens hide",
            "remove it; credentials belong into .dvcx/config.local.toml or the environment",
        )


def _other(scheme: str) -> Scheme:
    """The row of a scheme that only fsspec knows, from itself or from an installed package."""
    import fsspec
    from fsspec.registry import known_implementations

    if scheme in REFUSED or scheme not in {*known_implementations, *fsspec.available_protocols()}:
        close = difflib.get_close_matches(scheme, SCHEMES, 1, 0.5)
        meant = f"did you mean {close[0]}://? " if close else ""
        raise UsageError(f"'{display(scheme)}://' is no scheme for a remote", f"{meant}use a directory or one of {_known()}")
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        text = str(known_implementations.get(scheme, {}).get("err") or f"install the fsspec package for {scheme}")
        raise UsageError(f"{scheme}:// remotes need a package that is not installed", text) from None
    return Scheme("files", user=True)


def _known() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)
