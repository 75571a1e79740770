"""Each verb once, as the user types it: the wiring, the text, the JSON, the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.runner import dvcx_called, dvcx_run

Git = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path, git: Git) -> Path:
    """A project in git with data.csv, not tracked yet."""
    git("init", "-q")
    ran = dvcx_called("init", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    return tmp_path


def _ok(*words: str, cwd: Path) -> str:
    ran = dvcx_called(*words, cwd=cwd)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _json(*words: str, cwd: Path) -> Any:
    return json.loads(_ok(*words, "--json", cwd=cwd))


def test_init(tmp_path: Path) -> None:
    out = _ok("init", "--no-git", "deep/er", cwd=tmp_path)
    assert out.splitlines() == [f"made a dvcx project in {tmp_path}/deep/er", "next: dvcx add FILE"]
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert _ok("init", "--no-git", cwd=tmp_path).splitlines()[-1].startswith("next: git mv dvc.yaml dvcx.yaml  # ")


def test_add_says_what_it_did(project: Path) -> None:
    assert _ok("add", "data.csv", cwd=project).splitlines() == ["tracked  data.csv  8 B", "next: git commit"]
    assert _ok("add", "data.csv", cwd=project).splitlines() == ["unchanged  data.csv  8 B"]
    (project / "data.csv").write_text("a,b\n1,2\n3,4\n")
    assert _ok("add", "data.csv", cwd=project).splitlines()[0] == "updated  data.csv  12 B"


def test_add_without_autostage_says_what_to_git_add(project: Path) -> None:
    _ok("config", "set", "core.autostage", "false", cwd=project)
    (project / "sub").mkdir()
    (project / "sub" / "x y").write_text("1")
    assert _ok("add", "x y", cwd=project / "sub").splitlines()[-1] == "next: git add 'x y.dvcx' .gitignore"


def test_add_json_dry_run_quiet(project: Path) -> None:
    result = _json("add", "--dry-run", "data.csv", cwd=project)
    assert [item["path"] for item in result["items"]] == ["data.csv"]
    assert result["dry_run"] is True
    assert not (project / "data.csv.dvcx").exists()
    assert _ok("add", "-q", "data.csv", cwd=project) == ""


def test_add_expands_quoted_wildcards(project: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (project / name).write_text(name)
    result = _json("add", "*.txt", cwd=project)
    assert [item["path"] for item in result["items"]] == ["one.txt", "two.txt"]
    assert dvcx_called("add", "*.none", cwd=project).returncode == 5


def test_status_from_nothing_to_clean_to_modified(project: Path) -> None:
    assert _ok("status", cwd=project).splitlines() == ["nothing is tracked yet", "next: dvcx add FILE"]
    _ok("add", "data.csv", cwd=project)
    assert _ok("status", cwd=project).splitlines() == ["everything is up to date (1 tracked)"]
    (project / "data.csv").write_text("changed\n")
    out = _ok("status", cwd=project)
    assert "modified  data.csv" in out
    assert "next: dvcx commit" in out
    assert _json("status", cwd=project)["clean"] is False
    sub = project / "sub"
    sub.mkdir()
    assert "modified  ../data.csv" in _ok("status", cwd=sub)


def test_check_gates(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    assert dvcx_called("check", cwd=project).returncode == 0
    _ok("stage", "add", "-n", "s", "-d", "data.csv", "-o", "out", "cp data.csv out", cwd=project)
    ran = dvcx_called("check", "--quiet", cwd=project)
    assert (ran.returncode, ran.stdout) == (1, "")


def test_why_tells_the_tree_and_what_no_record_knows(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    _ok("run", "-n", "first", "-d", "data.csv", "-o", "mid", "cp data.csv mid", cwd=project)
    _ok("run", "-n", "second", "-d", "mid", "-o", "end", "cp mid end", cwd=project)
    assert _ok("why", "second", cwd=project).splitlines()[0] == "second: fresh: nothing to do (dvcx.yaml:9:3)"
    (project / "data.csv").write_text("a,b\n1,2\n3,4\n")
    assert _ok("why", "end", cwd=project).splitlines() == [
        "end: output of second; as recorded",
        "second: might run (dvcx.yaml:9:3)",
        "  mid will be rewritten by first, because",
        "    data.csv: 1 row added",
        "",
        "Before that:",
        "  would run  first",
    ]
    assert _json("why", "second", cwd=project)["stages"][0]["causes"][0]["causes"][0]["text"] == "data.csv: 1 row added"
    sub = project / "sub"
    sub.mkdir()
    assert _ok("why", "../data.csv", cwd=sub).splitlines()[:2] == [
        "../data.csv: tracked by ../data.csv.dvcx; modified: 8 → 12 bytes",
        "  read by first",
    ]
    ran = dvcx_called("why", "secnod", cwd=project)
    assert ran.returncode == 5 and "did you mean 'second'?" in ran.stderr
    assert dvcx_called("why", cwd=project).returncode == 2


def test_data_verbs(project: Path, git: Git) -> None:
    _ok("add", "data.csv", cwd=project)
    git("commit", "-qm", "one")
    (project / "data.csv").write_text("a,b\n1,2\n3,4\n")
    diff = _ok("diff", cwd=project).splitlines()
    assert diff[0] == "modified  data.csv  8 B → 12 B"
    assert diff[-1] == "1 modified; +4 B from HEAD to the workspace"
    assert "recorded  data.csv  12 B" in _ok("commit", cwd=project)
    git("commit", "-qm", "two")
    git("checkout", "-q", "HEAD~1")
    assert "1 file (8 B) placed" in _ok("checkout", cwd=project)
    assert (project / "data.csv").read_text() == "a,b\n1,2\n"
    assert "everything is in place already" in _ok("checkout", cwd=project)
    assert _ok("ls", cwd=project).split() == ["8", "B", "data.csv"]
    assert _ok("list", "--rev", "HEAD", cwd=project).split() == ["8", "B", "data.csv"]
    assert _ok("mv", "data.csv", "raw.csv", cwd=project) == "moved data.csv to raw.csv\n"
    _ok("unprotect", "raw.csv", cwd=project)
    _ok("rm", "raw.csv", cwd=project)
    assert (project / "raw.csv").exists()
    assert not (project / "raw.csv.dvcx").exists()


def test_what_ran_and_what_it_said(project: Path) -> None:
    (project / "dvcx.yaml").write_text("stages:\n  say: {cmd: echo one; echo two >&2}\n  bad: {cmd: echo no; exit 3}\n")
    assert "nothing has run here" in _ok("runs", cwd=project)
    assert dvcx_called("repro", "-j", "2", "-k", cwd=project).returncode == 10
    assert sorted(_ok("log", "say", cwd=project).split()) == ["one", "two"]
    assert [line.split()[1] for line in _ok("runs", "bad", cwd=project).splitlines()] == ["failed"]
    shown = _ok("show", "bad", cwd=project)
    assert "exit code" in shown and "echo no; exit 3" in shown
    assert _json("show", "say", cwd=project)["exit_code"] == 0
    assert {item["stage"] for item in _json("runs", cwd=project)["items"]} == {"say", "bad"}
    assert _json("log", "bad", cwd=project)["text"] == "no\n"
    _ok("run", "-q", "-n", "mute", "-o", "m", "touch m", cwd=project)
    ran = dvcx_called("log", "mute", cwd=project)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "the command of mute printed nothing\n")
    assert dvcx_called("show", "nothing", cwd=project).returncode == 5


def test_unsaved_work_is_not_overwritten(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    (project / "data.csv").write_text("mine\n")
    ran = dvcx_called("checkout", cwd=project)
    assert ran.returncode == 11
    assert "hint: " in ran.stderr
    out = _ok("checkout", "--force", cwd=project)
    assert "saved     data.csv as it was: dvcx cache get " in out
    [line] = [line for line in out.splitlines() if line.startswith("saved")]
    identity = line.split()[-2]
    _ok("cache", "get", identity, "back.csv", cwd=project)
    assert (project / "back.csv").read_text() == "mine\n"


def test_deleting_needs_a_yes(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    ran = dvcx_called("remove", "--delete", "data.csv", cwd=project)
    assert ran.returncode == 2
    assert "--yes" in ran.stderr
    _ok("remove", "--delete", "--yes", "data.csv", cwd=project)
    assert not (project / "data.csv").exists()


def test_pipeline_verbs(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    ran = dvcx_called("run", "-n", "copy", "-d", "data.csv", "-o", "out.csv", "cp", "data.csv", "out.csv", cwd=project)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("ran stage copy  ")
    assert "> copy: cp data.csv out.csv" in ran.stderr
    assert _ok("stage", "list", cwd=project).split() == ["copy", "cp", "data.csv", "out.csv"]
    assert _ok("repro", cwd=project) == "everything is up to date (1 stage)\n"
    (project / "data.csv").write_text("new\n")
    status = _ok("status", cwd=project)
    assert "copy" in status
    assert "next: dvcx repro" in status
    assert "copy" in _ok("repro", "--dry-run", cwd=project)
    assert (project / "out.csv").read_text() == "a,b\n1,2\n"
    assert _ok("repro", cwd=project).startswith("ran")
    assert (project / "out.csv").read_text() == "new\n"
    assert "copy" in _ok("dag", cwd=project)
    assert _ok("dag", "--dot", cwd=project).startswith("digraph")
    assert _ok("dag", "--mermaid", cwd=project).startswith("flowchart")
    assert dvcx_called("dag", "--dot", "--mermaid", cwd=project).returncode == 2


def test_what_a_stage_prints_stays_out_of_the_json(project: Path) -> None:
    words = ("run", "--json", "-n", "talk", "-o", "out", "echo hello; echo x > out")
    ran = dvcx_run(*words, cwd=project)
    assert ran.returncode == 0, ran.stderr
    assert isinstance(json.loads(ran.stdout), dict)
    assert "hello" in ran.stderr
    (project / "out").unlink()
    ran = dvcx_run("repro", "--json", "--force", cwd=project)
    assert json.loads(ran.stdout)["runs"][0]["stage"] == "talk"


def test_a_failing_stage_exits_with_10(project: Path) -> None:
    ran = dvcx_called("run", "-n", "bad", "-o", "out", "false", cwd=project)
    assert ran.returncode == 10
    assert ran.stderr.splitlines()[-2].startswith("error: stage 'bad'")
    _ok("stage", "add", "-n", "bad", "-o", "out", "false", cwd=project)
    ran = dvcx_called("repro", cwd=project)
    assert (ran.returncode, ran.stdout) == (10, "failed  bad\n")
    ran = dvcx_called("repro", "--json", cwd=project)
    assert (ran.returncode, json.loads(ran.stdout)["failed"]) == (10, 1)


def test_sharing_verbs(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("store")
    _ok("add", "data.csv", cwd=project)
    assert (
        _ok("remote", "add", "-d", "origin", str(store), cwd=project).splitlines()[0] == "added remote origin (default)"
    )
    assert _ok("remote", "list", cwd=project).split() == ["*", "origin", str(store)]
    assert _json("remote", "list", cwd=project)["items"][0]["name"] == "origin"
    _ok("push", "--dry-run", cwd=project)
    assert not (store / "store.json").exists()
    _ok("push", cwd=project)
    _ok("push", "--jobs", "2", "--remote", "origin", cwd=project)
    _ok("fetch", cwd=project)
    (project / "data.csv").unlink()
    _ok("pull", cwd=project)
    assert (project / "data.csv").exists()
    _ok("remote", "modify", "origin", "region", "eu-1", cwd=project)
    _ok("remote", "modify", "--unset", "origin", "region", cwd=project)
    assert dvcx_called("remote", "modify", "origin", "region", cwd=project).returncode == 2
    _ok("remote", "default", "origin", cwd=project)
    checked = _json("remote", "check", "--quick", cwd=project)
    assert checked["fit"] and {item["verdict"] for item in checked["items"]} == {"ok", "note", "skipped"}
    assert "is fit for use" in _ok("remote", "check", "origin", "--quick", cwd=project)
    _ok("remote", "remove", "origin", cwd=project)
    assert "no remotes" in _ok("remote", "list", cwd=project)
    assert dvcx_called("push", "-r", "nowhere", cwd=project).returncode == 5


def test_verbs_that_free_the_disk(project: Path, git: Git, tmp_path_factory: pytest.TempPathFactory) -> None:
    _ok("add", "data.csv", cwd=project)
    (project / "data.csv").write_text("other\n")
    _ok("add", "data.csv", cwd=project)
    ran = dvcx_called("gc", "--grace", "0", cwd=project)
    assert (ran.returncode, "--yes" in ran.stderr) == (2, True)
    assert "would be moved to the trash  1 object  8 B" in _ok("gc", "--dry-run", "--grace", "0", cwd=project)
    out = _ok("gc", "--yes", "--grace", "0", cwd=project)
    assert "moved to the trash  1 object  8 B" in out
    assert "next: dvcx gc --undo  # brings it back" in out
    assert "brought back 1 file (8 B) from the trash" in _ok("gc", "--undo", cwd=project)
    assert _json("gc", "--dry-run", "--grace", "0", cwd=project)["objects"] == 1
    assert dvcx_called("gc", "--undo", cwd=project).returncode == 5
    store = tmp_path_factory.mktemp("store")
    _ok("remote", "add", "-d", "origin", str(store), cwd=project)
    assert dvcx_called("drop", "data.csv", cwd=project).returncode == 5
    _ok("push", cwd=project)
    assert "would drop data.csv" in _ok("drop", "--dry-run", "data.csv", cwd=project)
    out = _ok("drop", "--workspace", "--verify", "data.csv", cwd=project)
    assert out.startswith("dropped data.csv, which remote 'origin' holds, 1 file of the workspace too\n")
    assert not (project / "data.csv").exists()
    _ok("pull", cwd=project)
    assert _ok("gc", "--yes", "--max-size", "0", cwd=project).count("on a remote") >= 1
    for wrong, says in ((("--remote", "origin"), "project's alone"), (("--max-size", "nope"), "not a size: 'nope'")):
        ran = dvcx_called("gc", *wrong, cwd=project)  # it is looked at before anything is asked
        assert (ran.returncode, says in ran.stderr) == (2, True)
    _ok("remote", "modify", "origin", "gc", "true", cwd=project)
    assert "marked as unused" not in _ok("gc", "--yes", "--remote", "origin", cwd=project)
    _ok("gc", "--dry-run", "--remote", "origin", "--verbose", cwd=project)


@pytest.mark.parametrize(("remote", "hint"), [("", "dvcx gc --undo"), ("origin", "dvcx gc --undo --remote origin")])
def test_the_hint_after_a_collection_undoes_it(remote: str, hint: str) -> None:
    """Nothing is marked any more when all that was unused went."""
    from dvcx.cli.gc import _lines
    from dvcx.ops.collected import Collected

    face: Any = SimpleNamespace(verbose=False, next=lambda *steps: steps)
    done = Collected("cache", False, 1, 8, 1, 0, 0, 0, "2026-01-01", "2026-01-09", 0, 0, 0, 0, 0, 0, 8, 0, "", 8, ())
    assert list(_lines(face, done, remote))[-1] == f"{hint}  # brings it back"


def test_settings_verbs(project: Path) -> None:
    assert _ok("config", "get", "core.autostage", cwd=project) == "true\n"
    assert _ok("config", "set", "core.autostage", "false", cwd=project) == "set core.autostage\n"
    assert _ok("config", "get", "core.autostage", cwd=project) == "false\n"
    assert "core.autostage" in _ok("config", "list", cwd=project)
    _ok("config", "unset", "core.autostage", cwd=project)
    assert _ok("config", "get", "core.autostage", cwd=project) == "true\n"
    assert dvcx_called("config", "get", "core.autostaged", cwd=project).returncode in (2, 5)
    assert _ok("cache", "dir", cwd=project) == f"{project}/.dvcx/cache\n"
    assert _json("cache", "dir", cwd=project) == {"dir": f"{project}/.dvcx/cache"}
    _ok("cache", "size", cwd=project)
    assert isinstance(_json("cache", "size", cwd=project), dict)
    _ok("doctor", cwd=project)
    assert isinstance(_json("doctor", cwd=project), dict)


def test_doctor_works_without_a_project(tmp_path: Path) -> None:
    _ok("doctor", cwd=tmp_path)


def test_doctor_tells_each_problem_once_and_exits_with_1(project: Path) -> None:
    _ok("add", "data.csv", cwd=project)
    (project / ".dvcx/state/statindex.sqlite").write_bytes(b"garbage" * 1000)
    _ok("remote", "add", "gone", "s3://bucket/x", cwd=project)
    for key, value in (("endpoint", "http://127.0.0.1:9"), ("access_key_id", "a"), ("secret_access_key", "b"), ("timeout", "1")):
        _ok("remote", "modify", "--local", "gone", key, value, cwd=project)
    ran = dvcx_called("doctor", cwd=project)
    assert ran.returncode == 1
    problems = [line for line in ran.stdout.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 2
    for line in problems:
        assert ran.stdout.count(line.rpartition(": ")[2]) == 1
    ran = dvcx_called("doctor", "--json", cwd=project)
    assert ran.returncode == 1 and len(json.loads(ran.stdout)["problems"]) == 2


def test_demo(tmp_path: Path) -> None:
    ran = dvcx_called("demo", "show", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "dvcx add data-input.csv" in ran.stdout + ran.stderr
    assert (tmp_path / "show" / "project" / ".dvcx").is_dir()


def test_what_to_do_next_after_a_change_of_commit(project: Path, git: Git) -> None:
    _ok("add", "data.csv", cwd=project)
    _ok("run", "-n", "copy", "-d", "data.csv", "-o", "out.csv", "cp data.csv out.csv", cwd=project)
    git("commit", "-qm", "one")
    (project / "data.csv").write_text("a,b\n1,3\n")
    told = _ok("status", cwd=project)
    assert "next: dvcx commit data.csv  # records the change\nnext: dvcx checkout --force data.csv  # undoes it" in told
    _ok("repro", cwd=project)
    git("commit", "-qam", "two")
    assert "modified  data.csv  8 B\n" in _ok("diff", "HEAD~1", cwd=project)
    git("checkout", "-q", "HEAD~1")
    told = _ok("status", cwd=project)
    assert "out.csv: output is not as recorded" in told
    assert "next: dvcx checkout  # puts the recorded outputs in place" in told


def test_what_may_have_been_meant_instead_of_a_revision_or_a_path(project: Path, git: Git) -> None:
    _ok("add", "data.csv", cwd=project)
    git("commit", "-qm", "one")
    _ok("remote", "add", "origin", "../store", cwd=project)
    for words, hint in (
        (["diff", "data.csv"], "for a path: dvcx diff --target data.csv"),
        (["metrics", "diff", "HEAD", "data.csv"], "for a file: dvcx metrics diff --target data.csv"),
        (["params", "diff", "data.csv"], "for a file: dvcx params diff --target data.csv"),
        (["plots", "diff", "data.csv", "HEAD"], "for a file: dvcx plots diff --target data.csv"),
        (["push", "origin"], "dvcx push --remote origin"),
        (["pull", "origin"], "dvcx pull --remote origin"),
        (["fetch", "origin"], "dvcx fetch --remote origin"),
        (["checkout", "HEAD"], "git checkout HEAD, then: dvcx checkout"),
        (["checkout", "HAED"], "dvcx list shows what is"),
    ):
        ran = dvcx_called(*words, cwd=project)
        assert (ran.returncode, ran.stderr.splitlines()[1]) == (5, f"hint: {hint}"), words


def test_a_part_of_the_data_and_what_the_remote_holds(
    project: Path, git: Git, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, there = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("clone") / "c"
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        (project / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "images" / name).write_text(name)
    _ok("add", "images", "data.csv", cwd=project)
    _ok("remote", "add", "-d", "origin", str(store), cwd=project)
    told = _ok("status", "--remote", cwd=project).splitlines()
    assert told[0] == "everything is up to date (2 tracked)"
    assert told[2] == "Missing on remote 'origin' (4 files and 3 listings):"
    assert told[3] == "  data.csv  1 file"
    assert told[4] == "  images    3 files and 3 listings: images, images/cats, images/cats/1.png and 3 more"
    assert told[5] == "next: dvcx push --remote origin"
    assert dvcx_called("check", "--remote", "--quiet", cwd=project).returncode == 1
    _ok("push", cwd=project)
    assert _ok("check", "--remote", cwd=project).endswith("remote 'origin' holds everything (4 files and 3 listings)\n")
    git("commit", "-qm", "one")
    git("clone", "-q", str(project), str(there))
    assert _ok("status", cwd=there).splitlines() == [
        "Not pulled:",
        "  data.csv",
        "  images    3 files",
        "",
        "next: dvcx pull  # brings what is not here; dvcx pull PATH a part of it",
    ]
    assert "(2 tracked, 2 not pulled)" in _ok("check", cwd=there)
    assert "4 files and 3 listings there (" in _ok("status", "-r", cwd=there)
    assert "1 file (10 B) placed" in _ok("pull", "--glob", "images/c*/1*", cwd=there)
    assert "1 file (10 B) placed" in _ok("pull", "--glob", "./c*/2*", cwd=there / "images")
    assert _json("status", "images", "--remote", "origin", cwd=there)["data"] == [
        {"path": "images", "state": "not pulled", "text": "1 of 3 files"}
    ]
    assert "unchanged  images  30 B  3 files, 1 of them not pulled" in _ok("add", "images", cwd=there)
    ran = dvcx_called("status", "--remote", "images", cwd=there)
    assert ran.returncode == 2
    assert "hint: paths come first: dvcx status images --remote" in ran.stderr
    assert "updated  images" in _ok("add", "--exact", "images", cwd=there)
    ran = dvcx_called("fetch", "--glob", "*.none", cwd=there)
    assert (ran.returncode, "no recorded path matches" in ran.stderr) == (5, True)
    (store / "store.json").write_text("{")
    assert dvcx_called("status", "--remote", cwd=there).returncode == 4


def test_fsck(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    _ok("add", "data.csv", cwd=project)
    _ok("remote", "add", "-d", "origin", str(tmp_path_factory.mktemp("remote")), cwd=project)
    _ok("push", cwd=project)
    assert _ok("fsck", cwd=project).splitlines()[-1] == "everything is right"
    assert _ok("fsck", "-q", cwd=project) == ""
    assert "no object was read" in _ok("fsck", "--quick", cwd=project)
    assert "--seed 3" in _ok("fsck", "--sample", "50%", "--seed", "3", cwd=project)
    assert dvcx_called("fsck", "--sample", "lots", cwd=project).returncode == 2
    [path] = (project / ".dvcx/cache/objects").glob("*/*")
    path.chmod(0o644)
    path.write_bytes(b"x")
    (project / "data.csv").unlink()
    ran = dvcx_called("fsck", "--quiet", cwd=project)
    assert ran.returncode == 4
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("truncated  xxh128:") and lines[1] == "  needed by data.csv (data.csv.dvcx)"
    assert lines[-1] == "next: dvcx fsck --repair"
    result = _json("fsck", "--repair", cwd=project)
    assert result["verdict"] == "repaired" and result["findings"][0]["repaired"] == "from remote 'origin'"
    assert (project / ".dvcx/cache" / result["findings"][0]["kept"]).read_bytes() == b"x"
    assert "everything is right" in _ok("fsck", "--remote", "origin", cwd=project)
    assert dvcx_called("fsck", "--remote", "nobody", cwd=project).returncode == 5
    (project / "more.csv").write_text("never pushed")
    _ok("add", "more.csv", cwd=project)
    for words in (["--remote"], ["-r", "--quick"], ["--remote", "origin"]):
        ran = dvcx_called("fsck", *words, cwd=project)
        assert ran.returncode == 5 and ran.stdout.splitlines()[-1] == "next: dvcx push --remote origin"


def test_params_and_metrics(project: Path, git: Git) -> None:
    stage = "stages:\n  s:\n    cmd: 'true'\n    params: [lr]\n    metrics:\n    - m.json: {cache: false}\n"
    (project / "dvcx.yaml").write_text(stage)
    (project / "params.yaml").write_text("lr: 0.1\ndeep: {a: 1}\n")
    (project / "m.json").write_text('{"acc": 0.5, "loss": 0.123456789}')
    git("add", ".")
    git("commit", "-qm", "one")
    assert _ok("params", "show", cwd=project).splitlines() == [
        "path         key     value",
        "params.yaml  lr      0.1",
        "params.yaml  deep.a  1",
    ]
    assert _ok("params", "diff", cwd=project) == "no parameters differ from HEAD to the workspace\n"
    (project / "params.yaml").write_text("lr: 0.2\ndeep: {a: 1}\n")
    (project / "m.json").write_text('{"acc": 0.75, "new": 1}')
    assert _ok("params", "diff", "--md", cwd=project).splitlines() == [
        "| path        | key | HEAD | workspace |",
        "| ----------- | --- | ---- | --------- |",
        "| params.yaml | lr  | 0.1  | 0.2       |",
    ]
    assert _ok("metrics", "diff", "--csv", cwd=project).splitlines() == [
        "path,key,HEAD,workspace,change,verdict",
        "m.json,acc,0.5,0.75,+0.25,",
        "m.json,new,,1,,",
        "m.json,loss,0.123456789,,,",
    ]
    assert _ok("metrics", "show", "--rev", "HEAD", "--precision", "2", cwd=project).splitlines()[-1] == "m.json  loss  0.12"
    wide = _ok("metrics", "show", "--all-branches", cwd=project).splitlines()
    assert wide[0].split() == ["revision", "path", "acc", "new", "loss"]
    assert wide[2].split() == ["main", "m.json", "0.5", "–", "0.12346"]
    assert _json("metrics", "diff", cwd=project)["differences"][0]["delta"] == 0.25
    assert _json("params", "show", cwd=project)["revisions"][0]["files"][0]["values"]["lr"] == 0.2
    assert dvcx_called("metrics", "show", "--md", "--csv", cwd=project).returncode == 2
    (project / "m.json").write_text("{")
    ran = dvcx_called("metrics", "show", cwd=project)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "error: m.json:1:2: broken JSON" in ran.stderr
    assert len(_ok("metrics", "show", "--all-commits", "-n", "1", cwd=project).splitlines()) == 2


def test_an_action_by_its_key_and_a_stage_verified(project: Path) -> None:
    _ok("run", "-q", "-n", "s", "-d", "data.csv", "-o", "out", "cat data.csv > out", cwd=project)
    assert _ok("verify", "s", cwd=project).splitlines()[0] == "same     out"
    assert _json("verify", "out", cwd=project)["good"] is True
    key = _ok("exec-action", "--request", "s", cwd=project).strip()
    assert len(key) == 64
    assert _ok("exec-action", key, cwd=project).splitlines() == ["the result is known already", "  out  8 B"]
    assert _json("exec-action", key, "--force", cwd=project)["how"] == "ran"
    _ok("run", "-q", "-n", "t", "-o", "now", "date +%N > now", cwd=project)
    ran = dvcx_called("verify", "t", cwd=project)
    assert ran.returncode == 1 and "not deterministic" in ran.stdout


def test_plots(project: Path, git: Git) -> None:
    (project / "log.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    (project / "dvcx.yaml").write_text("plots:\n- log.csv: {x: epoch}\n")
    git("add", ".")
    git("commit", "-qm", "one")
    assert _ok("plots", "show", cwd=project) == "wrote 1 plot to .dvcx/plots/index.html\n"
    assert _ok("plots", "diff", "--out", "here", cwd=project) == "wrote 1 plot to here/index.html\n"
    spec = _json("plots", "diff", "HEAD", "HEAD", "--target", "log.csv", cwd=project)["plots"][0]["spec"]
    assert spec["encoding"]["x"]["title"] == "epoch"
    assert _json("plots", "show", "log.csv", "-y", "loss", "-t", "simple", cwd=project)["plots"][0]["template"] == "simple"
    assert "confusion " in _ok("plots", "templates", cwd=project)
    assert json.loads(_ok("plots", "templates", "linear", cwd=project))["title"] == "<DVCX_TITLE>"
    assert _ok("plots", "show", "--out", "P.HTML", cwd=project) == "wrote 1 plot to P.HTML\n" and (project / "P.HTML").is_file()
    ran = dvcx_called("plots", "show", "--out", "p.pdf", cwd=project)
    assert ran.returncode == 2 and "not written as .pdf" in ran.stderr and not (project / "p.pdf").exists()
    for words, hint in (
        (["lgo.csv"], "did you mean 'log.csv'?"),
        (["nope"], "name a plot of dvcx.yaml, or a file's path in the project"),
        (["log.csv", "--template", "liner"], "did you mean 'linear'?"),
    ):
        ran = dvcx_called("plots", "show", *words, cwd=project)
        assert (ran.returncode, ran.stderr.splitlines()[1]) == (5, f"hint: {hint}")


def test_plots_from_a_subdirectory(project: Path) -> None:
    (project / "sub").mkdir()
    for place in ("log.csv", "sub/log.csv"):
        (project / place).write_text("epoch,loss\n1,0.5\n")
    (project / "dvcx.yaml").write_text("plots:\n- learning: {x: epoch, y: {log.csv: loss}}\n- sub/log.csv\n")
    for word, name in (("learning", "learning"), ("log.csv", "sub/log.csv"), ("../log.csv", "learning")):
        assert [plot["name"] for plot in _json("plots", "show", word, cwd=project / "sub")["plots"]] == [name]
    assert dvcx_called("plots", "show", "../log.csv", cwd=project).returncode == 9


def test_where_there_is_nothing_it_says_what_to_do(project: Path) -> None:
    for words in (["plots", "show"], ["plots", "show", "--terminal"], ["metrics", "show"], ["params", "show"]):
        first, step = _ok(*words, cwd=project).splitlines()
        assert first.startswith("there are no ") and step.startswith(f"next: dvcx {words[0]} show FILE")
    assert not (project / ".dvcx/plots").exists() and _json("plots", "show", cwd=project)["page"] == ""
    (project / "dvcx.yaml").write_text("plots:\n- log.csv\n")
    ran = dvcx_called("plots", "show", "--out", "here", cwd=project)
    assert (ran.returncode, ran.stdout) == (0, "there are no plots\n") and "log.csv is not in the workspace" in ran.stderr
    assert not (project / "here").exists()
    for words in (["dag"], ["stage", "list"], ["repro"]):
        assert _ok(*words, cwd=project).splitlines() == [
            "there are no stages",
            "next: dvcx run -n NAME -d INPUT -o OUTPUT COMMAND",
        ]


def test_plots_on_a_terminal(project: Path) -> None:
    (project / "log.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    ran = dvcx_called("plots", "show", "log.csv", "--terminal", cwd=project)
    try:
        import plotext  # noqa: F401
    except ImportError:
        assert ran.returncode == 2 and "pip install 'dvcx[plots]'" in ran.stderr
    else:
        assert ran.returncode == 0 and "log.csv" in ran.stdout and "\x1b" not in ran.stdout
