"""What a command used: memory of all its processes together, and the CPU time of those it waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvcx.io.runners.local import run_commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

MIB = 1 << 20
HELD = "import os, time; data = bytearray(os.urandom(1)) * ({size} << 20); {then}; time.sleep(1.2)"


ASK = """
import os, sys
from dvcx.io.runners.local import run_commands
outcome = run_commands([sys.argv[1]], directory=sys.argv[2], environment=os.environ)
assert outcome.good, outcome
print(outcome.memory)
"""


def _memory(tmp_path: Path, command: str) -> int:
    """Asked of a process of its own: what the kernel tells of a command counts only where it is more than the asker had."""
    asked = [sys.executable, "-c", ASK, command, str(tmp_path)]
    _ = bytearray(400 << 20)  # how large this process was does not count there
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def test_memory_of_several_processes_is_added_up(tmp_path: Path) -> None:
    one = f"{sys.executable} -S -c '{HELD.format(size=60, then='pass')}'"
    assert 120 * MIB < _memory(tmp_path, f"{one} & {one} & wait") < 180 * MIB


def test_memory_that_is_shared_counts_once(tmp_path: Path) -> None:
    one = f"{sys.executable} -S -c '{HELD.format(size=90, then='os.fork(); os.fork()')}'"
    assert 90 * MIB < _memory(tmp_path, one) < 150 * MIB


def test_a_short_peak_of_one_process_is_known_from_the_kernel(tmp_path: Path) -> None:
    short = f"{sys.executable} -S -c 'data = bytearray(300 << 20); del data'"
    assert _memory(tmp_path, short) > 300 * MIB


def test_processor_time_holds_that_of_children(tmp_path: Path) -> None:
    busy = f"{sys.executable} -S -c 'import time\nwhile time.process_time() < 0.1: pass'"
    outcome = run_commands([f"{busy}; {busy}"], directory=str(tmp_path), environment=os.environ)
    assert outcome.user + outcome.system >= 0.2
