"""Running a stage's command as a local process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from dvcx.errors import DiskRefused, StageFailed, display

GRACE = 5.0
"""Seconds a command gets to end after it was asked to."""


def run_commands(commands: Sequence[str], *, directory: str, environment: Mapping[str, str], stage: str) -> float:
    """Run shell commands one after another in `directory`; seconds of wall time. Output goes where ours goes.

    Raises `StageFailed` for the first that does not exit with 0, `DiskRefused` when it cannot be started. Whatever ends
    the wait, an interrupt too, the command is over when this returns.
    """
    began = time.monotonic()
    for command in commands:
        code = _run(command, directory, environment)
        if code:
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
            raise StageFailed(
                f"stage '{display(stage)}': the command {how}: {display(command)}",
                "what it printed is above; its old outputs are back in place",
            )
    return time.monotonic() - began


def run_captured(command: str, *, directory: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run one shell command in `directory` without input; (exit code, all it printed, stdout and stderr as they came)."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise DiskRefused(
            f"{display(directory)}: the command cannot be started: {error.strerror}", "check the directory"
        ) from None
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _run(command: str, directory: str, environment: Mapping[str, str]) -> int:
    # In a group of its own it can be ended with all it started; but then a terminal would not let it read.
    own_group = not sys.stdin or not sys.stdin.isatty()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=directory,
            env=dict(environment),
            process_group=0 if own_group else None,
            stdin=None if not own_group else subprocess.DEVNULL,
        )
    except OSError as error:
        raise DiskRefused(
            f"{display(directory)}: the command cannot be started: {error.strerror}", "check the stage's wdir"
        ) from None
    try:
        return process.wait()
    except BaseException:
        _end(process, own_group)
        raise


def _end(process: subprocess.Popen[bytes], own_group: bool) -> None:
    def send(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if own_group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    send(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL)
        process.wait()
    send(signal.SIGKILL)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
