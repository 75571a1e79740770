"""status: every way data can differ, in words; stages with all reasons; and that asking changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import Conflict, IntegrityError, NotFound
from dvcx.ops.add import add
from dvcx.ops.repro import repro
from dvcx.ops.status import DataChange, Status, status
from dvcx.ops.why import why
from dvcx.project import Project
from tests.ops.trying import again, commit_all, run_git, setting, wipe_cache, write

Change = Callable[[Path], object]


@pytest.fixture
def tracked(project: Project) -> Project:
    """One tracked file `f` and a directory `d` of three."""
    write(project, {"f": "12345", "d/a": "a", "d/b": "b", "d/sub/c": "c"})
    add(project, ["f", "d"])
    commit_all(project)
    return again(project)


def _same_size(root: Path) -> None:
    (root / "f").write_text("54321")


def _to_directory(root: Path) -> None:
    (root / "f").unlink()
    (root / "f").mkdir()


def _to_file(root: Path) -> None:
    shutil.rmtree(root / "d")
    (root / "d").write_text("file")


def _renamed(root: Path) -> None:
    (root / "d/a").rename(root / "d/z")


def _many(root: Path) -> None:
    (root / "d/a").write_text("other")
    (root / "d/new").write_text("n")
    (root / "d/b").unlink()


def _both(root: Path) -> None:
    (root / "f").unlink()
    (root / "d/sub/c").write_text("cc")


CASES: dict[str, tuple[Change, list[DataChange]]] = {
    "nothing": (lambda root: None, []),
    "longer": (lambda root: (root / "f").write_text("1234567"), [DataChange("f", "modified", "5 → 7 bytes")]),
    "same size": (_same_size, [DataChange("f", "modified", "other content, 5 bytes as before")]),
    "executable": (lambda root: (root / "f").chmod(0o755), [DataChange("f", "modified", "only its execute permission")]),
    "deleted": (lambda root: (root / "f").unlink(), [DataChange("f", "deleted", "")]),
    "file to directory": (_to_directory, [DataChange("f", "modified", "a file became a directory")]),
    "directory to file": (_to_file, [DataChange("d", "modified", "a directory became a file")]),
    "renamed inside": (_renamed, [DataChange("d", "modified", "1 file renamed")]),
    "many inside": (_many, [DataChange("d", "modified", "1 file changed, 1 added, 1 deleted")]),
    "emptied": (lambda root: shutil.rmtree(root / "d/sub"), [DataChange("d", "modified", "1 file deleted")]),
    "gone": (lambda root: shutil.rmtree(root / "d"), [DataChange("d", "deleted", "")]),
    "both": (_both, [DataChange("d", "modified", "1 file changed"), DataChange("f", "deleted", "")]),
    "touched": (lambda root: os.utime(root / "f", (1, 1)), []),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES.keys())
def test_data(tracked: Project, change: Change, expected: list[DataChange]) -> None:
    change(Path(tracked.root))
    found = status(tracked)
    assert found == Status(tuple(expected), (), 2, not expected)
    assert status(again(tracked)) == found


def test_what_is_nowhere_is_missing(tracked: Project) -> None:
    wipe_cache(tracked)
    shutil.rmtree(Path(tracked.root, "d"))
    assert status(again(tracked)).data == (DataChange("d", "missing", "not in the workspace, not in the cache"),)


def test_an_empty_directory_more_is_told(tracked: Project) -> None:
    Path(tracked.root, "d/empty").mkdir()
    (change,) = status(tracked).data
    assert (change.path, change.state) == ("d", "modified")


def test_asking_changes_nothing(tracked: Project) -> None:
    Path(tracked.root, "f").write_text("changed")
    Path(tracked.root, "d/a").unlink()

    def everything() -> dict[str, bytes]:
        root = Path(tracked.root)
        return {
            str(path): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and "/.dvcx/state/" not in str(path) and "/.git/" not in str(path)
        }

    before, index = everything(), Path(tracked.root, ".git/index").read_bytes()
    assert status(tracked) == status(tracked)
    assert everything() == before and Path(tracked.root, ".git/index").read_bytes() == index


def test_memories_can_be_deleted(tracked: Project) -> None:
    Path(tracked.root, "d/a").write_text("other")
    before = status(tracked)
    shutil.rmtree(tracked.state_dir)
    assert status(again(tracked)) == before


@pytest.mark.parametrize(
    ("targets", "paths"),
    [(["f"], ["f"]), (["d"], ["d"]), (["d/sub/c"], ["d"]), (["f", "d"], ["d", "f"]), (["s"], []), (["out"], [])],
)
def test_targets(tracked: Project, targets: list[str], paths: list[str]) -> None:
    write(tracked, {"dvcx.yaml": "stages:\n  s:\n    cmd: echo > out\n    outs: [out]\n"})
    for path in ("f", "d/sub/c"):
        Path(tracked.root, path).write_text("changed it")
    found = status(again(tracked), targets)
    assert [change.path for change in found.data] == paths
    assert [stage.stage for stage in found.stages] == (["s"] if targets in (["s"], ["out"]) else [])
    with pytest.raises(NotFound, match="nothing is not tracked"):
        status(tracked, ["nothing"])


STAGES = """\
stages:
  one:
    cmd: cat f > mid
    deps: [f]
    outs: [mid]
  two:
    cmd: cat mid > end
    deps: [mid]
    params: [lr]
    outs: [end]
