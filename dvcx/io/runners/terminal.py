"""The user's terminal, lent to a command while it runs: it reads from it and hears its Ctrl-C, as if a shell had started it."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import time
from typing import Any

STDIN = 0

_WANTS_IT = frozenset({signal.SIGTTIN, signal.SIGTTOU})


class Terminal:
    """The terminal that is this process's stdin. One process group at a time has it; make it with `find_terminal`."""

    pause = 0.1
    """Seconds between two looks whether the command was suspended: nothing else tells."""

    def __init__(self) -> None:
        self._modes: list[Any] | None = None

    def lend(self, group: int) -> None:
        """Make this group the one that reads from the terminal and that its keys reach."""
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(STDIN)
        _set_foreground(group)

    def take_back(self, group: int) -> None:
        """Have the terminal again, as it was, unless a shell has taken it from `group` meanwhile."""
        if _foreground() != group:
            return
        _set_foreground(os.getpgrp())
        if self._modes is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._modes)

    def look(self, group: int) -> None:
        """When the command that leads this group was suspended (Ctrl-Z), suspend this process too; then both go on."""
        try:
            found = os.waitid(os.P_PID, group, os.WSTOPPED | os.WNOHANG)
        except OSError:
            return
        if found is None:
            return
        if found.si_status in _WANTS_IT and _foreground() in (group, os.getpgrp()):
            # It asked before it was lent the terminal, or since the shell has given it back to us.
            _set_foreground(group)
        else:
            self.take_back(group)
            os.killpg(os.getpgrp(), signal.SIGTSTP)
            # The signal may need a moment. Where nobody could wake this process it is not stopped at all.
            time.sleep(self.pause)
            if _foreground() == os.getpgrp():
                self.lend(group)
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGCONT)


def find_terminal() -> Terminal | None:
    """The terminal that is stdin; None when it is none, or when this process is not in its foreground."""
    return Terminal() if _foreground() == os.getpgrp() else None


def _foreground() -> int:
    try:
        return os.tcgetpgrp(STDIN)
    except OSError:
        return -1


def _set_foreground(group: int) -> None:
    """Who is in the background may do this only while it does not listen to what would stop it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(STDIN, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
