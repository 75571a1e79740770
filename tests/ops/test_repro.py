"""repro: what is stale runs, in order, and nothing else; failures leave everything as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import Conflict, IntegrityError, NotFound, UsageError
from dvcx.events import Noted, StageBegan, StageEnded, Warned
from dvcx.io.hashing import digest
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.commit import commit
from dvcx.ops.repro import Reproduced, StageRun, repro
from dvcx.ops.status import status
from dvcx.project import Project, open_project
from tests.cli.runner import environment
from tests.ops.trying import again, commit_all, lock, objects, pointer, run_git, setting, text, wipe_cache, write

CHAIN = """\
stages:
  # upper-case letters of what is read, each run is counted
  upper:
    cmd: echo run >> runs-upper; tr a-z A-Z < in > mid
    deps: [in]
    outs: [mid]
  first:
    cmd: echo run >> runs-first; head -c 1 mid > one
    deps: [mid]
    outs: [one]
  last:
    cmd: echo run >> runs-last; cat one > end
    deps: [one]
    outs: [end]
  aside:
    cmd: echo run >> runs-aside; echo aside > other
    outs: [other]
"""


@pytest.fixture
def chain(project: Project) -> Project:
    """in → upper → mid → first → one → last → end, and a stage of its own; `in` is tracked."""
    write(project, {"in": "abc", "dvcx.yaml": CHAIN, ".git/info/exclude": "runs-*\n"})
    add(project, ["in"])
    return again(project)


def hows(result: Reproduced) -> dict[str, str]:
    return {run.stage: run.how for run in result.runs}


def runs(project: Project, stage: str) -> int:
    path = Path(project.root, f"runs-{stage}")
    return len(path.read_text().split()) if path.exists() else 0


ALL_RAN = {"upper": "ran", "first": "ran", "last": "ran", "aside": "ran"}
UNCHANGED = dict.fromkeys(ALL_RAN, "unchanged")


# What runs


def test_everything_once_in_order(chain: Project, events: list[Any]) -> None:
    done = repro(chain, jobs=1, emit=events.append)
    assert hows(done) == ALL_RAN and done.failed == 0
    assert text(chain, "end") == "A"
    first = done.runs[0]
    assert first.reasons == ("never run",) and first.seconds > 0 and first.error == ""
    told = [event for event in events if isinstance(event, StageBegan | StageEnded)]
    order = [(type(event), event.stage) for event in told]
    assert order == [(kind, name) for name in hows(done) for kind in (StageBegan, StageEnded)]
    assert told[0].command == "echo run >> runs-upper; tr a-z A-Z < in > mid"
    again_done = repro(again(chain))
    assert again_done == Reproduced(tuple(StageRun(name, "unchanged", (), 0.0) for name in ALL_RAN), 0)
    assert [runs(chain, name) for name in ALL_RAN] == [1] * 4


def test_the_lock_says_what_was_read_and_written(chain: Project) -> None:
    repro(chain)
    names = digest(b"abc", "xxh128")
    stage = lock(chain)["upper"]
    assert stage["cmd"] == "echo run >> runs-upper; tr a-z A-Z < in > mid"
    assert stage["deps"] == [{"path": "in", "kind": "blob", "hash": names.id, "blake3": names.seal, "size": 3}]
    assert [out["path"] for out in stage["outs"]] == ["mid"] and list(lock(chain)) == sorted(ALL_RAN)
    assert set(text(chain, ".gitignore").split()) == {"/in", "/mid", "/one", "/end", "/other"}
    assert {"dvcx.lock", "dvcx.yaml", ".gitignore"} <= set(run_git(chain, "diff", "--cached", "--name-only").split())
    assert status(chain).clean


def test_an_output_that_comes_out_the_same_stops_the_wave(chain: Project) -> None:
    repro(chain)
    write(chain, {"in": "axyz"})  # the same first letter
    done = repro(chain)
    assert hows(done) == {"upper": "ran", "first": "ran", "last": "unchanged", "aside": "unchanged"}
    assert (runs(chain, "first"), runs(chain, "last")) == (2, 1)


def test_an_edited_tracked_input_is_recorded_first(chain: Project, events: list[Any]) -> None:
    repro(chain)
    write(chain, {"in": "xyz"})
    repro(chain, emit=events.append)
    assert pointer(chain, "in.dvcx")["hash"] == digest(b"xyz", "xxh128").id == lock(chain)["upper"]["deps"][0]["hash"]
    assert any(isinstance(event, Noted) and "recorded in, which was edited" in event.message for event in events)
    Path(chain.root, "in").unlink()
    checkout(again(chain))
    assert text(chain, "in") == "xyz"


def test_a_result_known_from_before_is_restored(chain: Project) -> None:
    repro(chain)
    commit_all(chain, "abc")
    write(chain, {"in": "xyz"})
    repro(chain)
    commit_all(chain, "xyz")
    run_git(chain, "checkout", "-q", "HEAD~1")
    checkout(again(chain))
    assert text(chain, "end") == "A" and hows(repro(again(chain))) == UNCHANGED
    write(chain, {"in": "xyz"})  # back by hand: the lock says abc, but the action is known
    done = repro(again(chain))
    assert hows(done) == {"upper": "restored", "first": "restored", "last": "restored", "aside": "unchanged"}
    assert text(chain, "end") == "X" and done.runs[0].reasons == ("in: changed",)
    assert [runs(chain, name) for name in ("upper", "first", "last")] == [2, 2, 2]
    assert status(again(chain)).clean


def test_a_missing_output_is_put_back_without_running(chain: Project) -> None:
    repro(chain)
    for name in ("mid", "end"):
        Path(chain.root, name).unlink()
    dry = repro(chain, dry_run=True)
    assert hows(dry) == {"upper": "would restore", "first": "unchanged", "last": "would restore", "aside": "unchanged"}
    assert hows(repro(chain)) == {"upper": "restored", "first": "unchanged", "last": "restored", "aside": "unchanged"}
    assert text(chain, "mid") == "ABC" and runs(chain, "upper") == 1


def test_a_missing_output_that_is_nowhere_is_made_again(chain: Project) -> None:
    repro(chain)
    Path(chain.root, "mid").unlink()
    wipe_cache(chain)
    assert hows(repro(again(chain)))["upper"] == "ran"
    assert text(chain, "mid") == "ABC" and runs(chain, "upper") == 2


def test_an_output_edited_by_hand_is_kept_and_replaced(chain: Project, events: list[Any]) -> None:
    repro(chain)
    write(chain, {"mid": "by hand"})
    done = repro(chain, emit=events.append)
    assert hows(done)["upper"] == "restored" and text(chain, "mid") == "ABC"
    (note,) = [event.message for event in events if isinstance(event, Noted) and "kept mid" in event.message]
    identity = digest(b"by hand", "xxh128").id
    assert identity in note
    from dvcx.ops import cache

    cache.get(again(chain), identity, f"{chain.root}/saved")
    assert text(chain, "saved") == "by hand"


def test_a_changed_command_runs_and_only_blanks_do_not(chain: Project) -> None:
    repro(chain)
    write(chain, {"dvcx.yaml": CHAIN.replace("tr a-z A-Z", "tr  a-z   A-Z")})
    assert hows(repro(again(chain))) == UNCHANGED
    write(chain, {"dvcx.yaml": CHAIN.replace("tr a-z A-Z", "tr a-z B-ZA")})
    done = repro(again(chain))
    assert hows(done)["upper"] == "ran" and "command changed" in done.runs[0].reasons[0]
    assert text(chain, "end") == "B"


def test_commands_one_after_another(project: Project) -> None:
    write(project, {"dvcx.yaml": stage("cmd:\n- echo 1 > out\n- 'false'\n- echo 3 > out\nouts: [out]")})
    done = repro(project)
    assert done.failed == 1 and "exited with 1: false" in done.runs[0].error and not Path(project.root, "out").exists()
    write(project, {"dvcx.yaml": text(project, "dvcx.yaml").replace("false", "true")})
    assert hows(repro(again(project))) == {"s": "ran"} and text(project, "out") == "3\n"
    assert lock(project)["s"]["cmd"] == ["echo 1 > out", "true", "echo 3 > out"]


# Which


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"targets": ["first"]}, {"upper": "ran", "first": "ran"}),
        ({"targets": ["one"]}, {"upper": "ran", "first": "ran"}),
        ({"targets": ["aside"]}, {"aside": "ran"}),
        ({"targets": ["dvcx.yaml"]}, ALL_RAN),
        ({"targets": ["first"], "single_item": True}, {"first": "ran"}),
        ({"targets": ["first"], "downstream": True}, {"first": "ran", "last": "ran"}),
        ({"targets": ["upper", "aside"]}, {"upper": "ran", "aside": "ran"}),
    ],
)
def test_targets(chain: Project, options: dict[str, Any], expected: dict[str, str]) -> None:
    write(chain, {"mid": "MID"})
    assert hows(repro(chain, **options)) == expected


def test_targets_that_are_not_there(chain: Project) -> None:
    for target in ("nothing", "in.csv", "in"):
        with pytest.raises(NotFound):
            repro(chain, [target])


def test_force_runs_what_is_fresh(chain: Project) -> None:
    repro(chain)
    done = repro(chain, force=True)
    assert hows(done) == ALL_RAN and done.runs[0].reasons == ("--force",)
    assert hows(repro(chain, ["last"], force=True, single_item=True)) == {"last": "ran"}
    assert [runs(chain, name) for name in ALL_RAN] == [2, 2, 3, 2]


def test_a_dry_run_tells_and_does_nothing(chain: Project) -> None:
    dry = repro(chain, dry_run=True)
    assert hows(dry) == dict.fromkeys(ALL_RAN, "would run") and dry.failed == 0
    assert not Path(chain.root, "mid").exists() and not Path(chain.root, "dvcx.lock").exists()
    repro(chain)
    write(chain, {"in": "other"})
    dry = repro(chain, dry_run=True)
    assert hows(dry) == {"upper": "would run", "first": "might run", "last": "might run", "aside": "unchanged"}
    assert dry.runs[0].reasons == ("in: changed",) and dry.runs[1].reasons == ("mid will be rewritten by upper",)
    assert hows(repro(chain, dry_run=True, force=True)) == dict.fromkeys(ALL_RAN, "would run")
    assert pointer(chain, "in.dvcx")["hash"] == digest(b"abc", "xxh128").id  # not even recorded


# Kinds of stages


def stage(body: str, name: str = "s") -> str:
    return f"stages:\n  {name}:\n    " + "\n    ".join(body.splitlines()) + "\n"


def test_always_changed_and_stages_without_anything(project: Project) -> None:
    write(project, {"dvcx.yaml": stage("cmd: echo run >> runs-s; echo x > out\nalways_changed: true\nouts: [out]")})
    for _ in range(3):
        assert hows(repro(project)) == {"s": "ran"}
    write(project, {"dvcx.yaml": stage("cmd: echo run >> runs-t", "t")})
    for _ in range(2):
        assert hows(repro(again(project))) == {"t": "ran"}
    assert (runs(project, "s"), runs(project, "t")) == (3, 2)


def test_persist_leaves_the_old_output_for_the_command(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cat in >> log\ndeps: [in]\nouts:\n- log: {persist: true}")})
    repro(project)
    write(project, {"in": "2"})
    repro(project)
    assert text(project, "log") == "12" and status(project).clean
    write(project, {"in": "1"})
    assert hows(repro(project)) == {"s": "ran"} and text(project, "log") == "121", "its first result came of another past"
    Path(project.root, "log").unlink()
    assert hows(repro(project)) == {"s": "restored"} and text(project, "log") == "121"
    write(project, {"in": "3", "dvcx.yaml": stage("cmd: cat in >> log; false\ndeps: [in]\nouts:\n- log: {persist: true}")})
    assert repro(again(project)).failed == 1


def test_an_output_that_git_tracks_too_is_told_once(project: Project, events: list[Any]) -> None:
    write(project, {"o": "old", "dvcx.yaml": stage("cmd: echo $A > o\nouts: [o]")})
    run_git(project, "add", "o")
    for _ in range(2):
        repro(again(project), force=True, emit=events.append)
    (told,) = [event for event in events if isinstance(event, Warned)]
    assert told.message == "o: git tracks this output as well" and "git rm -r --cached o;" in told.hint


def test_what_is_missing_says_what_may_be_meant(project: Project) -> None:
    write(project, {"in/data.csv": "1", "params.yaml": "train: {epochs: 1}", "b.json": "{,"})
    wants = ("deps: [in/dat.csv]", "params: [train.epoch]", "params: [param.yaml: [x]]", "deps: [n/o]", "params: [b.json: [x]]")
    told = []
    for want in wants:
        write(project, {"dvcx.yaml": stage(f"cmd: 'true'\n{want}")})
        (run,) = repro(again(project)).runs
        told.append(run.error.split("\n"))
    assert [hint.partition("?")[0] for _, hint in told[:3]] == [
        "did you mean 'in/data.csv'", "did you mean 'train.epochs'", "did you mean 'params.yaml'",
    ]  # fmt: skip
    assert told[3][1].startswith("create it") and told[4][0].startswith("b.json:1:2: ")
    assert told[4][0].endswith("(stage 's' reads it)")


def test_what_is_missing_but_recorded_is_to_be_pulled(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cp in o\ndeps: [in]\nouts: [o]")})
    add(project, ["in"])
    os.unlink(f"{project.root}/in")
    (run,) = repro(again(project)).runs
    assert run.error.split("\n")[1].startswith("dvcx pull in brings what is recorded. Or create it")


def test_a_directory_that_several_stages_fill_is_read_with_its_gitignore(project: Project) -> None:
    fill = "".join(f"  {name}:\n    cmd: mkdir -p d && echo {name} > d/{name}\n    outs: [d/{name}]\n" for name in "xy")
    read = "  {}:\n    cmd: cat d/* > {}\n    deps: ['{}']\n    outs: [{}]\n"
    reads = read.format("r", "r", "d", "r") + read.format("g", "g", "glob:d/*", "g")
    write(project, {"dvcx.yaml": f"stages:\n{fill}{reads}"})
    project = again(project)
    assert set(hows(repro(project)).values()) == {"ran"} and text(project, "d/.gitignore") == "/x\n/y\n"
    assert status(project).clean
    shutil.rmtree(Path(project.root, "d"))
    assert hows(repro(project)) == {"x": "restored", "y": "restored", "r": "unchanged", "g": "unchanged"}
    assert status(project).clean
    for name in ("dvcx.lock", "d/.gitignore"):
        Path(project.root, name).unlink()
    commit(project)
    assert status(project).clean


def test_without_persist_the_command_finds_nothing_old(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cat in >> log; mkdir d; cp in d/x\ndeps: [in]\nouts: [log, d]")})
    repro(project)
    write(project, {"in": "2"})
    assert hows(repro(project)) == {"s": "ran"} and text(project, "log") == "2"


def test_a_frozen_stage_does_not_run(chain: Project) -> None:
    repro(chain)
    write(chain, {"dvcx.yaml": CHAIN.replace("    outs: [one]", "    frozen: true\n    outs: [one]"), "in": "xyz"})
    done = repro(again(chain))
    assert hows(done) == {"upper": "ran", "first": "unchanged", "last": "unchanged", "aside": "unchanged"}
    before = lock(chain)["first"]
    Path(chain.root, "one").unlink()
    assert hows(repro(again(chain)))["first"] == "restored" and text(chain, "one") == "A"
    # It was restored, not made from what is read now: the lock must not say so.
    assert lock(chain)["first"] == before
    write(chain, {"dvcx.yaml": CHAIN})
    assert hows(repro(again(chain)))["first"] == "ran" and text(chain, "one") == "X"


PARAMS = stage("cmd: grep lr params.yaml > out\nparams:\n- train.lr\n- other.json: [a.b]\n- whole.toml:\nouts: [out]")


def test_params_changed_and_missing(project: Project) -> None:
    write(project, {"params.yaml": "train: {lr: 1, other: 2}\n", "other.json": '{"a": {"b": [1]}}', "whole.toml": "x = 1\n"})
    write(project, {"dvcx.yaml": PARAMS})
    assert hows(repro(project)) == {"s": "ran"}
    assert lock(project)["s"]["params"] == {
        "params.yaml": {"train.lr": 1},
        "other.json": {"a.b": [1]},
        "whole.toml": {"x": 1},
    }
    write(project, {"params.yaml": "# comment\ntrain:\n  lr: 1\n  other: 3\n"})  # neither key nor value that is read
    assert hows(repro(project)) == {"s": "unchanged"}
    for file, data, reason in (
        ("params.yaml", "train: {lr: 2}\n", "params.yaml: train.lr 1 → 2"),
        ("other.json", '{"a": {"b": [1, 2]}}', "other.json: a.b"),
        ("whole.toml", "x = 1\ny = 2\n", "whole.toml: y added (2)"),
    ):
        write(project, {file: data})
        done = repro(project)
        assert hows(done) == {"s": "ran"} and done.runs[0].reasons[0].startswith(reason)
    write(project, {"params.yaml": "train: {}\n"})
    done = repro(project)
    assert done.failed == 1 and "params.yaml: train.lr is missing" in done.runs[0].error
    Path(project.root, "params.yaml").unlink()
    done = repro(project)
    assert done.failed == 1 and "params.yaml: is missing" in done.runs[0].error


def test_metrics_kept_in_git_are_restored_too(project: Project) -> None:
    body = "cmd: cp in big; wc -c < in > m.json\ndeps: [in]\nouts: [big]\nmetrics:\n- m.json: {cache: false}"
    write(project, {"dvcx.yaml": stage(body), "in": "1"})
    repro(project)
    commit_all(project)
    first = text(project, "m.json")
    write(project, {"in": "22"})
    repro(project)
    assert text(project, "m.json") != first
    assert "/m.json" not in text(project, ".gitignore").split()
    write(project, {"in": "1"})
    assert hows(repro(project)) == {"s": "restored"}
    assert text(project, "m.json") == first and text(project, "big") == "1" and status(project).clean


def test_directories_in_and_out(project: Project) -> None:
    command = "mkdir -p out/sub; for f in data/*; do cp $f out/sub/; done; ln -s sub out/link; mkdir out/empty"
    body = f"cmd: {command}\ndeps: [data]\nouts: [out]"
    write(project, {"dvcx.yaml": stage(body), "data/a": "1", "data/b": "2"})
    add(project, ["data"])
    repro(again(project))
    write(project, {"data/c": "3"})
    done = repro(again(project))
    assert done.runs[0].reasons == ("data: 1 file added",)
    assert sorted(os.listdir(Path(project.root, "out/sub"))) == ["a", "b", "c"]
    shutil.rmtree(Path(project.root, "out"))
    assert hows(repro(again(project))) == {"s": "restored"}
    assert os.readlink(Path(project.root, "out/link")) == "sub" and Path(project.root, "out/empty").is_dir()


def test_several_files_with_wdir_and_paths_that_climb(project: Project) -> None:
    write(
        project,
        {
            "raw": "abc",
            "dvcx.yaml": stage("cmd: cp ../raw ../prepared\nwdir: work\ndeps: [../raw]\nouts: [../prepared]", "prepare"),
            "models/dvcx.yaml": stage(
                "cmd: cat ../prepared > m; cp m ../report\ndeps: [../prepared]\nouts: [m, ../report]", "train"
            ),
            "work/keep": "",
        },
    )
    done = repro(project)
    assert hows(done) == {"prepare": "ran", "models/dvcx.yaml:train": "ran"}
    assert text(project, "models/m") == text(project, "report") == "abc"
    assert [out["path"] for out in lock(project, "models/dvcx.lock")["train"]["outs"]] == ["../report", "m"]
    assert [dep["path"] for dep in lock(project)["prepare"]["deps"]] == ["raw"]
    assert hows(repro(again(project), ["train"])) == {"prepare": "unchanged", "models/dvcx.yaml:train": "unchanged"}
    write(project, {"raw": "xyz"})
    assert set(hows(repro(again(project), ["models/dvcx.yaml"])).values()) == {"ran"}
    assert text(project, "report") == "xyz" and status(again(project)).clean


def test_the_command_sees_which_stage_it_is(project: Project) -> None:
    write(project, {"dvcx.yaml": stage('cmd: echo "$DVCX_STAGE" > out\nouts: [out]')})
    repro(project)
    assert text(project, "out") == "s\n"


# Failures


FAILING: dict[str, tuple[str, str]] = {
    "exit": ("echo new > out; exit 3", "exited with 3"),
    "killed": ("echo new > out; kill -9 $$", "was killed by SIGKILL"),
    "no output": ("true", "did not write its output out"),
    "writes its input": ("echo new > out; echo more >> in", "its dependency in changed while the command ran"),
    "a link": ("ln -s /etc/passwd out", "symbolic link"),
    "a pipe": ("mkfifo out", "named pipe"),
    "no command": ("no-such-command-anywhere > out", "exited with 127"),
}


@pytest.mark.parametrize(("command", "says"), FAILING.values(), ids=FAILING.keys())
@pytest.mark.parametrize("before", [True, False])
def test_a_failure_leaves_everything_as_it_was(project: Project, command: str, says: str, before: bool) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cp in out; mkdir d; cp in d/x\ndeps: [in]\nouts: [out, d]")})
    if before:
        repro(project)
    locked = text(project, "dvcx.lock") if before else ""
    write(project, {"in": "2", "dvcx.yaml": stage(f"cmd: mkdir d; {command}\ndeps: [in]\nouts: [out, d]")})
    done = repro(again(project))
    assert done.failed == 1 and hows(done) == {"s": "failed"} and says in done.runs[0].error
    if before:
        assert (text(project, "out"), text(project, "d/x"), text(project, "dvcx.lock")) == ("1", "1", locked)
    else:
        assert not os.path.lexists(f"{project.root}/out") and not Path(project.root, "d").exists()
        assert not Path(project.root, "dvcx.lock").exists()
    assert os.listdir(project.staging_dir) == [] if Path(project.staging_dir).exists() else True
    if command.startswith("echo new"):
        (kept,) = Path(project.state_dir, "failed").rglob("*-out")
        assert kept.read_text() == "new\n"


def test_a_failure_ends_it_unless_told_to_go_on(chain: Project) -> None:
    broken = CHAIN.replace("head -c 1 mid > one", "exit 1")
    write(chain, {"dvcx.yaml": broken})
    done = repro(again(chain), jobs=1)
    assert hows(done)["first"] == "failed" and "last" not in hows(done) and done.failed == 1
    done = repro(again(chain), keep_going=True)
    assert hows(done) == {"upper": "unchanged", "first": "failed", "last": "skipped", "aside": hows(done)["aside"]}
    assert text(chain, "other") == "aside\n"
    assert done.failed == 2 and done.runs[2].error == "a stage it needs failed"


def test_a_missing_input_is_named(chain: Project) -> None:
    done = repro(chain, ["last"], single_item=True)
    assert done.failed == 1 and "one: is missing" in done.runs[0].error


def test_an_input_that_may_not_be_tracked_is_named(project: Project) -> None:
    write(project, {"dvcx.yaml": stage("cmd: cat pipe > out\ndeps: [pipe]\nouts: [out]")})
    os.mkfifo(Path(project.root, "pipe"))
    from dvcx.errors import UnsafeInput

    with pytest.raises(UnsafeInput, match="pipe: a named pipe"):
        if repro(project).failed:
            raise UnsafeInput(repro(project).runs[0].error, "")


def test_records_that_contradict_are_refused_before_anything_runs(project: Project) -> None:
    for body, error, says in (
        ("stages:\n  a: {cmd: x, deps: [two], outs: [one]}\n  b: {cmd: x, deps: [one], outs: [two]}\n", Conflict, "circle"),
        ("stages:\n  a: {cmd: x, outs: [one]}\n  b: {cmd: x, outs: [one]}\n", Conflict, "two owners"),
        ("stages:\n  a: {cmd: x, outs: [one]}\n  b: {cmd: x, outs: [one/two]}\n", Conflict, "inside"),
        ("stages:\n  a: {cmd: x, outz: [one]}\n", UsageError, "outz"),
        ("stages: {a: [\n", IntegrityError, "broken YAML"),
    ):
        write(project, {"dvcx.yaml": body})
        with pytest.raises(error, match=says):
            repro(again(project))
        assert not Path(project.root, "dvcx.lock").exists()


def test_a_run_in_a_run_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = f"{sys.executable} -m dvcx repro"
    write(project, {"dvcx.yaml": stage(f"cmd: {inner} 2> said || true; echo > out\nouts: [out]")})
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    assert hows(repro(project)) == {"s": "ran"}
    assert "runs 'dvcx repro' in its own project" in text(project, "said") and time.monotonic() - began < 30


# A killed run


def started(project: Project) -> subprocess.Popen[bytes]:
    """`dvcx repro` in a process of its own, once its command says it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvcx", "repro"],
        cwd=project.root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not Path(project.root, "running").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


