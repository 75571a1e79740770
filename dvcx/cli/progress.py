"""Listens to events and tells the user on stderr: warnings, notes, stages, and a bar for phases that take a while."""

from __future__ import annotations

import os
import shutil
import sys
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

from dvcx.cli.output import Paint, plural, seconds, size
from dvcx.errors import display
from dvcx.events import Advanced, Began, Ended, Event, Noted, StageBegan, StageEnded, StageOutput, StagesRun, Warned

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

DELAY = 0.25
EVERY = 0.1


class Progress:
    """A listener for `emit`. Thread-safe, without a thread of its own.

    `live` says whether stderr is a terminal that can redraw a line. `close` must be called, also after a failure.
    """

    def __init__(self, *, live: bool, paint: Paint, quiet: bool = False, verbose: bool = False) -> None:
        self._live, self._paint, self._quiet, self._verbose = live and not quiet, paint, quiet, verbose
        self._lock = RLock()
        self._phase = ""
        self._bar: Bar | None = None
        self._task: Any = None
        self._files = self._bytes = self._all_files = self._all_bytes = 0
        self._start = self._drawn = 0.0
        self._status = ""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        with self._lock:
            if isinstance(event, Advanced):
                self._files += event.files
                self._bytes += event.bytes
                self._draw()
            elif isinstance(event, Began):
                self._begin(event)
            elif isinstance(event, Ended):
                self._end()
            elif isinstance(event, Warned):
                self._line(f"{self._paint('warning:', 'yellow')} {display(event.message)}")
                if event.hint:
                    self._line(f"  {self._paint('hint:', 'cyan')} {display(event.hint)}")
            elif isinstance(event, Noted):
                if not self._quiet:
                    self._line(display(event.message))
            elif isinstance(event, StageBegan):
                self._stage_began(event)
            elif isinstance(event, StageOutput):
                self._stage_printed(event)
            elif isinstance(event, StagesRun):
                self._show_stages(event)
            elif isinstance(event, StageEnded) and self._verbose:
                self._line(f"{event.how} {display(event.stage)} in {seconds(event.seconds)}")

    def close(self) -> None:
        """Take the bar away and give the cursor back."""
        with self._lock:
            self._stop()
            self._wipe()

    def _begin(self, event: Began) -> None:
        self._stop()
        self._phase = event.phase
        self._files = self._bytes = 0
        self._all_files, self._all_bytes = event.files, event.bytes
        self._start = self._drawn = monotonic()

    def _end(self) -> None:
        self._stop()
        if self._verbose and self._phase:
            done = [plural(self._files, "file")] if self._files else []
            done += [size(self._bytes)] if self._bytes else []
            self._line(f"{display(self._phase)}: {', '.join([*done, seconds(monotonic() - self._start)])}")
        self._phase = ""

    def _stage_began(self, event: StageBegan) -> None:
        self._stop()
        if self._quiet:
            return
        self._line(f"{self._paint('>', 'cyan')} {self._paint(display(event.stage), 'bold')}: {display(event.command)}")
        for reason in event.reasons:
            self._line(f"    {self._paint(display(reason), 'dim')}")

    def _stage_printed(self, event: StageOutput) -> None:
        """Pass on what a command printed, to stderr or stdout as it did; with the stage's name when others print too."""
        self._stop()
        self._wipe()
        data = event.data
        if not event.alone:
            head = f"{self._paint(display(event.stage), 'cyan')} {self._paint('|', 'dim')} ".encode("utf-8", "replace")
            # Of a line that was drawn over, the last version.
            lines = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in data.removesuffix(b"\n").split(b"\n")]
            data = b"".join(head + line + b"\n" for line in lines)
        descriptor = 2 if event.error else 1
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads it; the log has it

    def _show_stages(self, event: StagesRun) -> None:
        """One line at the bottom of the terminal: what is done, what runs and for how long, what waits."""
        if not self._live or not event.running or self._bar is not None:
            self._wipe()
            return
        if not self._status and max(spent for _, spent in event.running) < DELAY:
            return
        total = event.done + event.failed + event.waiting + len(event.running)
        parts = [f"{event.done}/{total} done"]
        parts += [f"{event.cached} from cache"] if event.cached else []
        parts += [f"{event.failed} failed"] if event.failed else []
        parts.append("running " + ", ".join(f"{display(name)} {seconds(spent)}" for name, spent in event.running))
        parts += [f"{event.waiting} waiting"] if event.waiting else []
        text = "  ".join(parts)[: max(20, shutil.get_terminal_size().columns - 1)]
        if text != self._status:
            self._write(f"\r\x1b[2K{text}")
            self._status = text

    def _wipe(self) -> None:
        """Take the line of stages away."""
        if self._status:
            self._write("\r\x1b[2K")
            self._status = ""

    def _draw(self) -> None:
        now = monotonic()
        if not self._live or not self._phase or now - self._drawn < (EVERY if self._bar else DELAY):
            return
        self._drawn = now
        if self._bar is None:
            self._wipe()
            self._bar = _new_bar()
            total = self._all_bytes or self._all_files or None
            self._task = self._bar.add_task("", total=total, doing=display(self._phase), done="")
            self._bar.start()
        self._bar.update(self._task, completed=self._bytes if self._all_bytes else self._files, done=self._done(now))
        self._bar.refresh()

    def _done(self, now: float) -> str:
        """What is done so far, in words: 1,204/50,000 files  31 MiB/200 MiB  12 MiB/s  14 s left."""
        spent = max(now - self._start, 0.001)
        parts = []
        if self._files or self._all_files:
            parts.append(
                f"{self._files:,}/{plural(self._all_files, 'file')}" if self._all_files else plural(self._files, "file")
            )
        if self._bytes or self._all_bytes:
            parts.append(f"{size(self._bytes)}/{size(self._all_bytes)}" if self._all_bytes else size(self._bytes))
            parts.append(f"{size(int(self._bytes / spent))}/s")
        elif self._files:
            parts.append(f"{int(self._files / spent):,}/s")
        done, total = (self._bytes, self._all_bytes) if self._all_bytes else (self._files, self._all_files)
        if 0 < done <= total:
            parts.append(f"{seconds(spent * (total - done) / done)} left")
        return "  ".join(parts)

    def _stop(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.stop()

    def _line(self, text: str) -> None:
        """Print one line on stderr, above a bar if there is one."""
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text.from_ansi(text), soft_wrap=True)
            return
        self._wipe()
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def _new_bar() -> Bar:
    """A bar that vanishes when it is done, drawn only when refreshed."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.fields[doing]}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[done]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
