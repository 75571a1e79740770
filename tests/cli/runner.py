"""Runs the real program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dvcx

SOURCE = str(Path(dvcx.__file__).parents[1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with dvcx importable and the output neither coloured nor traced."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "PYTHONUNBUFFERED")}
    return {**kept, "PYTHONPATH": SOURCE, "TERM": "xterm", **more}


def dvcx_run(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`dvcx WORDS` in `cwd`; `more` is added to the environment."""
    return subprocess.run(
        [sys.executable, "-m", "dvcx", *words],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def script_run(script: str, *words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`dvcx WORDS` in a process that ran `script` first; afterwards the names of all modules loaded go to stderr."""
    program = f"import sys\nsys.argv = ['dvcx', *{list(words)!r}]\n{script}\nfrom dvcx.__main__ import run\n"
    program += "code = run()\nsys.stderr.write('\\nmodules ' + ' '.join(sorted(sys.modules)))\nsys.exit(code)\n"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def modules_of(*words: str, cwd: Path) -> set[str]:
    """The modules that `dvcx WORDS` loads."""
    return set(script_run("", *words, cwd=cwd).stderr.rpartition("modules ")[2].split())
