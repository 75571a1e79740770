"""Parts of objects by signed addresses, for servers that send a part with status 200 (`rclone serve s3`).

obstore refuses such an answer, because a server that does not know parts sends the whole object with that status. Here it counts
when it says itself which part it is. A signed address is a secret: it leaves this file in no message.
"""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

HELD = 16
"""So many idle connections are kept."""
_PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Part(NamedTuple):
    """Bytes of an object, the size of the whole object, and its version ("" when the server tells none)."""

    data: bytes
    size: int
    version: str


class SignedParts:
    """Reads parts of objects at the addresses that `sign` gives for their names. Safe in several threads."""

    def __init__(self, sign: Callable[[str], str], timeout: float) -> None:
        self._sign, self._timeout = sign, timeout
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._usable = not urllib.request.getproxies()
        self.works = False
        """Whether a part came this way."""

    def read(self, name: str, start: int, length: int) -> Part | None:
        """The part, shorter at the end of the object; None when it does not come this way: read it in another."""
        if not self._usable:
            return None
        try:
            part = self._read(self._sign(name), start, length)
        except Exception:  # what is wrong is told by the other way, in words
            return None
        self.works = self.works or part is not None
        self._usable = part is not None
        return part

    def close(self) -> None:
        """Close what is idle."""
        self._usable = False
        while self._idle:
            self._idle.pop().close()

    def _read(self, address: str, start: int, length: int) -> Part | None:
        parts = urlsplit(address)
        connection = self._idle.pop() if self._idle else self._connect(parts.scheme, parts.netloc)
        good, answer = False, None
        try:
            connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": f"bytes={start}-{start + length - 1}"})
            answer = connection.getresponse()
            said = _PART.fullmatch(answer.headers.get("Content-Range", ""))
            if said is None or answer.status not in (200, 206):
                if answer.status == 200:
                    return None
                raise OSError(answer.status)
            expected = int(said[2]) - start + 1
            data = answer.read() if int(said[1]) == start and expected <= length else b""
            if len(data) != expected:
                raise OSError("another part than it says")
            good = True
            return Part(data, int(said[3]), answer.headers.get("ETag", ""))
        finally:
            if good and self._usable and len(self._idle) < HELD:
                self._idle.append(connection)
            else:
                connection.close()
                if answer is not None:
                    answer.close()

    def _connect(self, scheme: str, host: str) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, timeout=self._timeout)
