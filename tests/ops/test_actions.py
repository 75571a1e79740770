"""Results of other clones are restored, from the cache first, then from remotes; repro --pull brings only what must be here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import NotFound, RemoteFailed, StageFailed
from dvcx.events import Noted, Warned
from dvcx.ops import actions
from dvcx.ops.add import add
from dvcx.ops.check import check
from dvcx.ops.exec_action import exec_action, make_request
from dvcx.ops.push import push
from dvcx.ops.repro import Reproduced, repro
from dvcx.ops.status import status
from dvcx.ops.why import why
from dvcx.project import Project
from tests.io.store.conftest import rclone, s3_server, seaweedfs  # noqa: F401
from tests.ops.trying import again, clone, commit_all, lock, objects, run_git, setting, text, with_remote, write
from tests.servers import S3Server

CHAIN = """\
stages:
  upper: {cmd: echo run >> runs-upper; tr a-z A-Z < in > mid, deps: [in], outs: [mid]}
  first: {cmd: echo run >> runs-first; head -c 1 mid > one, deps: [mid], outs: [one]}
  last: {cmd: echo run >> runs-last; cat one > end, deps: [one], outs: [end]}
"""


@pytest.fixture
def chain(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """in → upper → mid → first → one → last → end; run, committed and pushed."""
    write(project, {"in": "abc", "dvcx.yaml": CHAIN, ".git/info/exclude": "runs-*\n"})
    add(project, ["in"])
    shared = with_remote(project, tmp_path_factory.mktemp("remote"))
    repro(shared)
    commit_all(shared)
    push(shared)
    return again(shared)


@pytest.fixture
def other(chain: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another clone, with nothing but what git has."""
    cloned = clone(chain, tmp_path_factory.mktemp("clone") / "c")
    write(cloned, {".git/info/exclude": "runs-*\n"})
    return cloned


def hows(result: Reproduced) -> dict[str, str]:
    return {run.stage: run.how for run in result.runs}


def ran(project: Project) -> list[str]:
    return sorted(path.name[5:] for path in Path(project.root).glob("runs-*"))


def here(project: Project) -> list[str]:
    return [name for name in ("in", "mid", "one", "end") if Path(project.root, name).exists()]


def without_lock(project: Project) -> None:
    Path(project.root, "dvcx.lock").unlink()


# Restored from remotes


def test_a_result_of_another_clone_is_restored(other: Project) -> None:
    without_lock(other)
    write(other, {"in": "abc"})
    done = repro(other, jobs=1)
    assert hows(done) == {"upper": "restored", "first": "restored", "last": "restored"}
    assert here(other) == ["in", "mid", "one", "end"] and ran(other) == []
    assert status(again(other)).clean
    assert run_git(other, "status", "--porcelain", "dvcx.lock") == ""  # the very same lock


def test_a_dry_run_knows_what_the_remote_knows(other: Project) -> None:
    from dvcx.ops.checkout import checkout
    from dvcx.ops.fetch import fetch

    fetch(other, ["in"])
    checkout(other, ["in"])
    without_lock(other)
    assert set(hows(repro(other, dry_run=True)).values()) == {"would restore"}
    assert set(hows(repro(other)).values()) == {"restored"} and ran(other) == []


def test_with_other_inputs_it_runs_and_goes_on_from_what_is_known(other: Project) -> None:
    write(other, {"in": "azz"})
    assert hows(repro(other, jobs=1)) == {"upper": "ran", "first": "ran", "last": "restored"}
    assert ran(other) == ["first", "upper"] and text(other, "end") == "A"


def test_off_asks_no_remote(other: Project) -> None:
    without_lock(other)
    write(other, {"in": "abc"})
    done = repro(setting(other, **{"remote_origin.actions": "off"}), jobs=1)
    assert set(hows(done).values()) == {"ran"}


