"""External inputs: what stages read outside the project. The rule of which addresses may be read, and how they are written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dvcx.core.paths import MAX_PATH
from dvcx.core.pipeline import checking
from dvcx.errors import UnsafeInput, UsageError, display

WEB = ("http", "https")
_LOGINS = ("ssh", "sftp")
"""Schemes whose addresses may name a user; never a password."""
_SECRET = re.compile(
    r"(?i)(?:^|[-_.])(?:sig(?:nature)?|token|key|keyid|secret|passw(?:or)?d|pwd|auth|credential)(?:$|[-_.])|apikey|accesskey"
).search
_VERSION = ("path", "rev", "rev_lock", "version")
"""What tells one version of a data set from another, beside its url; `rev_lock` and `version` are DVC's words in dvc.lock."""
_HINT = "the command knows how to log in (environment, ~/.netrc); a url in dvcx.yaml ends up in git"


def address_of(written: str, base: str, where: str) -> str:
    """The address of an external input that `written` means as seen from the project's directory `base`; "" when it lies inside.

    A url, an absolute path, or a path that begins with `..` as seen from the project's root. Raises `UsageError` for a url with
    credentials, `UnsafeInput` for what cannot be an address.
    """
    if is_url(written):
        return _url(written, where)
    if written[:1] != "/" and ".." not in written:
        return ""
    path = posixpath.normpath(posixpath.join(base, written))
    # POSIX leaves two slashes at the start as they are.
    path = path[1:] if path.startswith("//") else path
    if not path.startswith(("/", "../")) and path != "..":
        return ""
    if not path.isprintable() or len(path) > MAX_PATH:
        shown = display(path[:200])
        raise UnsafeInput(f"{where}: unsafe path '{shown}': it holds control characters, or is too long", "rename it")
    if path == "/" or not path.strip("./"):
        raise UnsafeInput(f"{where}: unsafe path '{display(written)}': it holds the project", "name the file that is read")
    return path


def is_url(address: str) -> bool:
    """Whether the address of an external input is a url, not a path."""
    return bool(checking.is_url(address))


def pin(entry: Mapping[str, Any], where: str) -> str:
    """What a data set of type `dvc` or `dc` is, in one line of words: all that its `entry` says of which version it means.

    Raises as `address_of` does.
    """
    url = entry["url"]
    if is_url(url) and entry["type"] == "dvc":
        _url(url, where)
    said = [f"{key}={entry[key]}" for key in _VERSION if entry.get(key) not in (None, "")]
    words = " ".join((entry["type"], url, *said))
    if not words.isprintable() or len(words) > MAX_PATH:
        raise UnsafeInput(f"{where} holds control characters, or is too long", "write the plain url, path and revision")
    return words


def _url(written: str, where: str) -> str:
    shown = display(written.partition("?")[0].rpartition("@")[2][:200])
    try:
        parts = urlsplit(written)
        _ = parts.port
    except ValueError:
        raise UsageError(f"{where}: the url {shown} is malformed", "write SCHEME://HOST/PATH") from None
    scheme = parts.scheme.lower()
    if not written.isprintable() or len(written) > MAX_PATH or ".." in unquote(parts.path).split("/"):
        raise UnsafeInput(f"{where}: the url {shown} holds '..' or control characters, or is too long", "write the plain url")
    if parts.password is not None or (parts.username is not None and scheme not in _LOGINS):
        raise UsageError(f"{where}: the url …{shown} holds credentials", f"remove them: {_HINT}")
    if parts.query and (scheme not in WEB or any(_SECRET(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))):
        raise UsageError(f"{where}: the url {shown}?… holds what may be credentials behind '?'", f"remove it: {_HINT}")
    if not parts.netloc and scheme != "file":
        raise UsageError(f"{where}: the url {shown} names no host", "write SCHEME://HOST/PATH")
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise UsageError(f"{where}: {shown} names no file here", "write the path itself: /data/x.csv")
        return posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    return written.partition("#")[0]
