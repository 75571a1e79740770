"""Amounts that processes on one machine share out among each other: who comes takes a ticket, and goes when its turn has come.

A ticket is a file that its owner holds locked and that tells what it wants. The kernel frees it when the owner dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from dvcx.errors import disk_refused
from dvcx.io import lock

_GUARD = "guard"
_AT_MOST = 1 << 16
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW
_PATIENCE = 60.0
"""Seconds: the guard is held for moments only."""


class Share(NamedTuple):
    """What a ticket wants: amounts by name, and of each how much there is as far as its owner knows."""

    wants: Mapping[str, float]
    there: Mapping[str, float]


class Ticket:
    """A place in the queue of a directory; make it with `take`."""

    def __init__(self, directory: str, number: int, share: Share) -> None:
        self._directory, self._number, self._share = directory, number, share

    def may_go(self) -> bool:
        """Whether what it wants is there besides what all earlier tickets want.

        One that wants more than there is goes when no earlier one wants any of it.
        """
        before: dict[str, float] = {}
        for number in _numbers(self._directory):
            if number < self._number:
                for name, amount in _wants(f"{self._directory}/{number}").items():
                    before[name] = before.get(name, 0.0) + amount
        return all(
            not before.get(name) or before[name] + amount <= self._share.there.get(name, 1.0) + 1e-9
            for name, amount in self._share.wants.items()
        )


@contextmanager
def take(directory: str, share: Share, command: str) -> Iterator[Ticket]:
    """Stand in the queue of `directory` while the block runs. Raises `Busy` where there are no locks, `DiskRefused`."""
    handle = -1
    try:
        # Whoever sees a later ticket sees this one complete.
        with lock.hold(f"{directory}/{_GUARD}", command=command, timeout=_PATIENCE):
            number = max(_numbers(directory), default=0) + 1
            path = f"{directory}/{number}"
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(handle, json.dumps(dict(share.wants)).encode())
            except OSError as error:
                raise disk_refused(error, "asking for what the stage needs", path) from None
        yield Ticket(directory, number, share)
    finally:
        if handle >= 0:
            with contextlib.suppress(OSError):
                os.unlink(path)
            os.close(handle)


def _numbers(directory: str) -> list[int]:
    return [int(name) for name in os.listdir(directory) if name.isdecimal()]


def _wants(path: str) -> dict[str, float]:
    """What a ticket wants; nothing when its owner is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | _SAFE)
    except OSError:
        return {}
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.unlink(path)
            return {}
        return {str(name): float(amount) for name, amount in json.loads(os.read(handle, _AT_MOST)).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    finally:
        os.close(handle)