SLOW = "echo $$ > pid; echo > running; sleep 60"


@pytest.mark.parametrize("cached", [True, False])
def test_outputs_of_a_killed_run_come_back(project: Project, cached: bool) -> None:
    outs = "outs: [out, d]" if cached else "outs:\n- out: {cache: false}\n- d: {cache: false}"
    write(project, {"in": "1", "dvcx.yaml": stage(f"cmd: cp in out; mkdir d; cp in d/x\ndeps: [in]\n{outs}")})
    repro(project)
    write(project, {"dvcx.yaml": stage(f"cmd: {SLOW}\ndeps: [in]\n{outs}")})
    process = started(project)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    os.kill(int(text(project, "pid")), signal.SIGKILL)
    assert not Path(project.root, "out").exists() and not Path(project.root, "d").exists()
    write(project, {"other": "x"})
    add(again(project), ["other"])  # another command clears up what is half-written, and spares them
    checkout(again(project), ["other"])
    repro(again(project), ["s"], dry_run=True)
    write(project, {"dvcx.yaml": stage(f"cmd: 'false'\ndeps: [in]\n{outs}")})
    assert repro(again(project)).failed == 1
    assert text(project, "out") == "1" and text(project, "d/x") == "1"
    assert not [name for name in os.listdir(project.staging_dir) if name.startswith("aside-")]