"""


def test_a_stage_that_failed_was_run(tracked: Project) -> None:
    write(tracked, {"dvcx.yaml": "stages:\n  s: {cmd: cat f && exit 3, deps: [f], outs: [o]}\n"})
    project = again(tracked)
    assert repro(project).failed == 1
    (stage,) = status(project).stages
    (reason,) = stage.reasons
    assert stage.state == "stale" and reason.startswith("its last run, at 20")
    assert reason.endswith("Z, failed: the command exited with 3; see dvcx log s")
    assert [cause.text for cause in why(project, ["s"]).stages[0].causes] == [reason]
    assert repro(project, dry_run=True).runs[0].reasons == (reason,)
    write(project, {"dvcx.yaml": "stages:\n  s: {cmd: cp f o, deps: [f], outs: [o]}\n"})
    assert repro(again(project)).failed == 0 and status(project).stages[0].reasons == ()


def test_stages_with_every_reason(tracked: Project) -> None:
    write(tracked, {"dvcx.yaml": STAGES, "params.yaml": "lr: 1\n"})
    project = again(tracked)
    states = {stage.stage: (stage.state, stage.reasons) for stage in status(project).stages}
    assert states == {"one": ("stale", ("never run",)), "two": ("stale", ("never run", "mid will be rewritten by one"))}
    repro(project)
    assert status(project).clean and [stage.state for stage in status(project).stages] == ["fresh", "fresh"]
    write(project, {"f": "changed", "params.yaml": "lr: 2\n"})
    Path(project.root, "end").write_text("by hand")
    found = status(project)
    assert [change.path for change in found.data] == ["f"] and not found.clean
    reasons = {stage.stage: stage.reasons for stage in found.stages}
    assert reasons["one"] == ("f: changed",)
    assert reasons["two"] == ("params.yaml: lr 1 → 2", "end: output is not as recorded", "mid will be rewritten by one")
    Path(project.root, "f").write_text("12345")
    write(project, {"params.yaml": "lr: 1\n"})
    Path(project.root, "mid").unlink()
    Path(project.root, "end").write_text("12345")
    states = {stage.stage: (stage.state, stage.reasons) for stage in status(project).stages}
    assert states["one"] == ("missing", ("mid: output is missing",))
    assert states["two"] == ("fresh", ())  # what will be restored is what it read


def test_records_that_cannot_be_read_are_named(tracked: Project) -> None:
    for name, data, error in (
        ("f.dvcx", "", IntegrityError),
        ("d.dvcx", "{", IntegrityError),
        ("dvcx.lock", "", IntegrityError),
        ("dvcx.yaml", "stages: [", IntegrityError),
    ):
        path = Path(tracked.root, name)
        before = path.read_bytes() if path.exists() else None
        write(tracked, {name: data})
        with pytest.raises(error, match=name):
            status(again(tracked))
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    assert status(again(tracked)).clean


def test_two_owners_are_refused(tracked: Project) -> None:
    shutil.copy(Path(tracked.root, "f.dvcx"), Path(tracked.root, "g.dvcx"))
    with pytest.raises(Conflict, match="'f'"):
        status(again(tracked))


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_linked_files_are_clean_until_they_change(tracked: Project, link: str) -> None:
    project = setting(tracked, cache_link=(link,), cache_pack="never")
    add(project, ["f", "d"])
    assert status(project).clean
    Path(project.root, "d/a").unlink()
    Path(project.root, "d/a").write_text("own")
    assert [change.text for change in status(project).data] == ["1 file changed"]


def test_in_a_worktree_with_its_own_workspace(tracked: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvcx.project import open_project

    tree = tmp_path_factory.mktemp("trees") / "t"
    run_git(tracked, "worktree", "add", "-q", "--detach", str(tree))
    found = status(open_project(str(tree)))
    assert [change.state for change in found.data] == ["not pulled", "not pulled"]
    assert status(tracked).clean
