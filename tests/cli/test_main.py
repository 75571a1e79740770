"""From words to exit code: errors, signals, pipes, bugs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvcx.cli.trace import redact
from tests.cli.runner import dvcx_called, dvcx_run, environment, script_run

BUG = "import dvcx\ndvcx.__file__ = None"
SLOW = """
import os, signal, threading, time, dvcx
class Slow:
    def __fspath__(self):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.NUMBER)).start()
        time.sleep(30)
dvcx.__file__ = Slow()
"""


def test_an_unknown_verb_says_what_may_have_been_meant(tmp_path: Path) -> None:
    ran = dvcx_called("stauts", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[0] == "error: no such command 'dvcx stauts'"
    assert "did you mean 'status'?" in ran.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["help"], "dvcx COMMAND --help explains one"),
        (["imports"], "dvcx --help lists the commands"),
        (["config", "core.remote", "origin"], "dvcx config set KEY VALUE"),
        (["--json", "status"], "dvcx COMMAND --json"),
        (["metrics", "-q", "show"], "dvcx metrics COMMAND -q"),
        (["metrics", "show", "--rev"], "dvcx metrics show --help"),
        (["push", "--remote"], "dvcx push --help"),
        (["metrics", "diff", "a", "b", "c"], "more words than it takes: c"),
        (["metrics", "show", "-n", "3"], "add --all-commits (-A)"),
        (["push", "-j", "many"], "'many' is not a whole number from 0 on"),
        (["metrics", "show", "--precision", "18"], "'18' is not a whole number from 0 to 17"),
    ],
)
def test_habits_from_elsewhere_get_a_hint(words: list[str], hint: str, tmp_path: Path) -> None:
    ran = dvcx_called(*words, cwd=tmp_path)
    assert ran.returncode == 2
    assert hint in ran.stdout + ran.stderr


def test_an_unknown_verb_with_json(tmp_path: Path) -> None:
    ran = dvcx_called("stauts", "--json", cwd=tmp_path)
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["error"]["message"] == "no such command 'dvcx stauts'"


def test_an_unknown_verb_of_a_group(tmp_path: Path) -> None:
    ran = dvcx_called("remote", "lst", cwd=tmp_path)
    assert ran.returncode == 2
    assert "did you mean 'list'?" in ran.stderr


def test_an_unknown_option_says_what_may_have_been_meant(tmp_path: Path) -> None:
    ran = dvcx_called("add", "--forse", "x", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        "error: no such option --forse",
        "hint: did you mean '--force'? dvcx add --help shows how it is used",
    ]


def test_a_missing_argument_is_a_usage_error(tmp_path: Path) -> None:
    ran = dvcx_called("add", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: missing argument 'PATH...'\nhint: ")


@pytest.mark.parametrize("words", [(), ("remote",)])
def test_no_command_prints_help_on_stderr(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = dvcx_called(*words, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("Usage: dvcx")


@pytest.mark.parametrize("verb", ["status", "repro", "push", "list", "dag"])
def test_no_project_exits_with_3(tmp_path: Path, verb: str) -> None:
    ran = dvcx_called(verb, cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    assert ran.stderr.startswith("error: ")
    assert "\nhint: " in ran.stderr


def test_an_error_as_json(tmp_path: Path) -> None:
    ran = dvcx_called("status", "--json", cwd=tmp_path)
    assert ran.returncode == 3
    error = json.loads(ran.stdout)["error"]
    assert error["exit_code"] == 3
    assert error["kind"] == "NoProject"
    assert error["message"]
    assert error["hint"]
    assert ran.stderr == ""


def test_a_usage_error_as_json(tmp_path: Path) -> None:
    ran = dvcx_called("add", "--json", cwd=tmp_path)
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["error"]["kind"] == "UsageError"


def test_a_bug_leaves_a_trace_without_secrets(tmp_path: Path) -> None:
    (tmp_path / ".dvcx").mkdir()
    (tmp_path / ".dvcx" / "config.local.toml").write_text('[remote.o]\nsecret_access_key = "configured-secret"\n')
    script = BUG + "\nsys.argv.append('--verbose')"
    ran = script_run(script, "version", cwd=tmp_path, AWS_SECRET_ACCESS_KEY="environment-secret")
    assert ran.returncode == 70
    assert ran.stdout == ""
    assert "this is a bug in dvcx" in ran.stderr
    assert "Traceback" not in ran.stderr
    [log] = (tmp_path / ".dvcx" / "state" / "logs").iterdir()
    assert str(log) in ran.stderr
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_bug_outside_a_project_leaves_its_trace_in_the_temporary_directory(tmp_path: Path) -> None:
    logs = tmp_path / "tmp"
    logs.mkdir()
    ran = script_run(BUG, "version", "--json", cwd=tmp_path, TMPDIR=str(logs))
    assert ran.returncode == 70
    assert json.loads(ran.stdout)["error"]["exit_code"] == 70
    assert len(list(logs.glob("dvcx-*.log"))) == 1


def test_secrets_in_a_bug_are_redacted(tmp_path: Path) -> None:
    script = (
        "import dvcx\nclass Path:\n    def __fspath__(self): raise ValueError('open s3://me:hunter2@host: the-secret')"
    )
    ran = script_run(
        script + "\ndvcx.__file__ = Path()",
        "version",
        cwd=tmp_path,
        AWS_SECRET_ACCESS_KEY="the-secret",
        TMPDIR=str(tmp_path),
    )
    [log] = tmp_path.glob("dvcx-*.log")
    for text in (ran.stderr, log.read_text()):
        assert "s3://[redacted]@host: [redacted]" in text
        assert "hunter2" not in text
        assert "the-secret" not in text


def test_redact_covers_urls_and_queries() -> None:
    text = redact("https://a:b@c/d?X-Amz-Signature=123abc&x=1 key", ["key"])
    assert text == "https://[redacted]@c/d?X-Amz-Signature=[redacted]&x=1 [redacted]"


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_it_with_their_code(tmp_path: Path, number: str, code: int) -> None:
    ran = script_run(SLOW.replace("NUMBER", number), "version", cwd=tmp_path)
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("words", [("--help",), ("version",), ("completion", "bash")])
def test_a_reader_that_went_away(tmp_path: Path, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "dvcx", *words],
            cwd=tmp_path,
            env=environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert ran.returncode == 141
    assert ran.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "dvcx", "version"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 8
    assert ran.stderr.startswith("error: standard output: no space left")


def test_closed_descriptors_do_no_harm(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m dvcx version <&- >&-"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    ran = subprocess.run(["sh", "-c", f"'{sys.executable}' -m dvcx status 2>&-"], cwd=tmp_path, env=environment(), check=False)
    assert ran.returncode == 3, "an error nobody can read has its exit code"


def test_a_name_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    ran = dvcx_run("stätus\x1b[31m", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert ran.returncode == 2
    assert "st\\xe4tus\\x1b[31m" in ran.stderr


def test_every_verb_has_help_examples_and_exit_codes() -> None:
    from dvcx.cli.frame import Group, Verb, help_parts, load
    from dvcx.cli.verbs import EXIT_CODES, VERBS

    for name in VERBS:
        command = load(name)
        assert command is not None
        inner = list(command.commands.values()) if isinstance(command, Group) else [command]
        for one in inner:
            assert isinstance(one, Verb)
            text, examples, exits = help_parts(one)
            assert text.split("\n")[0].rstrip("\\")
            assert examples, one.name
            assert all(code in EXIT_CODES for code in exits)
            assert {"json", "quiet", "verbose"} <= {param.name for param in one.params}
