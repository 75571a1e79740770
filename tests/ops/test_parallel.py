"""repro: stages side by side, what they share, what ends them, and what is remembered of each run."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import Busy, NotFound
from dvcx.events import Noted, StageOutput
from dvcx.io import processes
from dvcx.io import runs as run_records
from dvcx.ops import config
from dvcx.ops.log import log
from dvcx.ops.repro import Reproduced, repro
from dvcx.ops.runs import runs
from dvcx.ops.show import show
from dvcx.ops.status import status
from dvcx.project import Project
from tests.cli.runner import environment
from tests.ops.trying import again, lock, objects, run_git, setting, text, write


def stages(project: Project, **bodies: dict[str, Any]) -> Project:
    write(project, {"dvcx.yaml": json.dumps({"stages": bodies})})
    return again(project)


def hows(result: Reproduced) -> dict[str, str]:
    return {run.stage: run.how for run in result.runs}


def timed(name: str, seconds: float = 0.3) -> str:
    """A command that writes when it began and when it ended."""
    return f"date +%s.%N > {name}.t; sleep {seconds}; date +%s.%N >> {name}.t"


def spans(project: Project, *names: str) -> list[tuple[float, float]]:
    found = []
    for name in names:
        began, ended = map(float, text(project, f"{name}.t").split())
        found.append((began, ended))
    return found


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] < second[1] and second[0] < first[1]


def start(project: Project, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvcx", "repro", *words],
        cwd=project.root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for(project: Project, *paths: str) -> None:
    until = time.monotonic() + 30
    while not all(Path(project.root, path).exists() for path in paths):
        assert time.monotonic() < until, paths
        time.sleep(0.02)


# Side by side


def test_stages_run_side_by_side_and_mutexes_and_resources_are_honoured(project: Project) -> None:
    """One run for all: a and b share a mutex, c and d one token, e needs more than there is."""
    project = stages(
        project,
        a={"cmd": timed("a"), "mutex": "db"},
        b={"cmd": timed("b"), "mutex": ["db"]},
        c={"cmd": timed("c"), "resources": {"licence": 1}},
        d={"cmd": timed("d"), "resources": {"licence": 1}},
        e={"cmd": timed("e"), "resources": {"cpu": 99}},
        f={"cmd": timed("f")},
    )
    assert set(hows(repro(project, jobs=6)).values()) == {"ran"}
    a, b, c, d, e, f = spans(project, *"abcdef")
    assert not overlap(a, b) and not overlap(c, d)
    assert any(overlap(one, other) for one in (a, b) for other in (c, d))
    assert any(overlap(f, other) for other in (a, b, c, d))
    assert not any(overlap(e, other) for other in (a, b, c, d, f))


def test_capacities_come_from_the_settings(project: Project) -> None:
    project = stages(project, **{name: {"cmd": timed(name), "resources": {"licence": 1}} for name in "ab"})
    repro(setting(project, resources_licence=2), jobs=4)
    assert overlap(*spans(project, "a", "b"))


def test_the_same_bytes_stop_the_wave_there_also_in_parallel(project: Project) -> None:
    bodies = {}
    for name in "abcd":
        bodies[f"{name}1"] = {"cmd": f"head -c 1 in > {name}1", "deps": ["in"], "outs": [f"{name}1"]}
        bodies[f"{name}2"] = {"cmd": f"cp {name}1 {name}2", "deps": [f"{name}1"], "outs": [f"{name}2"]}
    write(project, {"in": "abc"})
    project = stages(project, **bodies)
    assert set(hows(repro(project, jobs=4)).values()) == {"ran"}
    write(project, {"in": "axx"})
    assert hows(repro(project, jobs=4)) == {name: "ran" if name.endswith("1") else "unchanged" for name in bodies}
    assert sorted(lock(project)) == sorted(bodies) and status(project).clean
    assert not list(Path(project.state_dir).glob("journal-*")) and objects(project) == 1
    assert set(text(project, ".gitignore").split()) == {f"/{name}" for name in bodies}


def test_lines_come_whole_and_with_the_names_of_their_stages(project: Project, events: list[Any]) -> None:
    project = stages(project, a={"cmd": "printf 'one\\ntwo'"}, b={"cmd": "echo three >&2"})
    repro(project, jobs=2, emit=events.append)
    told = {(event.stage, event.data, event.error) for event in events if isinstance(event, StageOutput)}
    assert told == {("a", b"one\n", False), ("a", b"two\n", False), ("b", b"three\n", True)}
    events.clear()
    repro(project, ["a"], jobs=1, emit=events.append)
    (event,) = (event for event in events if isinstance(event, StageOutput))
    assert event.alone and event.data == b"one\ntwo"


def test_a_failure_lets_the_others_finish_and_starts_no_more(project: Project) -> None:
    project = stages(
        project,
        bad={"cmd": "sleep 0.2; exit 3"},
        slow={"cmd": "sleep 0.6; echo > slow", "outs": ["slow"]},
        later={"cmd": "cp slow later", "deps": ["slow"], "outs": ["later"]},
    )
    done = repro(project, jobs=2)
    assert hows(done) == {"bad": "failed", "slow": "ran"} and "slow" in lock(project)
    done = repro(again(project), jobs=2, keep_going=True)
    assert hows(done) == {"bad": "failed", "slow": "unchanged", "later": "ran"}


# Interrupts and kills


def test_the_first_interrupt_lets_running_stages_finish(project: Project) -> None:
    project = stages(
        project,
        a={"cmd": "echo > began; sleep 1; echo > a", "outs": ["a"]},
        b={"cmd": "cp a b", "deps": ["a"], "outs": ["b"]},
    )
    running = start(project)
    wait_for(project, "began")
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 130 and b"may finish" in said
    assert list(lock(project)) == ["a"] and not Path(project.root, "b").exists()
    assert hows(repro(again(project))) == {"a": "unchanged", "b": "ran"}


def test_a_terminate_ends_all_at_once(project: Project) -> None:
    body = {"cmd": "echo $$ > pid; echo half > a; echo > began; sleep 60", "outs": ["a"]}
    project = stages(project, a=body)
    running = start(project)
    wait_for(project, "began")
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode in (143, -15)
    assert not Path(project.root, "a").exists() and not Path(project.root, "dvcx.lock").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(text(project, "pid")), 0)
    assert next(iter(runs(project).items)).state == "stopped"


def test_a_killed_repro_loses_no_finished_stage_and_its_command_is_ended(project: Project) -> None:
    """Items 3, 5, 11: what was finished is recorded, what was not runs again, and nobody writes beside it."""
    loop = "while true; do echo old >> b; sleep 0.05; done"
    quick = [f"q{number}" for number in range(5)]
    bodies: dict[str, dict[str, Any]] = {name: {"cmd": f"echo {name} > {name}", "outs": [name]} for name in quick}
    bodies["b"] = {"cmd": f"echo $$ > pid; echo > began; {loop}", "deps": quick, "outs": ["b"]}
    project = stages(project, **bodies)
    running = start(project, "-j", "2")
    wait_for(project, "began", "pid")
    running.kill()
    running.communicate()
    os.kill(int(text(project, "pid")), 0)  # it lives on
    assert {item.stage: item.state for item in runs(project).items}["b"] == "lost"
    bodies["b"]["cmd"] = "echo new > b"
    project = stages(project, **bodies)
    done = repro(project, jobs=2)
    assert hows(done) == {**dict.fromkeys(quick, "unchanged"), "b": "ran"}
    time.sleep(0.2)
    assert text(project, "b") == "new\n" and sorted(lock(project)) == sorted(bodies) and status(again(project)).clean
    assert {f"/{name}" for name in quick} <= set(text(project, ".gitignore").split())


def test_what_is_noted_counts_before_it_is_in_the_lock(project: Project) -> None:
    project = stages(project, a={"cmd": "echo > a", "outs": ["a"]}, b={"cmd": "echo > began; sleep 60", "deps": ["a"]})
    repro(project, ["a"])
    before = text(project, "dvcx.lock")
    Path(project.root, "dvcx.lock").unlink()
    from dvcx.core.records import decode_lock, encode_journal, encode_journal_line
    from dvcx.io.hashing import seal
    from dvcx.ops import records

    entry = decode_lock(before.encode(), "dvcx.lock")["a"]
    journal = Path(records.journal_path(project.state_dir, "dvcx.lock"))
    whole = encode_journal(seal(b"").hex()) + encode_journal_line("a", entry)
    for data, known in ((whole, True), (whole + b'{"stage": "b", "en', True), (whole[:-1], False), (b"\0\1", False)):
        journal.write_bytes(data)
        assert ("a" in records.load(project).lock) is known
    journal.write_bytes(whole)
    write(project, {"dvcx.lock": before.replace('"a"', '"z"')})  # another lock now, by git say
    assert set(records.load(project).lock) == {"z"}


def test_two_at_once_run_each_stage_once(project: Project) -> None:
    """Item 21: side by side in one project; the second takes the results of the first."""
    bodies = {
        name: {"cmd": f"echo run >> runs-{name}; sleep 0.4; echo {name} > {name}", "outs": [name]} for name in ("a", "b", "c")
    }
    bodies["end"] = {"cmd": "echo run >> runs-end; cat a b c > end", "deps": ["a", "b", "c"], "outs": ["end"]}
    bodies["always"] = {"cmd": "echo > always-began; sleep 1; echo run >> runs-always", "always_changed": True}
    project = stages(project, **bodies)
    both = [start(project, "-j", "3"), start(project, "-j", "3")]
    said = [running.communicate(timeout=60)[0] for running in both]
    assert [running.returncode for running in both] == [0, 0], said
    assert [text(project, f"runs-{name}") for name in ("a", "b", "c", "end")] == ["run\n"] * 4
    assert text(project, "end") == "a\nb\nc\n" and sorted(lock(project)) == sorted(bodies)


def test_two_at_once_share_what_there_is(project: Project) -> None:
    """Mutexes, tokens and GPUs hold among all commands of the project."""
    config.set_(project, "resources.gpu", "2", local=True)
    needs: dict[str, dict[str, Any]] = {
        "mutex": {"mutex": "db"},
        "token": {"resources": {"licence": 1}},
        "gpu": {"resources": {"gpu": 1.5}},
    }
    bodies = {f"{name}{side}": {"cmd": timed(f"{name}{side}"), **need} for name, need in needs.items() for side in "ab"}
    project = stages(project, **bodies)
    both = [start(project, "-j", "9", *(f"{name}{side}" for name in needs)) for side in "ab"]
    said = [running.communicate(timeout=60)[0] for running in both]
    assert [running.returncode for running in both] == [0, 0], said
    assert not any(overlap(*spans(project, f"{name}a", f"{name}b")) for name in needs)
    assert not [name for name in os.listdir(f"{project.state_dir}/stages/shares") if name.isdecimal()]


def test_what_a_killed_one_held_is_free(project: Project) -> None:
    """Also what its command would hold on: that is ended."""
    held = {"mutex": "db", "resources": {"licence": 1}}
    project = stages(project, a={"cmd": "echo $$ > a.pid; sleep 60", **held}, b={"cmd": "echo > b", **held})
    running = start(project, "a")
    wait_for(project, "a.pid")
    with pytest.raises(Busy):
        repro(setting(project, core_lock_timeout=0), ["b"])
    waiting = start(project, "b")
    assert waiting.stdout is not None and any(b"waiting for" in line for line in waiting.stdout)
    running.kill()
    running.communicate()
    said, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, said
    assert not processes.belongs(int(text(project, "a.pid")), "DVCX_STAGE=a")


def test_who_does_not_want_to_wait_is_told(project: Project) -> None:
    project = stages(project, a={"cmd": "echo > began; sleep 60"})
    running = start(project)
    wait_for(project, "began")
    try:
        with pytest.raises(Busy, match=f"busy: pid {running.pid}"):
            repro(setting(project, core_lock_timeout=0))
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)


# Retries, limits, what is remembered


def test_a_stage_is_tried_again(project: Project, events: list[Any]) -> None:
    flaky = "echo try >> tries; echo $(wc -l < tries) > out; test $(wc -l < tries) -ge 3"
    project = stages(project, a={"cmd": flaky, "outs": ["out"], "retries": 2})
    assert hows(repro(project, emit=events.append)) == {"a": "ran"}
    assert text(project, "out").strip() == "3"
    notes = [event.message for event in events if isinstance(event, Noted) and "attempt" in event.message]
    assert len(notes) == 2 and "attempt 2 of 3 follows" in notes[0]
    found = runs(project).items
    assert [(item.state, item.attempt, item.exit_code) for item in found] == [("ran", 3, 0), ("failed", 2, 1), ("failed", 1, 1)]
    kept = show(project, found[-1].run).kept
    assert Path(kept, "0-out").read_text().strip() == "1"


def test_a_stage_that_takes_too_long_is_ended(project: Project) -> None:
    project = stages(project, a={"cmd": "echo $$ > pid; sleep 300 & sleep 300", "timeout": 0.5})
    began = time.monotonic()
    done = repro(project)
    assert done.failed == 1 and "took longer than its timeout (0.5 s)" in done.runs[0].error and time.monotonic() - began < 30
    assert not processes.belongs(int(text(project, "pid")), "DVCX_STAGE=a")


def test_what_is_remembered_of_a_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary-76")
    work = "import sys, time; print('out'); print('err', file=sys.stderr); b = bytearray(70 << 20); time.sleep(0.8)\n"
    write(project, {"work.py": work})
    write(project, {"in": "1"})
    run_git(project, "add", "-A")
    run_git(project, "commit", "-qm", "x")
    project = stages(project, a={"cmd": f"{sys.executable} work.py", "deps": ["in"]}, b={"cmd": "echo -n bad; exit 7"})
    repro(project, ["a"])
    repro(project, ["b"])
    assert [(item.stage, item.state, item.exit_code) for item in runs(project).items] == [("b", "failed", 7), ("a", "ran", 0)]
    found = show(project, "a")
    assert found == show(project, found.run) == show(project, found.run[-4:])
    assert found.command == (f"{sys.executable} work.py",) and "never run" in found.reasons
    assert found.commit == run_git(project, "rev-parse", "HEAD").strip() and found.host == os.uname().nodename
    assert 0 < found.seconds < 30 and found.user_seconds + found.system_seconds > 0 and found.memory > 60 << 20
    assert found.interpreter == sys.executable and found.version.startswith("3.") and len(found.packages) == 32
    said = log(project, "a")
    assert sorted(said.text.split()) == ["err", "out"] and said.run == found.run
    assert log(project).text == "bad" and log(project).state == "failed"
    for path in Path(project.state_dir, "runs").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or b"canary-76" not in path.read_bytes()
    for ask in (lambda: log(project, "z"), lambda: runs(project, "z"), lambda: show(project, "z")):
        with pytest.raises(NotFound):
            ask()


def test_old_runs_and_what_failed_runs_wrote_are_forgotten(project: Project) -> None:
    project = stages(project, a={"cmd": "echo bad > out; echo said; false", "outs": ["out"]})
    for _ in range(12):
        assert repro(project).failed == 1
    assert len(os.listdir(f"{project.state_dir}/failed")) == 10 and len(runs(project, limit=0).items) == 12
    run_records.prune(project.state_dir, runs=3)
    assert len(runs(project, limit=0).items) == 3 and len(runs(project, limit=2).items) == 2
    run_records.prune(project.state_dir, size=0)
    assert len(runs(project, limit=0).items) == 1


def test_a_command_that_changes_its_parameters_is_an_error(project: Project) -> None:
    write(project, {"params.yaml": "lr: 1\nother: 1\n"})
    project = stages(project, a={"cmd": "echo 'lr: 2' > params.yaml; echo > out", "params": ["lr"], "outs": ["out"]})
    done = repro(project)
    assert done.failed == 1 and "its dependency params.yaml changed while the command ran" in done.runs[0].error
    assert not Path(project.root, "out").exists() and not Path(project.root, "dvcx.lock").exists()


def test_a_child_left_behind_holds_up_nobody(project: Project) -> None:
    project = stages(project, a={"cmd": "sleep 300 & echo $! > pid"})
    began = time.monotonic()
    assert hows(repro(project)) == {"a": "ran"} and time.monotonic() - began < 30
    os.kill(int(text(project, "pid")), signal.SIGKILL)
