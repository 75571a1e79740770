"""repro -i: the command that runs has the terminal, a real one here, with its keys."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvcx.ops.runs import runs
from dvcx.project import Project
from tests.cli.runner import environment
from tests.ops.test_parallel import stages, wait_for
from tests.ops.trying import lock, text, write

ASKS = f'{sys.executable} -c "open(\'x\', \'w\').write(input(\'name? \').upper())"'
TALKS = "trap 'echo he''ard' INT; echo re''ady; while ! read x; do :; done; trap - INT; echo $x; read x"
DVCX = (sys.executable, "-m", "dvcx")


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, directory: str, *words: str) -> None:
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            with contextlib.suppress(OSError):
                os.chdir(directory)
                os.execve(words[0], words, {**environment(), "PS1": "$ ", "TERM": "dumb"})
            os._exit(99)
        self.seen = ""

    def see(self, words: str, *, within: float = 60) -> str:
        """Wait until these words are shown; all that was shown before them and since the last ones."""
        until = time.monotonic() + within
        while words not in self.seen:
            assert time.monotonic() < until, f"{words!r} is not in:\n{self.seen}"
            self._read(until)
        told, _, self.seen = self.seen.partition(words)
        return told

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def end(self) -> int:
        """Wait for the program; its exit code."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            self._read(until)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it does not end:\n{self.seen}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def _read(self, until: float) -> None:
        ready, _, _ = select.select([self.terminal], [], [], min(0.1, max(0.0, until - time.monotonic())))
        with contextlib.suppress(OSError):
            self.seen += os.read(self.terminal, 1 << 16).decode("utf-8", "replace") if ready else ""


@contextlib.contextmanager
def screen(project: Project, *words: str) -> Iterator[Screen]:
    shown = Screen(project.root, *words)
    try:
        yield shown
    finally:
        shown.close()


@pytest.mark.parametrize("how", [("-i",), ("-j", "1")], ids="".join)
def test_the_command_is_answered(project: Project, how: tuple[str, ...]) -> None:
    project = stages(project, a={"cmd": ASKS, "outs": ["x"]})
    with screen(project, *DVCX, "repro", *how) as shown:
        shown.see("name? ")
        shown.type("ann\n")
        assert shown.end() == 0
    assert text(project, "x") == "ANN" and list(lock(project)) == ["a"]


def test_side_by_side_there_is_no_input(project: Project) -> None:
    project = stages(project, a={"cmd": "cat > x", "outs": ["x"]})
    with screen(project, *DVCX, "repro", "-j", "2") as shown:
        assert shown.end() == 0
    assert text(project, "x") == ""


def test_its_interrupt_is_the_command_s_and_ends_the_run(project: Project) -> None:
    """A debugger hears Ctrl-C and goes on; a command that it ends ends everything, as the first Ctrl-C does."""
    project = stages(
        project,
        a={"cmd": TALKS, "outs": ["x"]},
        b={"cmd": "echo > y", "outs": ["y"]},
    )
    write(project, {"x": "old"})
    with screen(project, *DVCX, "repro", "-i", "--keep-going") as shown:
        shown.see("ready")
        shown.type("\x03")
        shown.see("heard")
        shown.type("still here\n")
        shown.see("still here\r\nstill here")
        shown.type("\x03")
        assert shown.end() == 130
        assert "interrupted" in shown.seen
    assert text(project, "x") == "old" and not Path(project.root, "y").exists()
    assert [run.state for run in runs(project).items] == ["stopped"]


@pytest.mark.skipif(not shutil.which("bash"), reason="a shell with job control")
def test_suspended_and_resumed(project: Project) -> None:
    """Ctrl-Z gives the terminal to the shell, fg gives it to the command again, bg makes it wait for it."""
    project = stages(project, a={"cmd": ASKS, "outs": ["x"]})
    with screen(project, str(shutil.which("bash")), "--norc", "--noediting", "-i") as shown:
        shown.type(" ".join((*DVCX, "repro -i; echo ended $?\n")))
        shown.see("name? ")
        shown.type("\x1a")
        shown.see("Stopped")
        shown.type("echo shell has $((1 + 1))\n")
        shown.see("shell has 2")
        shown.type("fg\n")
        time.sleep(0.5)
        shown.type("bo\n")
        shown.see("bo\r\n")
        shown.see("$ ")
        shown.type("exit\n")
        shown.end()
    assert text(project, "x") == "BO"


@pytest.mark.skipif(not shutil.which("bash"), reason="a shell with job control")
def test_commands_are_suspended_with_it(project: Project) -> None:
    """Ctrl-Z while stages run side by side: they stand still as well, and their timeouts too."""
    counts = {"cmd": "for n in 1 2 3 4 5; do sleep 0.1; echo $n >> x; done", "outs": ["x"], "timeout": 20}
    project = stages(project, a=counts)
    with screen(project, str(shutil.which("bash")), "--norc", "--noediting", "-i") as shown:
        began = time.monotonic()
        shown.type(" ".join((*DVCX, "repro -j 2; echo ended $?\n")))
        wait_for(project, "x")
        shown.type("\x1a")
        shown.see("Stopped")
        time.sleep(0.2)
        before = text(project, "x")
        time.sleep(0.8)
        assert text(project, "x") == before != "1\n2\n3\n4\n5\n"
        shown.type("fg\n")
        shown.see("ran  a")
        spent = time.monotonic() - began
        shown.type("exit\n")
        shown.end()
    assert text(project, "x") == "1\n2\n3\n4\n5\n" and runs(project).items[0].seconds < spent - 0.8


def test_a_killed_one_leaves_a_terminal_that_works(project: Project) -> None:
    """What the command did to the terminal's modes is undone, and a timeout ends it there too."""
    project = stages(project, a={"cmd": "stty -echo -icanon; read x", "timeout": 0.3})
    with screen(project, "/bin/sh", "-c", f"{' '.join(DVCX)} repro -i; stty -a; exit 7") as shown:
        shown.see("longer than its timeout")
        assert shown.end() == 7
        assert " echo " in shown.seen and " icanon " in shown.seen