def test_a_remote_that_is_away_is_told_once_and_the_stages_run(
    other: Project, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "PATIENCE", 0.3)
    without_lock(other)
    write(other, {"in": "abc"})
    secret = {"access_key_id": "x", "secret_access_key": "y", "region": "us-east-1", "endpoint": "http://127.0.0.1:9"}
    other = setting(other, **{"remote_origin.url": "s3://bucket/x"}, **{f"remote_origin.{key}": secret[key] for key in secret})
    asking = setting(other, **{"remote_origin.timeout": 1})
    failed = repro(asking, pull=True)
    assert failed.failed and "127.0.0.1" in failed.runs[0].error and failed.code == RemoteFailed.exit_code
    for question in (lambda: repro(asking, dry_run=True, pull=True), lambda: why(asking, ["last"], remote="")):
        with pytest.raises(RemoteFailed, match=r"127\.0\.0\.1"):
            question()
    assert set(hows(repro(other, jobs=1, emit=events.append)).values()) == {"ran"}
    told = [event.message for event in events if isinstance(event, Noted) and "is not asked" in event.message]
    assert len(told) == 1


def test_a_remote_that_fails_is_no_matter_where_another_has_it(
    other: Project, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock(other)
    secret = {"access_key_id": "x", "secret_access_key": "y", "region": "us-east-1", "endpoint": "http://127.0.0.1:9"}
    away = {"remote_away.url": "s3://bucket/x", "remote_away.timeout": 1, **{f"remote_away.{key}": secret[key] for key in secret}}
    asked = setting(other, **away, core_remote="away")
    assert hows(repro(asked, pull=True, jobs=1, emit=events.append)) == {"upper": "known", "first": "known", "last": "restored"}
    assert sum(isinstance(event, Noted) and "'away' is not asked" in event.message for event in events) == 1
    write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", "cat one one > end")})
    assert repro(asked, pull=True).code == RemoteFailed.exit_code  # it may know: nobody can tell


def test_a_stage_that_fails_is_not_the_remotes_fault(other: Project) -> None:
    write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", "exit 3")})
    assert repro(other, pull=True).code == StageFailed.exit_code


@pytest.mark.parametrize("what", ["garbage", "other outs", "other bytes", "lost bytes", "bytes that lie"])
def test_a_hostile_remote_makes_the_stage_run(chain: Project, other: Project, events: list[Any], what: str) -> None:
    store = Path(other.config.remote("origin")["url"])
    for path in store.glob("actions/*/*.json"):
        data = path.read_bytes()
        if what == "garbage":
            path.write_bytes(b"{" * 100)
        elif what == "other outs":
            path.write_bytes(data.replace(b'"path": "', b'"path": "../'))
        elif what == "other bytes":
            path.write_bytes(data.replace(b'"size": 1', b'"size": 7').replace(b'"size": 3', b'"size": 7'))
    if what == "lost bytes":
        shutil.rmtree(store / "objects")
    if what == "bytes that lie":
        lie(store)
    without_lock(other)
    write(other, {"in": "abc"})
    done = hows(repro(other, jobs=1, emit=events.append))
    # What ran may lead to bytes that a result names, and they are right.
    assert done["upper"] == done["first"] == "ran" and done["last"] in ("ran", "restored")
    assert lock(other) == lock(chain)


def lie(store: Path) -> None:
    """All objects of a store hold other bytes, as many."""
    for path in store.glob("objects/*/*"):
        path.chmod(0o644)
        path.write_bytes(b"?" * path.stat().st_size)


def test_pull_takes_no_bytes_that_lie(chain: Project, other: Project, events: list[Any]) -> None:
    lie(Path(other.config.remote("origin")["url"]))
    without_lock(other)
    write(other, {"in": "abc"})
    done = hows(repro(other, pull=True, jobs=1, emit=events.append))
    # What may stay away is not looked at, and so neither believed nor harmful; what has to be here is made here.
    assert done["last"] == "failed" or lock(other) == lock(chain)
    assert not Path(other.root, "end").exists() or text(other, "end") == "A"
    assert any(isinstance(event, Warned) and "was not used" in event.message for event in events)


def test_who_may_not_write_poisons_nothing(chain: Project, other: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A fork's job has `read`: whatever it runs, neither a push nor exec-action leaves a result where others look."""
    remote = Path(other.config.remote("origin")["url"])

    def results() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in remote.glob("actions/*/*.json") if "request" not in path.name}

    before = results()
    fork = setting(other, **{"remote_origin.actions": "read"})
    write(other, {"in": "abc", "dvcx.yaml": CHAIN.replace("cat one > end", "cat one > end; true")})
    repro(fork, jobs=1)
    commit_all(fork)
    push(fork)
    key = make_request(fork, "last", remote="origin").key
    assert exec_action(key, project=fork, remote="origin", force=True).how == "ran"
    assert exec_action(key, project=fork, remote=str(remote), force=True).how == "ran"  # its address is that remote
    assert results() == before
    known = exec_action(key, project=again(chain), remote="origin")  # one who may
    assert known.how == "ran" and len(results()) == len(before) + 1
    fresh = clone(chain, tmp_path_factory.mktemp("clone") / "c")
    assert exec_action(key, project=setting(fresh, **{"remote_origin.actions": "off"}), remote="origin").how == "ran"
    assert exec_action(key, project=clone(chain, tmp_path_factory.mktemp("clone") / "c"), remote="origin").how == "known"


def test_two_clones_and_a_real_server(
    project: Project,
    s3_server: S3Server,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    address, options = s3_server.fresh()
    settings = {"remote_origin.url": address, **{f"remote_origin.{key}": value for key, value in options.items()}}
    write(project, {"in": "abc", "dvcx.yaml": CHAIN, ".git/info/exclude": "runs-*\n"})
    add(project, ["in"])
    shared = setting(again(project), core_remote="origin", **settings)
    repro(shared)
    commit_all(shared)
    push(shared)
    one, two = (
        setting(clone(shared, tmp_path_factory.mktemp("clone") / "c"), core_remote="origin", **settings) for _ in range(2)
    )
    for place in (one, two):
        without_lock(place)
    done = repro(one, pull=True, jobs=1)
    assert hows(done) == {"upper": "known", "first": "known", "last": "restored"} and done.runs[-1].remote == "origin"
    assert here(one) == ["end"] and objects(one) == 1
    write(two, {"in": "abc"})
    assert [(stage.plan, stage.remote) for stage in status(two, remote="").stages] == [("would restore", "origin")] * 3
    assert set(hows(repro(two, jobs=1)).values()) == {"restored"} and lock(two) == lock(shared) and ran(two) == []
    # What one computes and pushes, the other does not.
    write(two, {"in": "xyz"})
    assert hows(repro(two, jobs=1)) == dict.fromkeys(("upper", "first", "last"), "ran")
    commit_all(two)
    push(two)
    without_lock(one)
    write(one, {"in": "xyz"})
    assert set(hows(repro(one, jobs=1)).values()) == {"restored"} and text(one, "end") == "X"


def test_the_cache_does_not_believe_the_remote_for_later(other: Project) -> None:
    without_lock(other)
    write(other, {"in": "abc"})
    repro(other, jobs=1)
    assert not list(Path(other.cache_dir).glob("actions/*/*"))


def test_the_first_result_of_a_stage_stays(project: Project, events: list[Any]) -> None:
    write(project, {"dvcx.yaml": "stages: {s: {cmd: date +%N > out, deps: [in], outs: [out]}}", "in": "1"})
    repro(project)
    (path,) = Path(project.cache_dir).glob("actions/*/*.json")
    first = path.read_bytes()
    repro(again(project), force=True, emit=events.append)
    assert path.read_bytes() == first
    assert [event.message for event in events if isinstance(event, Noted) and "keeps the result" in event.message]


def test_who_asks_a_remote_is_told_what_it_knows(other: Project) -> None:
    without_lock(other)
    write(other, {"in": "abc"})
    assert {stage.plan for stage in status(other).stages} == {"would run"}  # nothing was asked
    told = [(stage.plan, stage.remote) for stage in status(other, remote="").stages]
    assert told == [("would restore", "origin")] * 3
    answer = why(other, ["last"], remote="origin")
    assert (answer.stages[0].plan, answer.stages[0].remote) == ("would restore", "origin")
    assert why(other, ["last"]).stages[0].plan == "would run"
    off = setting(other, **{"remote_origin.actions": "off"})
    assert why(off, ["last"], remote="").stages[0].plan == "would run"
    with pytest.raises(NotFound, match="no remote"):
        why(other, ["last"], remote="orign")
    assert not list(Path(other.cache_dir).glob("*/*")) or objects(other) == 0


# A dry run says what --pull then does

FORETOLD = {"would restore": "restored", "would run": "ran", "known": "known", "unchanged": "unchanged"}


def foretold(project: Project, targets: list[str] | None = None) -> Reproduced:
    """Run with --pull after a dry run of it; both must tell the same of every stage."""
    before = repro(again(project), targets or [], dry_run=True, pull=True)
    store = objects(project)
    done = repro(again(project), targets or [], pull=True, jobs=1)
    assert [(run.stage, FORETOLD[run.how], run.remote, run.fetched, run.error) for run in before.runs] == [
        (run.stage, run.how, run.remote, run.fetched, run.error) for run in done.runs
    ]
    assert store == 0 or objects(project) >= store
    return done


@pytest.mark.parametrize(
    ("lost", "change", "targets"),
    [
        (False, "", []),
        (True, "", []),
        (True, "", ["first"]),
        (False, "cat one one > end", []),
        (True, "cat one one > end", []),
    ],
)
def test_a_dry_run_with_pull_tells_what_pull_does(other: Project, lost: bool, change: str, targets: list[str]) -> None:
    if lost:
        without_lock(other)
    if change:
        write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", change)})
    done = foretold(other, targets)
    assert done.runs[-1].remote == ("" if change else "origin") and done.runs[-1].fetched == (("one",) if change else ())
    foretold(other, targets)  # and once more, with what is here now


GLOB = """\
stages:
  g: {cmd: cat d/*.txt > g.out, deps: ["glob:d/*.txt"], outs: [g.out]}
  z: {cmd: (cat g.out; echo z) > z.out, deps: [g.out], outs: [z.out]}
"""
PARAMS = """\
stages:
  a: {cmd: "echo 'lr: 1' > gen.yaml", deps: [in], outs: [gen.yaml]}
  g: {cmd: cat gen.yaml gen.yaml > g.out, params: [gen.yaml: [lr]], outs: [g.out]}
  z: {cmd: (cat g.out; echo z) > z.out, deps: [g.out], outs: [z.out]}
"""


@pytest.mark.parametrize("changed", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("lost", [True, pytest.param(False, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(("pipeline", "fetched"), [(GLOB, ["d"]), (PARAMS, ["gen.yaml"])], ids=["glob", "params"])
def test_what_has_to_be_read_to_judge_is_fetched_and_foretold(
    project: Project, tmp_path_factory: pytest.TempPathFactory, pipeline: str, fetched: list[str], lost: bool, changed: bool
) -> None:
    write(project, {"d/a.txt": "1", "d/b.txt": "2", "in": "i", "dvcx.yaml": pipeline})
    add(project, ["d", "in"])
    shared = with_remote(again(project), tmp_path_factory.mktemp("remote"))
    repro(shared, jobs=1)
    commit_all(shared)
    push(shared)
    other = clone(shared, tmp_path_factory.mktemp("clone") / "c")
    if lost:
        without_lock(other)
    if changed:
        write(other, {"dvcx.yaml": pipeline.replace("(cat g.out;", "(cat g.out g.out;")})
    done = foretold(other)
    assert [path for run in done.runs for path in run.fetched] == [*fetched, *(["g.out"] if changed else [])]
    assert hows(done)["g"] == ("known" if lost else "unchanged") and hows(done)["z"] == ("ran" if changed else "restored")
    foretold(other)


def test_a_dry_run_with_pull_of_what_is_nowhere(other: Project) -> None:
    shutil.rmtree(Path(other.config.remote("origin")["url"], "objects"))
    write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", "cat one one > end")})
    told = repro(other, dry_run=True, pull=True)
    assert told.runs[-1].how == "would run" and "needs one: it is neither in the cache nor on a remote" in told.runs[-1].error


# Only what must be here


def test_what_is_known_is_not_fetched(other: Project) -> None:
    done = repro(other, pull=True, jobs=1)
    assert hows(done) == {"upper": "unchanged", "first": "unchanged", "last": "restored"}
    assert here(other) == ["end"] and objects(other) == 1 and ran(other) == []
    assert run_git(other, "status", "--porcelain") == ""
    assert hows(repro(again(other), pull=True)) == dict.fromkeys(("upper", "first", "last"), "unchanged")


def test_results_alone_lead_to_the_end_without_bytes(other: Project) -> None:
    without_lock(other)
    done = repro(other, pull=True, jobs=1)
    assert hows(done) == {"upper": "known", "first": "known", "last": "restored"}
    assert here(other) == ["end"] and objects(other) == 1 and run_git(other, "status", "--porcelain", "dvcx.lock") == ""


def test_what_runs_gets_what_it_reads_and_no_more(other: Project) -> None:
    write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", "cat one one > end")})
    done = repro(other, pull=True, jobs=1)
    assert hows(done) == {"upper": "unchanged", "first": "unchanged", "last": "ran"}
    assert here(other) == ["one", "end"] and text(other, "end") == "AA" and ran(other) == ["last"]


def test_a_target_in_the_middle(other: Project) -> None:
    repro(other, ["first"], pull=True)
    assert here(other) == ["one"] and text(other, "one") == "A"


def test_a_source_that_is_needed_is_fetched(other: Project) -> None:
    write(other, {"dvcx.yaml": CHAIN.replace("tr a-z A-Z", "tr a-y A-Y")})
    done = repro(other, pull=True, jobs=1)
    assert hows(done) == {"upper": "ran", "first": "unchanged", "last": "restored"}
    assert here(other) == ["in", "mid", "end"]


def test_what_is_here_in_an_older_version_is_brought_up_to_date(chain: Project, other: Project) -> None:
    repro(other, ["upper"], pull=True)
    write(chain, {"in": "xyz"})
    repro(chain)
    commit_all(chain)
    push(again(chain))
    run_git(other, "pull", "-q", "--rebase")
    repro(again(other), pull=True, jobs=1)
    assert here(other) == ["mid", "end"] and text(other, "mid") == "XYZ" and text(other, "end") == "X"


def test_what_is_nowhere_is_named(other: Project) -> None:
    shutil.rmtree(Path(other.config.remote("origin")["url"], "objects"))
    write(other, {"dvcx.yaml": CHAIN.replace("cat one > end", "cat one one > end")})
    done = repro(other, pull=True, jobs=1)
    assert done.failed and "needs one: it is neither in the cache nor on a remote" in done.runs[-1].error


def test_a_directory_in_the_middle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    pipeline = """\
stages:
  a: {cmd: "mkdir -p d/s; echo 1 > d/x; echo 2 > d/s/y", outs: [d]}
  b: {cmd: cp d/s/y out, deps: [d/s/y], outs: [out]}
"""
    write(project, {"dvcx.yaml": pipeline})
    shared = with_remote(project, tmp_path_factory.mktemp("remote"))
    repro(shared)
    commit_all(shared)
    push(shared)
    cloned = clone(shared, tmp_path_factory.mktemp("clone") / "c")
    assert hows(foretold(cloned)) == {"a": "unchanged", "b": "restored"}
    assert text(cloned, "out") == "2\n" and not Path(cloned.root, "d").exists()
    # Without the lock the result of the directory is known, and what lies in it by its listings alone.
    bare = clone(shared, tmp_path_factory.mktemp("clone") / "c")
    without_lock(bare)
    assert hows(foretold(bare)) == {"a": "known", "b": "restored"} and not Path(bare.root, "d").exists()


NEVER_HERE = """\
stages:
  a: {cmd: mkdir d && cp in d/x && cp in d/y, deps: [in], outs: [d]}
  b: {cmd: cat d/x d/x > mid, deps: [d/x], outs: [mid]}
  c: {cmd: cat mid d/y > end, deps: [mid, d], outs: [end]}
"""


def test_who_looks_after_a_pull_takes_what_was_left_away_as_recorded(
    project: Project, tmp_path_factory: pytest.TempPathFactory, events: list[Any]
) -> None:
    write(project, {"in": "1\n", "dvcx.yaml": NEVER_HERE})
    add(project, ["in"])
    shared = with_remote(project, tmp_path_factory.mktemp("remote"))
    repro(shared, jobs=1)
    commit_all(shared)
    push(shared)
    other = clone(shared, tmp_path_factory.mktemp("clone") / "c")
    repro(other, pull=True, jobs=1)
    other = again(other)

    def stages() -> tuple[list[str], list[str], list[str], list[str]]:
        """The stages that are not fresh for status, check, why and a dry run."""
        stale = [[one.stage for one in look(other).stages if one.state != "fresh"] for look in (status, check)]
        told = [one.stage for one in why(other, ["a", "b", "c"]).stages if one.state != "fresh"]
        foretold = [run.stage for run in repro(other, dry_run=True).runs if run.how != "unchanged"]
        return stale[0], stale[1], told, foretold

    assert stages() == ([], [], [], []) and check(other).clean
    left = {change.path: (change.state, change.text) for change in status(other).data}
    assert left == {
        "in": ("not pulled", ""),
        "d": ("not pulled", "output of a, 2 files"),
        "mid": ("not pulled", "output of b"),
    }
    assert {path.path: path.state for path in why(other, ["in", "d", "d/x", "mid", "end"]).paths} == {
        "in": "not pulled", "d": "not pulled", "d/x": "not pulled", "mid": "not pulled", "end": "as recorded",
    }  # fmt: skip
    assert hows(repro(other, jobs=1)) == dict.fromkeys("abc", "unchanged") and here(other) == ["end"]
    # A stage that has to run gets outputs where results may be read, tracked data only with pull.
    write(other, {"dvcx.yaml": NEVER_HERE.replace("cat mid d/y", "cat d/y mid")})
    assert stages() == (["c"],) * 4
    assert hows(repro(setting(other, **{"remote_origin.actions": "off"}), ["b"], jobs=1)) == {"a": "unchanged", "b": "unchanged"}
    assert hows(repro(other, jobs=1)) == {"a": "unchanged", "b": "unchanged", "c": "ran"}
    assert here(other) == ["mid", "end"]
    write(other, {"dvcx.yaml": NEVER_HERE.replace("mkdir d", "mkdir  -p d")})
    failed = repro(other, ["a"], jobs=1).runs[0]
    assert failed.how == "failed" and "its dependency in is not all here" in failed.error and "dvcx pull in" in failed.error
    # What was here and was deleted is a change.
    write(other, {"dvcx.yaml": NEVER_HERE})
    Path(other.root, "mid").unlink()
    assert stages() == (["b", "c"], ["c"], ["b", "c"], ["b", "c"])


def test_what_is_asked_for_and_left_away_is_told(other: Project, events: list[Any]) -> None:
    """In a clone where nothing was pulled nothing is stale; and nobody believes that all is here."""
    assert hows(repro(other, jobs=1, emit=events.append)) == dict.fromkeys(("upper", "first", "last"), "unchanged")
    assert [event.message for event in events if isinstance(event, Noted)] == [
        "an output is not all here, as it was never pulled: dvcx pull, or dvcx repro --pull"
    ]
