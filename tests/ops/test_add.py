"""add: what is recorded, where, and what is refused before anything is."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.packing import SMALL
from dvcx.errors import Conflict, IntegrityError, NotFound, UnsafeInput, UsageError
from dvcx.events import Advanced, Began, Ended
from dvcx.io.hashing import digest
from dvcx.ops.add import Added, AddedItem, add
from dvcx.ops.checkout import checkout
from dvcx.ops.init import init
from dvcx.ops.status import status
from dvcx.project import Project, open_project
from tests.faults.forge import forge
from tests.ops.conftest import Git
from tests.ops.trying import again, commit_all, objects, pointer, run_git, seen, setting, text, wipe_cache, write


def test_a_file(project: Project, git: Git) -> None:
    write(project, {"data/in.csv": "a,b\n"})
    names = digest(b"a,b\n", "xxh128")
    assert add(project, ["data/in.csv"]) == Added(
        (AddedItem("data/in.csv", "data/in.csv.dvcx", "blob", names.id, 4, 1, "added"),), False
    )
    expected = '{\n  "dvcx": 1,\n  "path": "in.csv",\n  "kind": "blob",\n  "hash": "%s",\n  "blake3": "%s",\n  "size": 4\n}\n'
    assert text(project, "data/in.csv.dvcx") == expected % (names.id, names.seal)
    assert text(project, "data/.gitignore") == "/in.csv\n"
    staged = git("diff", "--cached", "--name-only").split()
    assert {"data/in.csv.dvcx", "data/.gitignore"} <= set(staged) and "data/in.csv" not in staged
    assert status(project).clean


def test_a_directory_with_everything_in_it(project: Project) -> None:
    write(project, {"d/a": "1", "d/sub/run": "#!", "d/sub/deep/b": "22"})
    root = Path(project.root, "d")
    (root / "sub/run").chmod(0o755)
    (root / "empty").mkdir()
    (root / "link").symlink_to("sub/run")
    (root / "out").symlink_to("../../elsewhere")
    (item,) = add(project, ["d"]).items
    assert (item.pointer, item.kind, item.files, item.state) == ("d.dvcx", "tree", 5, "added")
    assert item.size == 1 + 2 + 2 + len("sub/run") + len("../../elsewhere")
    assert pointer(project, "d.dvcx")["files"] == 5
    before = seen(project, "d")
    run_git(project, "clean", "-fdxq", "d")
    assert not root.exists()
    checkout(project)
    assert seen(project, "d") == before
    assert status(again(project)).clean


def test_states_of_an_item(project: Project) -> None:
    write(project, {"f": "1"})
    assert [item.state for item in add(project, ["f"]).items] == ["added"]
    before = text(project, "f.dvcx")
    assert [item.state for item in add(project, ["f"]).items] == ["unchanged"]
    assert text(project, "f.dvcx") == before
    write(project, {"f": "two"})
    assert [item.state for item in add(project, ["f"]).items] == ["updated"]
    Path(project.root, "f").chmod(0o755)
    (item,) = add(project, ["f"]).items
    assert item.state == "updated" and pointer(project, "f.dvcx")["exec"] is True


def test_a_dry_run_tells_the_same_and_writes_nothing(project: Project) -> None:
    write(project, {"f": "1", "d/x": "x"})
    planned = add(project, ["f", "d"], dry_run=True)
    assert planned.dry_run and not Path(project.root, "f.dvcx").exists() and not Path(project.root, ".gitignore").exists()
    assert objects(project) == 0
    assert add(project, ["f", "d"]).items == planned.items
    write(project, {"f": "2"})
    assert [item.state for item in add(project, ["f", "d"], dry_run=True).items] == ["unchanged", "updated"]


def test_notes_in_a_pointer_survive(project: Project) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    record = pointer(project, "f.dvcx") | {"desc": "mine", "labels": ["a"], "meta": {"k": [1]}, "remote": "r", "push": False}
    import json

    write(project, {"f.dvcx": json.dumps(record), "f": "2"})
    add(project, ["f"])
    after = pointer(project, "f.dvcx")
    assert {key: after[key] for key in ("desc", "labels", "meta", "remote", "push")} == {
        key: record[key] for key in ("desc", "labels", "meta", "remote", "push")
    }
    assert after["hash"] == digest(b"2", "xxh128").id


def test_several_paths_and_one_inside_another(project: Project) -> None:
    write(project, {"a": "a", "d/x": "x", "d/sub/y": "y"})
    done = add(project, ["d/sub/y", "a", "d", "a"])
    assert [item.path for item in done.items] == ["a", "d"]
    assert not Path(project.root, "d/sub/y.dvcx").exists()


REFUSED: list[tuple[str, type[Exception], str]] = [
    ("absent", NotFound, "absent does not exist"),
    ("no/such/dir", NotFound, "does not exist"),
    ("", UnsafeInput, "root cannot be tracked"),
    ("f.dvcx", UsageError, "is a pointer"),
    ("dvcx.yaml", UsageError, "belongs into git"),
    ("d/dvcx.lock", UsageError, "belongs into git"),
    (".gitignore", UsageError, "belongs into git"),
    ("../outside", UnsafeInput, "unsafe path"),
    (".git/config", UnsafeInput, "unsafe path"),
    (".dvcx/config.toml", UnsafeInput, "unsafe path"),
    ("pipe", UnsafeInput, "neither a file nor a directory"),
    ("holds-pipe", UnsafeInput, "holds-pipe/pipe: a named pipe"),
    ("link", UnsafeInput, "symbolic link"),
    ("way/x", UnsafeInput, "symbolic link"),
    ("real", UnsafeInput, "real/linked: it links into a cache"),
    ("nested", UnsafeInput, "nested"),
]


@pytest.mark.parametrize(("path", "error", "says"), REFUSED, ids=[case[0] or "root" for case in REFUSED])
def test_what_cannot_be_tracked(project: Project, path: str, error: type[Exception], says: str) -> None:
    write(project, {"good": "g", "f": "f", "real/x": "x", "holds-pipe/a": "a", "nested/.git/config": ""})
    root = Path(project.root)
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "holds-pipe/pipe")
    (root / "link").symlink_to("f")
    (root / "way").symlink_to("real")
    (root / "real/linked").symlink_to(f"/elsewhere/.dvc/cache/files/md5/26/{'ab' * 15}")
    before = run_git(project, "status", "--porcelain", "--untracked-files=all")
    with pytest.raises(error, match=says):
        add(project, ["good", path])
    assert not list(root.glob("**/*.dvcx")) or list(root.glob("**/*.dvcx")) == [root / ".dvcx"]
    assert run_git(project, "status", "--porcelain", "--untracked-files=all") == before
    assert not list(Path(project.cache_dir).rglob("tmp-*"))


def test_a_path_git_tracks_needs_force(project: Project, git: Git) -> None:
    write(project, {"f": "in git", "d/x": "x"})
    commit_all(project)
    for path in ("f", "d"):
        with pytest.raises(Conflict, match="tracked by git") as caught:
            add(project, [path])
        assert f"git rm -r --cached {path}" in caught.value.hint
    add(project, ["f", "d"], force=True)
    assert set(git("ls-files").split()) >= {"f.dvcx", "d.dvcx"} and "f" not in git("ls-files").split()
    assert text(project, "f") == "in git"


def test_a_directory_that_holds_tracked_paths_needs_force(project: Project) -> None:
    write(project, {"d/x": "x", "d/sub/y": "y"})
    add(project, ["d/sub/y"])
    with pytest.raises(Conflict, match="holds 'd/sub/y'"):
        add(project, ["d"])
    add(project, ["d"], force=True)
    assert not Path(project.root, "d/sub/y.dvcx").exists()
    assert status(project).tracked == 1 and status(project).clean


def test_an_output_of_a_stage_has_an_owner(project: Project) -> None:
    write(project, {"out/x": "x", "dvcx.yaml": "stages:\n  s:\n    cmd: 'true'\n    outs: [out]\n"})
    for path in ("out", "out/x"):
        with pytest.raises(Conflict, match="written by stage 's'"):
            add(project, [path])
    write(project, {"dvcx.yaml": "stages:\n  s:\n    cmd: 'true'\n    outs: [out/x]\n"})
    with pytest.raises(Conflict, match="holds 'out/x'"):
        add(project, ["out"], force=True)


def test_ignored_files_are_left_out_and_left_alone(project: Project) -> None:
    write(project, {"d/a": "a", "d/b.tmp": "t", ".dvcxignore": "*.tmp\n"})
    (item,) = add(project, ["d"]).items
    assert item.files == 1
    assert status(project).clean
    Path(project.root, "d/a").unlink()
    checkout(project)
    assert seen(project, "d") == {"d": "/", "d/a": "a", "d/b.tmp": "t"}


@pytest.mark.parametrize("pack", ["auto", "never"])
def test_small_files_are_packed_unless_told_not_to(project: Project, pack: str) -> None:
    write(project, {f"d/{number}": str(number) for number in range(150)})
    add(setting(project, cache_pack=pack), ["d"])
    cache = Path(project.cache_dir)
    assert len(list(cache.rglob("*.pack"))) == (1 if pack == "auto" else 0)
    assert len(list(cache.glob("objects/*/*"))) == (0 if pack == "auto" else 151)
    before = seen(project, "d")
    run_git(project, "clean", "-fdxq", "d")
    checkout(project)
    assert seen(project, "d") == before


def test_blake3_as_the_name(repo: Path) -> None:
    init(str(repo), hash="blake3")
    project = open_project(str(repo))
    write(project, {"f": "1", **{f"d/{number}": str(number) for number in range(120)}})
    items = add(project, ["f", "d"]).items
    assert all(item.id.startswith("blake3:") for item in items)
    assert pointer(project, "f.dvcx")["hash"] == "blake3:" + pointer(project, "f.dvcx")["blake3"]
    before = seen(project, "d")
    run_git(project, "clean", "-fdxq", "d")
    assert [change.state for change in status(project).data] == ["deleted"]
    checkout(project)
    assert seen(project, "d") == before and status(project).clean


BIG = random.Random(1).randbytes(SMALL + 100).decode("latin-1").encode()


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_links_as_preferred(project: Project, link: str) -> None:
    project = setting(project, cache_link=(link,))
    write(project, {"big": BIG, "d/big2": BIG + b"2", "d/small": "s", "d/empty": "", "run": BIG + b"x"})
    Path(project.root, "run").chmod(0o755)
    add(project, ["big", "d", "run"])
    root = Path(project.root)
    for path in ("big", "d/big2", "d/small"):
        here = root / path
        assert here.is_symlink() == (link == "symlink") and (link == "symlink" or here.stat().st_nlink == 2)
        assert here.stat().st_mode & 0o222 == 0
    assert (root / "run").stat().st_mode & 0o100 and (root / "run").stat().st_nlink == 1 and not (root / "run").is_symlink()
    assert status(project).clean and status(again(project)).clean
    assert [item.state for item in add(project, ["big", "d", "run"]).items] == ["unchanged"] * 3
    assert (root / "big").read_bytes() == BIG


def test_a_file_edited_through_its_hard_link_is_seen_and_never_restored_wrong(project: Project) -> None:
    project = setting(project, cache_link=("hardlink",))
    write(project, {"big": BIG})
    add(project, ["big"])
    path = Path(project.root, "big")
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"EDITED")  # and with it the object in the cache
    assert [change.state for change in status(project).data] == ["modified"]
    with pytest.raises((Conflict, IntegrityError)):
        checkout(project)
    with pytest.raises(IntegrityError):
        checkout(project, force=True)
    assert path.read_bytes().startswith(b"EDITED")
    add(project, ["big"])
    assert status(project).clean


def test_without_git(tmp_path: Path) -> None:
    init(str(tmp_path / "p"), git=False)
    project = open_project(str(tmp_path / "p"))
    write(project, {"f": "1", "d/x": "x"})
    assert [item.state for item in add(project, ["f", "d"]).items] == ["added", "added"]
    assert not Path(project.root, ".gitignore").exists()
    assert status(project).clean and status(project).tracked == 2
    Path(project.root, "f").unlink()
    checkout(project)
    assert text(project, "f") == "1"


def test_autostage_can_be_off(project: Project, git: Git) -> None:
    git("commit", "-qm", "init")
    write(project, {"f": "1"})
    add(setting(project, core_autostage=False), ["f"])
    assert git("diff", "--cached", "--name-only") == ""
    assert text(project, ".gitignore") == "/f\n"


def test_names_that_look_like_patterns(project: Project, git: Git) -> None:
    names = ["sp ace", "[a]*?", "#hash", "!bang", "ünï", "tail ", "-dash", "quo'te\"", "star*"]
    write(project, {f"{name}": name for name in names})
    add(project, names)
    assert status(project).clean and status(project).tracked == len(names)
    untracked = git("-c", "core.quotepath=off", "status", "--porcelain", "-z", "--untracked-files=all").split("\0")
    assert not any(line.startswith("?? ") for line in untracked)
    commit_all(project)
    assert not set(git("-c", "core.quotepath=off", "ls-files", "-z").split("\0")) & set(names)


def test_forged_content_is_refused(project: Project) -> None:
    good = random.Random(3).randbytes(2000)
    write(project, {"good": good, "forged": forge(good), "d/forged": forge(good)})
    add(project, ["good"])
    for path in ("forged", "d"):
        with pytest.raises(IntegrityError, match="other bytes under this id") as caught:
            add(project, [path])
        assert "blake3" in caught.value.hint and not Path(project.root, path + ".dvcx").exists()


def test_a_forged_file_in_place_of_a_tracked_one_is_seen_and_not_lost(project: Project) -> None:
    good = random.Random(3).randbytes(2000)
    write(project, {"f": good})
    add(project, ["f"])
    write(project, {"f": forge(good)})
    (change,) = status(project).data
    assert change.state == "modified" and "execute" not in change.text
    with pytest.raises((Conflict, IntegrityError)):
        checkout(project)
    with pytest.raises((Conflict, IntegrityError)):
        checkout(project, force=True)
    assert Path(project.root, "f").read_bytes() == forge(good)


def test_lost_objects_come_back_when_added_again(project: Project) -> None:
    write(project, {"f": "1", "d/x": "x", "d/sub/y": "y"})
    add(project, ["f", "d"])
    wipe_cache(project)
    assert [item.state for item in add(again(project), ["f", "d"]).items] == ["unchanged", "unchanged"]
    run_git(project, "clean", "-fdxq", "d", "f")
    checkout(again(project))
    assert text(project, "d/sub/y") == "y" and text(project, "f") == "1"


def test_it_tells_what_it_does(project: Project, events: list[Any]) -> None:
    write(project, {f"d/{number}": "x" for number in range(300)})
    add(project, ["d"], emit=events.append)
    assert [event for event in events if isinstance(event, Began | Ended)] == [Began("adding"), Ended("adding")]
    assert sum(event.files for event in events if isinstance(event, Advanced)) == 300
