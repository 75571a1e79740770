"""Runs the real program, in a process of its own or in this one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import dvcx
from dvcx.cli.main import main

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


def dvcx_called(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`dvcx WORDS` in `cwd` without starting a process, which is many times quicker. What stages print is not in the answer."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            code = main(words)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


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
