"""Threads for work that waits: apply a function to many items at once, end at the first error, leave nothing running."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE = 10.0  # seconds an interrupted run waits for its threads to notice

_here = threading.local()


class GivenUp(BaseException):
    """Raised by `checkpoint` in a worker whose run is over. Nobody hears of it."""


def checkpoint() -> None:
    """To be called now and then by long work: raises `GivenUp` in a worker whose run was ended by an error or Ctrl-C."""
    stop = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise GivenUp


def run(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ordered: bool = True
) -> Iterator[Result]:
    """What `function` returns for each item: in the order of the items, or as they get ready when not `ordered`.

    At most `workers` run at once, and `items` is read only a little ahead, in the caller's thread. The first error ends the run:
    no further item begins, the running ones end (at their next `checkpoint`, or when done), then it is raised. The same
    when the caller stops iterating. After Ctrl-C the running ones have ten seconds, or until the next Ctrl-C.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    todo: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()
    threads: list[threading.Thread] = []
    interrupted = False

    def work() -> None:
        _here.stop = stop
        while (job := todo.get()) is not None:
            if stop.is_set():
                continue
            number, item = job
            try:
                result = function(item)
            except BaseException as error:  # the caller raises it
                done.put((number, None, error))
            else:
                done.put((number, result, None))

    try:
        source = enumerate(items)
        sent = received = following = 0
        ready: dict[int, Result] = {}
        more = True
        while more or received < sent:
            while more and sent - received < 2 * workers and sent - following < 64 * workers:
                job = next(source, None)
                if job is None:
                    more = False
                    break
                todo.put(job)
                sent += 1
                if len(threads) < workers:
                    threads.append(threading.Thread(target=work, name=f"dvcx-{len(threads)}", daemon=True))
                    threads[-1].start()
            if received == sent:
                continue
            number, result, error = done.get()
            received += 1
            if error is not None:
                raise error
            if not ordered:
                following += 1
                yield result
                continue
            ready[number] = result
            while following in ready:
                following += 1
                yield ready.pop(following - 1)
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        stop.set()
        for _ in threads:
            todo.put(None)
        _wait(threads, GRACE if interrupted else None)


def _wait(threads: list[threading.Thread], seconds: float | None) -> None:
    """Until all ended or `seconds` are over. Threads that did not end are daemons, so they do not hold up the exit."""
    deadline = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        with contextlib.suppress(RuntimeError):  # Ctrl-C came before it was started
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