def test_old_outputs_without_a_manifest_are_never_thrown_away(project: Project) -> None:
    aside = Path(project.staging_dir, "aside-0123")
    aside.mkdir(parents=True)
    (aside / "0").write_text("precious")
    write(project, {"dvcx.yaml": stage("cmd: echo > out\nouts: [out]")})
    repro(project)
    kept = [path for path in Path(project.root, ".dvcx").rglob("0") if path.is_file()]
    assert [path.read_text() for path in kept] == ["precious"]


def test_an_interrupt_puts_outputs_back(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cp in out\ndeps: [in]\nouts: [out]")})
    repro(project)
    write(project, {"dvcx.yaml": stage(f"cmd: echo half > out; {SLOW}\ndeps: [in]\nouts: [out]")})
    process = started(project)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None and Path(project.root, "out").exists()  # the first lets it finish
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert text(project, "out") == "1" and hows(repro(project, dry_run=True)) == {"s": "would run"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(text(project, "pid")), 0)


def test_two_at_once_wait_for_one_another(project: Project) -> None:
    write(project, {"dvcx.yaml": stage("cmd: echo > running; sleep 0.5; echo run >> runs-s; echo x > out\nouts: [out]")})
    first = started(project)
    assert hows(repro(project)) == {"s": "unchanged"}
    assert first.wait(timeout=30) == 0 and runs(project, "s") == 1


# Around it


def test_without_git(tmp_path: Path) -> None:
    from dvcx.ops.init import init

    init(str(tmp_path / "p"), git=False)
    project = open_project(str(tmp_path / "p"))
    write(project, {"in": "abc", "dvcx.yaml": CHAIN})
    assert hows(repro(project)) == ALL_RAN and not Path(project.root, ".gitignore").exists()
    assert hows(repro(project)) == UNCHANGED


def test_git_kept_sources_are_no_pointers(project: Project) -> None:
    write(project, {"code.sh": "echo 1 > out\n", "dvcx.yaml": stage("cmd: sh code.sh\ndeps: [code.sh]\nouts: [out]")})
    repro(project)
    write(project, {"code.sh": "echo 2 > out\n"})
    assert hows(repro(project)) == {"s": "ran"} and text(project, "out") == "2\n"
    assert not Path(project.root, "code.sh.dvcx").exists()


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_linked_outputs_never_change_the_cache(project: Project, link: str) -> None:
    project = setting(project, cache_link=(link, "copy"), cache_pack="never")
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: cp in out\ndeps: [in]\nouts: [out]")})
    repro(project)
    Path(project.root, "out").unlink()
    assert hows(repro(project)) == {"s": "restored"}
    write(project, {"in": "22"})
    assert hows(repro(project)) == {"s": "ran"}
    write(project, {"in": "1"})
    assert hows(repro(project)) == {"s": "restored"} and text(project, "out") == "1"


def test_a_forged_action_is_not_believed(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": stage("cmd: echo run >> runs-s; cp in out\ndeps: [in]\nouts: [out]")})
    repro(project)
    (path,) = Path(project.cache_dir, "actions").glob("*/*.json")
    for data in (b"", b"{}", path.read_bytes()[:-9], path.read_bytes().replace(b'"out"', b'"../x"')):
        path.chmod(0o644)
        path.write_bytes(data)
        Path(project.root, "dvcx.lock").unlink()
        Path(project.root, "out").unlink()
        assert hows(repro(again(project))) == {"s": "ran"}
        assert text(project, "out") == "1"
        (path,) = Path(project.cache_dir, "actions").glob("*/*.json")
    record = json.loads(path.read_bytes())
    assert record["key"] == path.stem and objects(project) > 0


def test_nothing_to_run(project: Project) -> None:
    assert repro(project) == Reproduced((), 0) == repro(project, dry_run=True)
    with pytest.raises(NotFound):
        repro(project, ["x"])
