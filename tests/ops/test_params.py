from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import NotFound, UnsafeInput
from dvcx.ops.params import params_diff as diff
from dvcx.ops.params import params_show as show
from dvcx.ops.revisions import ValuesShown
from dvcx.project import Project
from tests.ops.trying import commit_all, write

PIPELINE = """\
stages:
  train:
    cmd: "true"
    params:
    - train.lr
    - conf/model.toml: [size]
    - other.json:
"""


@pytest.fixture
def tuned(project: Project) -> Project:
    """Revision `one`, HEAD, and a workspace, each with other values."""
    write(project, {"dvcx.yaml": PIPELINE, "params.yaml": "train: {lr: 0.1, epochs: 3}\n"})
    write(project, {"conf/model.toml": "size = 1\nx = 2\n"})
    write(project, {"other.json": '{"list": [1, 2], "deep": [{"a": 1}]}'})
    commit_all(project, "one")
    tag(project, "one")
    write(project, {"params.yaml": "train: {lr: 0.2, epochs: 3}\n"})
    commit_all(project, "two")
    write(project, {"params.yaml": "train: {lr: 0.2, epochs: 4, seed: .nan}\n", "other.json": '{"list": [1]}'})
    return project


def tag(project: Project, name: str) -> None:
    from tests.ops.trying import run_git

    run_git(project, "tag", name)


def flat(result: ValuesShown) -> dict[str, dict[str, object]]:
    """All values by revision and `file:key`."""
    return {
        one.rev: {f"{file.path}:{key}": value for file in one.files for key, value in file.values.items()}
        for one in result.revisions
    }


def test_what_stages_use_is_shown(tuned: Project) -> None:
    assert flat(show(tuned)) == {
        "": {
            "params.yaml:train.lr": 0.2,
            "params.yaml:train.epochs": 4,
            "params.yaml:train.seed": "NaN",
            "conf/model.toml:size": 1,
            "other.json:list": (1,),
        }
    }
    used = flat(show(tuned, rev=["one"], deps=True))["one"]
    assert used == {"params.yaml:train.lr": 0.1, "conf/model.toml:size": 1, "other.json:list": (1, 2), "other.json:deep.0.a": 1}


def test_revisions_and_targets(tuned: Project) -> None:
    found = show(tuned, ["params.yaml"], rev=["HEAD", "one"])
    assert [one.files[0].values["train.lr"] for one in found.revisions] == [0.2, 0.1]
    assert all(len(one.commit) == 40 for one in found.revisions)
    assert list(flat(show(tuned, all_branches=True, all_tags=True))) == ["", "main", "one"]
    for where, revs in (("is not in the workspace", []), ("is at none of the revisions", ["HEAD"])):
        with pytest.raises(NotFound, match=where):
            show(tuned, ["none.yaml"], rev=revs)
    with pytest.raises(NotFound, match="no revision 'nope'"):
        show(tuned, rev=["HEAD", "nope"])


def test_all_commits(tuned: Project) -> None:
    commit_all(tuned, "three")
    found = show(tuned, ["params.yaml"], all_commits=True)
    assert [one.files[0].values.get("train.epochs") for one in found.revisions] == [4, 4, 3, 3]
    assert [one.commit.startswith(one.rev) for one in found.revisions] == [True] * 4 and not found.problems
    assert [one.rev for one in show(tuned, all_commits=True, limit=1).revisions] == ["", found.revisions[1].rev]
    named = show(tuned, rev=["one"], all_commits=True, all_tags=True)
    assert [one.rev for one in named.revisions][:2] == ["", "one"] and len(named.revisions) == 5
    write(tuned, {"dvcx.yaml": "stages: [\n"})
    commit_all(tuned, "bad")
    write(tuned, {"dvcx.yaml": PIPELINE})
    [problem] = show(tuned, all_commits=True).problems
    assert problem.kind == "broken" and f"{problem.rev}:dvcx.yaml:2:1" in problem.message
    with pytest.raises(NotFound, match=r"none\.yaml is at none"):
        show(tuned, ["none.yaml"], all_commits=True)


def test_what_differs(tuned: Project) -> None:
    rows = [(row.path, row.key, row.state, row.old, row.new) for row in diff(tuned, "one").differences]
    assert rows == [
        ("other.json", "list", "modified", (1, 2), (1,)),
        ("other.json", "deep.0.a", "deleted", 1, None),
        ("params.yaml", "train.lr", "modified", 0.1, 0.2),
        ("params.yaml", "train.epochs", "modified", 3, 4),
        ("params.yaml", "train.seed", "added", None, "NaN"),
    ]
    assert [row.key for row in diff(tuned, "one", "HEAD").differences] == ["train.lr"]
    assert [row.key for row in diff(tuned, "one", deps=True, targets=["params.yaml"]).differences] == ["train.lr"]
    assert {row.state for row in diff(tuned, "one", "HEAD", all=True).differences} == {"modified", "unchanged"}
    assert diff(tuned, "HEAD", "HEAD").differences == ()


def test_what_cannot_be_read_is_named_and_hides_nothing(tuned: Project) -> None:
    write(tuned, {"other.json": "{", "params.yaml": "train: {lr: 1}\n"})
    Path(tuned.root, "conf/model.toml").unlink()
    found = show(tuned)
    assert flat(found)[""] == {"params.yaml:train.lr": 1}
    told = {(problem.path, problem.kind) for problem in found.problems}
    assert told == {("conf/model.toml", "missing"), ("other.json", "broken")}
    assert any(problem.message.startswith("other.json:1:2: broken JSON") for problem in found.problems)
    changed = diff(tuned)
    assert {row.path for row in changed.differences} == {"params.yaml", "conf/model.toml"}
    assert [problem.path for problem in changed.problems] == ["other.json"]


def test_records_that_cannot_be_read_are_a_problem_of_their_revision(tuned: Project, git: Callable[..., str]) -> None:
    git("checkout", "-q", "-b", "bad")
    write(tuned, {"dvcx.yaml": "stages: [\n"})
    commit_all(tuned, "bad")
    git("checkout", "-q", "main")
    found = show(tuned, all_branches=True)
    assert [one.rev for one in found.revisions] == ["", "main"]
    [problem] = [problem for problem in found.problems if problem.rev == "bad"]
    assert (problem.path, problem.kind) == ("", "broken") and "bad:dvcx.yaml:2:1" in problem.message
    with pytest.raises(Exception, match="bad:dvcx"):
        show(tuned, rev=["bad"])


def test_without_git_there_is_the_workspace(tmp_path: Path) -> None:
    from dvcx.ops.init import init
    from dvcx.project import open_project

    init(str(tmp_path / "p"), git=False)
    project = open_project(str(tmp_path / "p"))
    assert show(project).revisions[0].files == ()
    write(project, {"params.yaml": "a: .inf\n"})
    assert flat(show(project)) == {"": {"params.yaml:a": "Infinity"}}
    assert not math.isfinite(float("Infinity"))
    for ask in (lambda: diff(project), lambda: show(project, all_tags=True), lambda: show(project, rev=["HEAD"])):
        with pytest.raises(NotFound, match="not in a git repository"):
            ask()


def test_nothing_outside_is_read(tuned: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text("password: 1\n")
    Path(tuned.root, "link.yaml").symlink_to(outside)
    found = show(tuned, ["link.yaml"])
    assert found.revisions[0].files == () and "symbolic link" in found.problems[0].message
    with pytest.raises(UnsafeInput):
        tuned.relpath(tuned.root, "../outside.yaml")
