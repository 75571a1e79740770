"""What a store or a web server says of something outside the project: which version it is, never its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dvcx.errors import RemoteFailed, UsageError, display
from dvcx.io.hashing import seal
from dvcx.io.store.backend import Listed
from dvcx.io.store.fsspec import FsspecBackend
from dvcx.io.store.schemes import open_backend

if TYPE_CHECKING:
    from http.client import HTTPMessage

MAX_LISTED = 1_000_000
# What DVC calls a scheme, and what dvcx does.
_ALSO = {"azure": "az"}


def version_at(url: str, options: Mapping[str, str], *, timeout: float) -> str:
    """What tells the version of what is at `url` from every other one, in words that are only compared; "" when nothing is there.

    One or two requests, none of which brings content. `options` are settings of a remote, for its credentials. Raises
    `RemoteFailed` when there is no answer or none that tells versions apart, `UsageError` for a scheme nobody can ask.
    """
    if url.startswith(("http://", "https://")):
        return _web(url, timeout)
    scheme, _, rest = url.partition("://")
    base, _, name = rest.rstrip("/").partition("/")
    if scheme in ("ssh", "sftp"):  # the directory may be all that the login reaches
        above, _, name = name.rpartition("/")
        base = f"{base}/{above}" if above else f"{base}/"
    if not name:
        raise UsageError(f"{display(url)} names no object", f"write {scheme}://…/PATH")
    backend: Any = open_backend(f"{_ALSO.get(scheme, scheme)}://{base}", {"timeout": f"{timeout:g}", **options}, base="/")
    try:
        if not hasattr(backend, "version"):
            raise UsageError(f"{display(url)}: nobody knows how to ask for its version", "download it in a stage of its own")
        found: str = backend.version(name)
        if found or (isinstance(backend, FsspecBackend) and backend.size(name) is not None):
            return found or _untold(url)
        return _listing(backend.list(name))
    finally:
        backend.close()


def _listing(found: Iterable[Listed]) -> str:
    rows: list[str] = []
    for item in found:
        if len(rows) >= MAX_LISTED:
            raise RemoteFailed(f"more than {MAX_LISTED:,} objects are there", "name a smaller part")
        rows.append(f"{item.name}\0{item.size}\0{item.modified}")
    return f"list {seal(chr(10).join(sorted(rows)).encode('utf-8', 'surrogateescape')).hex()} {len(rows)}" if rows else ""


def _web(url: str, timeout: float) -> str:
    import http.client
    import urllib.error
    import urllib.request

    shown = display(url.partition("?")[0])
    try:
        for method in ("HEAD", "GET"):
            headers = {"User-Agent": "dvcx", "Accept-Encoding": "identity"}
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(url, method=method, headers=headers), timeout=timeout
                ) as answer:
                    found = _told(answer.headers)
            except urllib.error.HTTPError as error:
                if error.code in (404, 410):
                    return ""
                if error.code in (401, 407) or (error.code == 403 and method == "GET"):
                    hint = "it must be readable without a login; or download it in a stage of its own"
                    raise RemoteFailed(f"{shown}: access denied ({error.code})", hint) from None
                if method == "GET" or error.code not in (400, 403, 405, 501):
                    passes = error.code == 429 or error.code >= 500
                    raise RemoteFailed(f"{shown}: the server answered {error.code}", "try it later", transient=passes) from None
                continue
            if found or method == "GET":
                return found or _untold(shown)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", "") or type(reason).__name__
        late = isinstance(reason, TimeoutError)
        what = "no answer in time" if late else f"it could not be asked ({display(str(words))})"
        raise RemoteFailed(f"{shown}: {what}", "check the address and the network", transient=True) from None
    return ""


def _told(headers: HTTPMessage) -> str:
    """A strong ETag; else when it was modified, and the length; else a weak ETag; "" without any."""
    tag, modified, length = headers.get("ETag", ""), headers.get("Last-Modified", ""), headers.get("Content-Length", "")
    if tag and not tag.startswith("W/"):
        return display(f"etag {tag}")
    if modified and length:
        return display(f"modified {modified} {length}")
    return display(f"etag {tag}") if tag else ""


def _untold(url: str) -> str:
    raise RemoteFailed(
        f"{display(urlsplit(url)._replace(query='').geturl())}: the server names no version: neither ETag nor Last-Modified",
        "download it in a stage of its own with `always_changed: true`, and depend on the file it writes",
    )
