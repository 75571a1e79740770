"""What the listener prints on stderr: without a terminal, and on a real one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from dvcx.cli.output import Paint
from dvcx.cli.progress import Progress
from dvcx.events import Advanced, Began, Ended, Noted, StageBegan, StageEnded, StageOutput, StagesRun, Warned
from tests.cli.runner import environment

SCRIPT = """
import sys, time
from dvcx.cli.output import Paint
from dvcx.cli.progress import Progress
from dvcx.events import *
emit = Progress(live=True, paint=Paint(False))
emit(Began("hashing", files=4, bytes=4096))
for _ in range(4):
    time.sleep(PAUSE)
    emit(Advanced(files=1, bytes=1024))
    emit(Warned("odd [bold]file[/bold]"))
emit(Ended("hashing"))
emit.close()
sys.stderr.write(f"rich loaded: {'rich' in sys.modules}\\n")
"""


def _on_a_terminal(script: str, cwd: Path, **more: str) -> str:
    """What `script` shows on a terminal of 120 columns."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=environment(COLUMNS="120", **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(mine, 65536):
            shown += block
    except OSError:
        pass  # Linux says EIO when the other side is gone
    os.close(mine)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_without_a_terminal_only_lines(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Progress(live=False, paint=Paint(False))
    emit(Began("hashing", files=1))
    emit(Advanced(files=1))
    emit(Warned("something\x1b", "do this"))
    emit(Noted("a step"))
    emit(Ended("hashing"))
    emit(StageBegan("train", "python train.py", ("params.yaml: lr 1 → 2",)))
    emit(StageEnded("train", "ran", 1.0))
    emit.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "warning: something\\x1b",
        "  hint: do this",
        "a step",
        "> train: python train.py",
        "    params.yaml: lr 1 → 2",
    ]


def test_quiet_keeps_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Progress(live=False, paint=Paint(False), quiet=True)
    emit(Noted("a step"))
    emit(StageBegan("train", "python train.py"))
    emit(Warned("something"))
    assert capsys.readouterr().err == "warning: something\n"


def test_verbose_says_how_long_things_took(capsys: pytest.CaptureFixture[str]) -> None:
    emit = Progress(live=False, paint=Paint(False), verbose=True)
    emit(Began("hashing"))
    emit(Advanced(files=2, bytes=2048))
    emit(Ended("hashing"))
    assert capsys.readouterr().err == "hashing: 2 files, 2.0 KiB, 0.0 s\n"


def test_a_slow_phase_gets_a_bar_and_warnings_stay_whole(tmp_path: Path) -> None:
    shown = _on_a_terminal(SCRIPT.replace("PAUSE", "0.15"), tmp_path)
    assert "hashing" in shown
    assert "/4 files" in shown
    assert "/4.0 KiB" in shown
    assert "KiB/s" in shown or "B/s" in shown
    assert shown.count("warning: odd [bold]file[/bold]") == 4
    assert "rich loaded: True" in shown


def test_a_quick_phase_gets_no_bar_and_no_rich(tmp_path: Path) -> None:
    shown = _on_a_terminal(SCRIPT.replace("PAUSE", "0.001"), tmp_path)
    assert "hashing" not in shown
    assert "rich loaded: False" in shown


STAGES = """
from dvcx.cli.output import Paint
from dvcx.cli.progress import Progress
from dvcx.events import *
emit = Progress(live=True, paint=Paint(False))
emit(StagesRun(0, 0, 0, 3, (("quick", 0.1),)))
emit(StagesRun(4, 1, 1, 2, (("train", 75.4), ("prep\\x1b", 3.0))))
emit(StageOutput("train", b"half\\rwhole line\\n", True))
emit(StagesRun(5, 1, 1, 2, (("train", 76.0),)))
emit(StagesRun(8, 1, 1, 0))
emit.close()
"""


def test_the_line_of_stages_on_a_terminal(tmp_path: Path) -> None:
    """It comes when a stage takes long enough, makes room for what commands print, and goes."""
    wipe = "\r\x1b[2K"
    shown = _on_a_terminal(STAGES, tmp_path)
    first = "4/9 done  1 from cache  1 failed  running train 75 s, prep\\x1b 3.0 s  2 waiting"
    second = "5/9 done  1 from cache  1 failed  running train 76 s  2 waiting"
    assert shown == f"{wipe}{first}{wipe}train | whole line\r\n{wipe}{second}{wipe}"


def test_what_stages_print_goes_where_they_printed_it(capfd: pytest.CaptureFixture[str]) -> None:
    emit = Progress(live=False, paint=Paint(False), quiet=True)
    emit(StagesRun(0, 0, 0, 3, (("a", 9.0),)))
    emit(StageOutput("a", b"one\ntwo\n"))
    emit(StageOutput("b", b"three\n", True))
    emit(StageOutput("c", b"raw\r", False, True))
    out, err = capfd.readouterr()
    assert (out, err) == ("a | one\na | two\nraw\r", "b | three\n")
