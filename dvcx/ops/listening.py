"""Hearing one attempt of a stage: what its command prints goes on to the user and into the log, how it went into the record."""

from __future__ import annotations

import contextlib
import os
import time
from types import TracebackType

from dvcx.errors import DvcxError
from dvcx.events import Emit, StageOutput, Warned
from dvcx.io import runs
from dvcx.io.runners.local import STOPPED, Outcome

MAX_LINE = 64 << 10
"""A line that is longer is passed on in pieces."""


class Listener:
    """Log and record of an attempt. A context manager; `hear` is called by one thread.

    `alone`: pieces are passed on as they come. Otherwise whole lines are, since other stages print too. A disk that refuses the
    log costs the log, not the stage.
    """

    def __init__(self, state_dir: str, run: runs.Run, emit: Emit, *, alone: bool) -> None:
        self._state_dir, self._run, self._emit, self._alone = state_dir, run, emit, alone
        self._half = {False: b"", True: b""}
        self._log = -1

    def __enter__(self) -> Listener:
        self._run = self._run._replace(began=time.time())
        try:
            self._log = runs.begin(self._state_dir, self._run)
        except DvcxError as error:
            self._emit(Warned(f"this run leaves no log: {error.message}", error.hint))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def hear(self, data: bytes, is_error: bool) -> None:
        """Take what the command printed."""
        if self._log >= 0:
            try:
                os.write(self._log, data)
            except OSError as error:
                self._emit(Warned(f"the log ends here: {error.strerror}"))
                self._close()
        if self._alone:
            self._tell(data, is_error)
            return
        data = self._half[is_error] + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) >= MAX_LINE:
            cut = len(data)
        self._half[is_error] = data[cut:]
        if cut:
            self._tell(data[:cut], is_error)

    def finish(self) -> None:
        """The command is over: its last line may have no end."""
        for is_error, data in self._half.items():
            if data:
                self._tell(data + b"\n", is_error)
                self._half[is_error] = b""

    def end(self, outcome: Outcome, error: BaseException | None = None, kept: str = "") -> None:
        """Write how it went."""
        if error is None:
            state = runs.RAN
        elif outcome.cut == STOPPED or not isinstance(error, Exception):
            state = runs.STOPPED
        else:
            state = runs.FAILED
        said = error.message if isinstance(error, DvcxError) else str(error or "")
        runs.save(
            self._state_dir,
            self._run._replace(
                state=state,
                wall=round(outcome.wall, 6),
                user=round(outcome.user, 6),
                system=round(outcome.system, 6),
                memory=outcome.memory,
                exit_code=outcome.code,
                error=said,
                kept=kept,
            ),
        )

    def _tell(self, data: bytes, is_error: bool) -> None:
        self._emit(StageOutput(self._run.stage, data, is_error, self._alone))

    def _close(self) -> None:
        if self._log >= 0:
            with contextlib.suppress(OSError):
                os.close(self._log)
            self._log = -1
