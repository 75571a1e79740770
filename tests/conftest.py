"""Every test runs as a user without a past: own home, own git identity, an environment without surprises."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Machines that run tests are slow at times; an example has no deadline, and making the first ones may take its time.
# The same examples every time: a change is judged by what it changes. `--hypothesis-profile=random` looks for others.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dvcx", settings.get_profile("random"), derandomize=True)
settings.load_profile("dvcx")

_DROPPED = ("GIT_", "AWS_", "DVCX_", "XDG_", "AZURE_", "GOOGLE_", "SSH_ASKPASS")
_IDENTITY = """\
[user]
	name = Ada Tester
	email = ada@example.org
[init]
	defaultBranch = main
[commit]
	gpgsign = false
[protocol "file"]
	allow = always
"""

_MEMORY = Path("/dev/shm")
_ROOM = 8 << 30  # bytes; the tests need about half of it
_NUMBER = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The tests of every day write to memory where it has room, which takes half the time; those of the night to the disk."""
    # A shell that started this in the background ignores Ctrl-C, and so would everything that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "not nightly" in config.option.markexpr and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


@pytest.fixture(scope="session", autouse=True)
def _quiet_session() -> Iterator[None]:
    """Session-wide fixtures, which run before the one below, get the same clean environment."""
    with pytest.MonkeyPatch.context() as patch:
        _scrub(patch)
        yield


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home directory; HOME, XDG_* and git's configuration lead there and nowhere else."""
    home = tmp_path_factory.mktemp(f"home-{next(_NUMBER)}", numbered=False)  # a number of pytest takes a look at all others
    _scrub(monkeypatch)
    monkeypatch.setenv("HOME", str(home))
    for name, below in (("CONFIG", ".config"), ("CACHE", ".cache"), ("DATA", ".local/share"), ("STATE", ".local/state")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / below))
    (home / "gitconfig").write_text(_IDENTITY)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.setenv("NO_COLOR", "1")
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    """`git("commit", "-m", "x")` runs git in `tmp_path` (or `cwd=`) and returns what it prints."""

    def run(*words: str, cwd: str | Path = tmp_path) -> str:
        done = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def repo(tmp_path: Path, git: Callable[..., str]) -> Path:
    """A real, empty git repository: `tmp_path` itself."""
    git("init", "--quiet")
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on another file system than `tmp_path`: no hard link leads there."""
    here = tmp_path.stat().st_dev
    for base in (_MEMORY, Path(tempfile.gettempdir()), Path("/var/tmp"), Path(__file__).parent):
        if base.is_dir() and os.access(base, os.W_OK) and base.stat().st_dev != here:
            with tempfile.TemporaryDirectory(prefix="dvcx-test-", dir=base) as made:
                yield Path(made)
            return
    pytest.skip("there is only one file system")


def _scrub(patch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_DROPPED):
            patch.delenv(name)
