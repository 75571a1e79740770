"""The threads that run stages, and the main thread's watch over them: order, interrupts, and what is told meanwhile."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from dvcx.core.scheduling import Granted, Queue
from dvcx.errors import DvcxError
from dvcx.events import Emit, Noted, StagesRun
from dvcx.io.runners.local import GRACE, Leash

if TYPE_CHECKING:
    from dvcx.core.pipeline.schema import Stage

TICK = 0.2
"""Seconds between two looks of the main thread."""

Turn = Callable[[Granted], str | None]
"""Gives a stage its turn: how it went ("restored" counts as cached), or None when it has to wait for what it needs."""


class Crew:
    """Works a queue through with up to `jobs` threads, each with its own tools from `hire`.

    `claim` is for turns: whether a stage that was looked at may run now. `failed` hears of a stage's error and of the stages
    that will not run because of it; unless it returns True nothing new starts. `tick` is called by the main thread. `told`:
    now and then `emit` hears how far it is; not while a command talks with the user.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        jobs: int,
        hire: Callable[[], AbstractContextManager[Turn]],
        failed: Callable[[Stage, DvcxError, tuple[Stage, ...]], bool],
        tick: Callable[[], None],
        leash: Leash,
        stopping: threading.Event,
        emit: Emit,
        told: bool = True,
    ) -> None:
        self._queue, self._jobs, self._hire, self._failed, self._tick = queue, jobs, hire, failed, tick
        self._leash, self._stopping, self._emit, self._told = leash, stopping, emit, told
        self._news = threading.Condition()
        self._running: dict[str, float] = {}
        self._done = self._cached = self._bad = 0
        self._bug: BaseException | None = None

    def claim(self, address: str) -> bool:
        """Whether a stage that was looked at may run at once; else it is given out again later."""
        with self._news:
            fits = self._queue.claim(address)
            if fits:
                self._running[address] = time.monotonic()
            return fits

    def work(self) -> None:
        """Until all is done, or nothing more can be. The first Ctrl-C starts nothing new, the second ends what runs.

        Any other `KeyboardInterrupt` (SIGTERM) ends it at once. They are raised again when the threads are done.
        """
        threads = [threading.Thread(target=self._labour, name=f"stage-{number}", daemon=True) for number in range(self._jobs)]
        interrupt: KeyboardInterrupt | None = None
        suspended = self._heed()
        try:
            for thread in threads:
                thread.start()
            while True:
                try:
                    self._watch(threads)
                    break
                except KeyboardInterrupt as stop:
                    self._stop(hard=interrupt is not None or type(stop) is not KeyboardInterrupt)
                    interrupt = stop
        finally:
            self._end(threads)
            if suspended:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        if self._bug is not None:
            raise self._bug
        if interrupt is not None:
            raise interrupt

    def _heed(self) -> bool:
        """Have Ctrl-Z suspend the commands too; whether it can, in the main thread of a program that has no such way itself."""
        with contextlib.suppress(ValueError, AttributeError):
            if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
                signal.signal(signal.SIGTSTP, self._suspend)
                return True
        return False

    def _suspend(self, number: int, frame: object) -> None:
        self._leash.suspend()
        began = time.monotonic()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # here it stands still until somebody lets it go on
        signal.signal(number, self._suspend)
        self._leash.resume(time.monotonic() - began)

    def _watch(self, threads: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            with self._news:
                if not self._queue.over:
                    self._news.wait(TICK)
                running = tuple((name, time.monotonic() - began) for name, began in self._running.items())
                told = StagesRun(self._done, self._cached, self._bad, self._queue.left - len(running), running)
                over = self._queue.over
            if over:
                for thread in threads:
                    thread.join(TICK)
            if self._told:
                self._emit(told)
            self._tick()

    def _stop(self, *, hard: bool) -> None:
        self._stopping.set()
        with self._news:
            self._queue.stop()
            count = len(self._running)
            self._news.notify_all()
        if hard:
            self._leash.pull()
        elif count:
            what = "the stage that runs" if count == 1 else f"the {count} stages that run"
            self._emit(Noted(f"interrupted: {what} may finish, nothing else starts; Ctrl-C again ends it all"))

    def _end(self, threads: list[threading.Thread]) -> None:
        """Whatever ended the watch: no command outlives it, and no thread touches the project any more."""
        until = time.monotonic() + 2 * GRACE
        while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
            with contextlib.suppress(KeyboardInterrupt):
                self._stop(hard=True)
                for thread in threads:
                    if thread.ident is not None:
                        thread.join(TICK)

    # In the threads

    def _labour(self) -> None:
        try:
            with contextlib.ExitStack() as tools:
                turn: Turn | None = None
                while (granted := self._next()) is not None:
                    if turn is None:
                        turn = tools.enter_context(self._hire())
                    self._give(turn, granted)
        except BaseException as error:
            with self._news:
                self._bug = self._bug or error
                self._queue.abandon()
                self._news.notify_all()
            self._stopping.set()

    def _next(self) -> Granted | None:
        with self._news:
            while True:
                granted = self._queue.take()
                if granted is not None:
                    if granted.runs:
                        self._running[granted.stage.address] = time.monotonic()
                    if self._queue.more:
                        self._news.notify()
                    return granted
                if self._queue.over:
                    self._news.notify_all()
                    return None
                self._news.wait()

    def _give(self, turn: Turn, granted: Granted) -> None:
        stage = granted.stage
        error: DvcxError | None = None
        how: str | None = None
        try:
            how = turn(granted)
        except DvcxError as caught:
            error = caught
        with self._news:
            if error is None and how is None:
                return
            self._running.pop(stage.address, None)
            if error is None:
                self._queue.done(stage.address)
                self._done += 1
                self._cached += how == "restored"
                return
            blocked = self._queue.failed(stage.address)
            self._bad += 1
        if not self._failed(stage, error, blocked):
            self._stopping.set()
            with self._news:
                self._queue.stop()
                self._news.notify_all()
