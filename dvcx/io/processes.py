"""Forked helpers for work that is many small system calls: Python's one lock keeps threads from doing it side by side."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dvcx import errors
from dvcx.errors import DiskRefused, DvcxError

Item = TypeVar("Item")

STRETCHES = 64
"""So many stretches of the items for each worker: all are busy to the end, and neighbours stay together."""
AT_MOST = 512
"""So many in all: their numbers fit into the smallest pipe there is, one page, before anybody reads from it."""

_HEAD = struct.Struct("<qq")
_START = struct.Struct("<q")
_ERROR = -1
_DONE = -2
_ENDING = (signal.SIGINT, signal.SIGTERM)


def available() -> bool:
    """Whether forking is safe here: on Linux, while this process has no other threads."""
    return sys.platform == "linux" and threading.active_count() == 1


def belongs(group: int, variable: str) -> bool:
    """Whether a process of this group runs with `variable` ("NAME=value") in its environment; False where nobody can tell."""
    wanted = variable.encode("utf-8", "surrogateescape")
    try:
        pids = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name of the program, in brackets, may hold anything; state, parent and group come after it.
                if int(file.read(4096).rpartition(b")")[2].split()[2]) != group:
                    continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read(1 << 20).split(b"\0"):
                    return True
        except (OSError, ValueError, IndexError):
            continue
    return False


def spread(
    function: Callable[[Item], bytes], items: Sequence[Item], *, workers: int, last: Callable[[], bytes] | None = None
) -> Iterator[tuple[int, bytes]]:
    """(number of the item, what `function` returned for it), as they get ready. Who is done with a stretch takes the next.

    `function` runs in a forked child: it may use files, but no database or thread of the parent. The first error of a child
    ends all and is raised here. `last` is called once in every child, after its last item; what it returns comes with the
    number of items.
    """
    children: dict[int, int] = {}
    size = max(1, -(-len(items) // min(STRETCHES * workers, AT_MOST)))
    starts = range(0, len(items), size)
    taking, giving = os.pipe()
    try:
        # All fits into the pipe at once, and a read takes one number whole, whoever else reads.
        os.write(giving, b"".join(_START.pack(start) for start in starts))
        os.close(giving)
        # Signals wait meanwhile: no child is on its way that nobody would end, and none runs on in the parent's code.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            for _ in range(min(workers, len(starts))):
                children.update([_fork(function, items, taking, size, last)])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from _collect(children)
    finally:
        os.close(taking)
        for pid in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for pipe in children:
            os.close(pipe)


def _fork(
    function: Callable[[Item], bytes], items: Sequence[Item], starts: int, size: int, last: Callable[[], bytes] | None
) -> tuple[int, int]:
    taking, giving = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(giving)
        return taking, pid
    # The child leaves with os._exit, whatever happens: nothing of the parent's is closed, flushed or unwound twice.
    code = 70
    try:
        os.close(taking)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        while found := os.read(starts, _START.size):
            (start,) = _START.unpack(found)
            for number in range(start, min(start + size, len(items))):
                _send(giving, number, function(items[number]))
        if last is not None:
            _send(giving, len(items), last())
        _send(giving, _DONE, b"")
        code = 0
    except DvcxError as error:
        _send(giving, _ERROR, json.dumps([type(error).__name__, error.message, error.hint]).encode())
    except BaseException as error:
        _send(giving, _ERROR, json.dumps(["", f"{type(error).__name__}: {error}", ""]).encode())
    finally:
        os._exit(code)


def _send(pipe: int, number: int, data: bytes) -> None:
    view = memoryview(_HEAD.pack(number, len(data)) + data)
    while view:
        view = view[os.write(pipe, view) :]


def _collect(children: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    import selectors

    buffers = {pipe: bytearray() for pipe in children}
    finished = 0
    with selectors.DefaultSelector() as selector:
        for pipe in children:
            selector.register(pipe, selectors.EVENT_READ)
        while finished < len(children):
            for key, _ in selector.select():
                pipe = int(key.fd)
                data = os.read(pipe, 1 << 20)
                if not data:
                    raise DiskRefused("a helper process was ended from outside", "look for memory pressure (dmesg), run it again")
                buffers[pipe] += data
                for number, body in _messages(buffers[pipe]):
                    if number == _DONE:
                        finished += 1
                        selector.unregister(pipe)
                    elif number == _ERROR:
                        raise _raised(body)
                    else:
                        yield number, body


def _messages(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    while len(buffer) >= _HEAD.size:
        number, length = _HEAD.unpack_from(buffer)
        if len(buffer) < _HEAD.size + length:
            return
        body = bytes(buffer[_HEAD.size : _HEAD.size + length])
        del buffer[: _HEAD.size + length]
        yield number, body


def _raised(body: bytes) -> Exception:
    name, message, hint = json.loads(body)
    kind = getattr(errors, name, None) if name else None
    if isinstance(kind, type) and issubclass(kind, DvcxError):
        return kind(message, hint)
    return RuntimeError(message)
