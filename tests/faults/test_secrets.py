"""Secrets: wherever a key may stand, no output, log, trace, record or commit shows it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.faults.world import World

CANARY = "CANARY0verySecretValue"
VERBS = (
    "status",
    "status -v",
    "config",
    "config --json",
    "remote list",
    "remote list --json -v",
    "doctor --json",
    "push -v",
    "push --json",
    "pull -v",
    "cache size",
)


@pytest.fixture
def keys(world: World) -> World:
    """A project with an S3 remote that cannot be reached and canaries wherever credentials may stand."""
    world.put("x.txt", "x\n")
    world.ok("add", "x.txt")
    world.ok("remote", "add", "-d", "cloud", "s3://bucket/prefix")
    for key, value in (
        ("endpoint", "http://127.0.0.1:9"),
        ("timeout", "1"),
        ("access_key_id", CANARY + "1"),
        ("secret_access_key", CANARY + "2"),
        ("session_token", CANARY + "3"),
    ):
        assert CANARY not in world.ok("remote", "modify", "--local", "cloud", key, value)
    world.extra.update(AWS_SECRET_ACCESS_KEY=CANARY + "4", AWS_SESSION_TOKEN=CANARY + "5", MY_PASSWORD=CANARY + "6")
    world.extra.update(AWS_EC2_METADATA_DISABLED="true")
    return world


def test_no_verb_shows_a_key(keys: World) -> None:
    """Item 76: no verb shows a canary, on stdout or stderr, as text or JSON, well or badly ended; no record or log holds one."""
    for verb in VERBS:
        outcome = keys.run(*verb.split())
        assert CANARY not in outcome.text, verb
    assert CANARY not in keys.git("add", "-A") + keys.git("diff", "--cached") + keys.git("status", "--short", "--ignored")
    for path in keys.root.rglob("*"):
        if path.is_file() and path.name != "config.local.toml":
            assert CANARY.encode() not in path.read_bytes(), path


def test_private_file(keys: World) -> None:
    """Item 76: the file with the keys is its owner's alone, and git ignores it."""
    private = keys.root / ".dvcx/config.local.toml"
    assert private.stat().st_mode & 0o077 == 0
    assert ".dvcx/config.local.toml" in keys.git("check-ignore", ".dvcx/config.local.toml")
    assert CANARY in private.read_text()


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{CANARY}@bucket/prefix",
        f"sftp://ada:{CANARY}@host/path",
        f"https://{CANARY}:x-oauth@host/path",
        f"s3://bucket/prefix?secret_access_key={CANARY}",
    ],
)
def test_url_with_a_password(world: World, url: str) -> None:
    """Item 76: a remote's url with a password in it is refused, pointing to where it belongs, without repeating it."""
    text = world.fails(2, "remote", "add", "-d", "cloud", url)
    assert CANARY not in text
    assert CANARY not in world.get(".dvcx/config.toml").decode()
    text = world.fails(2, "config", "set", "remote.cloud.url", url)
    assert CANARY not in text


@pytest.mark.parametrize("key", ["access_key_id", "secret_access_key", "session_token"])
def test_key_in_the_committed_file(world: World, key: str) -> None:
    """Item 76: a key is not written into the committed file; one that somebody wrote there is ignored and not shown."""
    world.ok("remote", "add", "-d", "cloud", "s3://bucket/prefix")
    text = world.fails(2, "config", "set", f"remote.cloud.{key}", CANARY, says=("--local",))
    assert CANARY not in text
    assert CANARY not in world.get(".dvcx/config.toml").decode()
    outcome = world.run("remote", "modify", "cloud", key, CANARY)
    assert CANARY not in outcome.text and CANARY not in world.get(".dvcx/config.toml").decode()
    config = world.root / ".dvcx/config.toml"
    config.write_text(config.read_text().rstrip() + f'\n[remote.other]\nurl = "s3://b/p"\n{key} = "{CANARY}"\n')
    for verb in ("status", "config", "remote list", "doctor"):
        outcome = world.run(*verb.split())
        assert CANARY not in outcome.text, verb


def test_broken_private_file(world: World) -> None:
    """Item 76: a syntax error in the private file is told without its line."""
    private = world.root / ".dvcx/config.local.toml"
    for text in (
        f'[remote.cloud]\nsecret_access_key = "{CANARY}\n',
        f"[remote.cloud]\nsecret_access_key = {CANARY}\n",
        f'{CANARY} "x"\n',
        f'[remote.cloud]\nsecret_access_key = ["{CANARY}"]\n',
    ):
        private.write_text(text)
        private.chmod(0o600)
        outcome = world.run("status", "-v")
        assert outcome.code in (2, 4) and "config.local.toml" in outcome.err, outcome.text
        assert CANARY not in outcome.text


def test_crash_report(keys: World) -> None:
    """Item 76: an unexpected error's trace, on disk and on the terminal, holds no key."""
    script = (
        "import os, sys\n"
        "import dvcx.ops.status as verb\n"
        "def broken(*args, **kwargs):\n"
        "    secret = os.environ['AWS_SECRET_ACCESS_KEY']\n"
        f"    raise ValueError('key ' + secret + ' and {CANARY}2 at https://ada:{CANARY}9@host/x?token={CANARY}8')\n"
        "verb.status = broken\n"
        "sys.argv = ['dvcx', 'status', '-v']\n"
        "from dvcx.cli.main import main\n"
        "sys.exit(main(['status', '-v']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=keys.root, env=keys.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 70, done.stderr
    assert CANARY not in done.stdout + done.stderr
    logs = [path.read_text() for path in (keys.root / ".dvcx/state/logs").iterdir()]
    assert logs and CANARY not in "".join(logs)


def test_repr(keys: World) -> None:
    """Item 76: the values of the Python API show no key when they are printed."""
    script = (
        "import dvcx, traceback\n"
        "project = dvcx.open_project()\n"
        "print(project, repr(project), str(project.config), repr(project.config), [project.config])\n"
        "store = None\n"
        "try:\n"
        "    store = project.remote('', lambda event: print(event))\n"
        "except Exception:\n"
        "    traceback.print_exc()\n"
        "print(repr(store), store and vars(store.backend))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=keys.root, env=keys.environment(), capture_output=True, text=True, check=False
    )
    assert CANARY not in done.stdout + done.stderr
    assert "Project" in done.stdout, done.stderr


def test_lock_note(keys: World) -> None:
    """Item 76: what a lock says about its holder, and what other users may read of it, holds no key."""
    keys.ok("run", "-n", "one", "-o", "out.txt", f"echo {'x' * 10} > out.txt")
    for path in keys.root.rglob("*lock*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()
    assert os.path.exists(keys.root / "dvcx.lock")
