"""checkout: the workspace becomes what is recorded, whatever it was before, and no byte that is nowhere else is lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from dvcx.core.objects import FILE, Entry
from dvcx.core.packing import SMALL
from dvcx.errors import Conflict, IntegrityError, NotFound, UnsafeInput
from dvcx.events import ignore
from dvcx.io.hashing import digest
from dvcx.io.store.store import object_name
from dvcx.ops import cache as cache_ops
from dvcx.ops.add import add
from dvcx.ops.checkout import CheckedOut, PathChange, checkout
from dvcx.ops.commit import commit
from dvcx.ops.init import init
from dvcx.ops.placing import unsaved
from dvcx.ops.status import status
from dvcx.project import Project, open_project
from tests.ops.trying import again, commit_all, pointer, run_git, seen, setting, text, wipe_cache, write

NOTHING = CheckedOut(0, 0, 2, 0, (), ())


@pytest.fixture
def tracked(project: Project) -> Project:
    """One tracked file `f` and a directory `d`."""
    write(project, {"f": "12345", "d/a": "a", "d/b": "b", "d/sub/c": "c"})
    Path(project.root, "d/b").chmod(0o755)
    Path(project.root, "d/link").symlink_to("sub/c")
    Path(project.root, "d/empty").mkdir()
    add(project, ["f", "d"])
    commit_all(project)
    return again(project)


WHOLE = {
    "d": "/",
    "d/a": "a",
    "d/b": "x:b",
    "d/empty": "/",
    "d/link": "-> sub/c",
    "d/sub": "/",
    "d/sub/c": "c",
}


def test_nothing_to_do(tracked: Project) -> None:
    assert checkout(tracked) == NOTHING == checkout(tracked, force=True)


def test_all_comes_back(tracked: Project) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    Path(tracked.root, "f").unlink()
    dry = checkout(tracked, dry_run=True)
    assert dry == CheckedOut(5, 0, 0, 5 + 1 + 1 + 1 + 5, (PathChange("d/", "placed"), PathChange("f", "placed")), ())
    assert seen(tracked, "d") == {}
    assert checkout(tracked) == dry
    assert seen(tracked, "d") == WHOLE and text(tracked, "f") == "12345"
    assert status(tracked).clean and checkout(tracked) == NOTHING


def test_only_what_is_missing_is_placed(tracked: Project) -> None:
    kept = os.stat(f"{tracked.root}/d/b")
    Path(tracked.root, "d/sub/c").unlink()
    Path(tracked.root, "d/link").unlink()
    done = checkout(tracked)
    assert done.paths == (PathChange("d/link", "placed"), PathChange("d/sub/c", "placed"))
    assert (done.placed, done.removed, done.unchanged, done.bytes) == (2, 0, 1, 6)
    assert seen(tracked, "d") == WHOLE and os.stat(f"{tracked.root}/d/b") == kept


@pytest.mark.parametrize("target", ["f", "d", "d/sub", "d/sub/c", "d/a", "."])
def test_targets(tracked: Project, target: str) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    Path(tracked.root, "f").unlink()
    expected = {
        "f": {"f": "12345"},
        "d": WHOLE,
        "d/sub": {"d": "/", "d/sub": "/", "d/sub/c": "c"},
        "d/sub/c": {"d": "/", "d/sub": "/", "d/sub/c": "c"},
        "d/a": {"d": "/", "d/a": "a"},
        ".": {"f": "12345", **WHOLE},
    }
    checkout(tracked, ["" if target == "." else target])
    assert {**seen(tracked, "f"), **seen(tracked, "d")} == expected[target]


def test_targets_that_are_not_there(tracked: Project) -> None:
    for target in ("nothing", "d/nothing", "f/below", "d/a/below"):
        with pytest.raises(NotFound):
            checkout(tracked, [target])
    with pytest.raises(NotFound) as caught:
        checkout(tracked, ["dd"])
    assert "dd is not tracked" in caught.value.message


# Unsaved work


@pytest.mark.parametrize("what", ["changed", "added", "file for directory", "directory for file", "link changed"])
def test_unsaved_work_is_in_the_way_and_force_saves_it(tracked: Project, what: str) -> None:
    root = Path(tracked.root)
    mine = "mine alone"
    if what == "changed":
        write(tracked, {"d/sub/c": mine})
        path = "d/sub/c"
    elif what == "added":
        write(tracked, {"d/sub/new": mine})
        path = "d/sub/new"
    elif what == "file for directory":
        shutil.rmtree(root / "d")
        write(tracked, {"d": mine})
        path = "d"
    elif what == "directory for file":
        (root / "f").unlink()
        write(tracked, {"f/x/y": mine})
        path = "f/x/y"
    else:
        (root / "d/link").unlink()
        (root / "d/link").symlink_to(mine)
        path = "d/link"
    before = {**seen(tracked, "f"), **seen(tracked, "d")}
    for dry_run in (True, False):
        with pytest.raises(Conflict) as caught:
            checkout(tracked, dry_run=dry_run)
        assert path in caught.value.message and "--force" in caught.value.hint
    assert {**seen(tracked, "f"), **seen(tracked, "d")} == before
    done = checkout(tracked, force=True)
    assert {**seen(tracked, "f"), **seen(tracked, "d")} == {"f": "12345", **WHOLE}
    (kept,) = done.kept
    assert kept.path == path
    cache_ops.get(again(tracked), kept.id, str(root / "saved"))
    assert (root / "saved").read_text() == mine
    assert status(tracked).clean


def test_what_is_in_the_cache_may_go_without_asking(tracked: Project) -> None:
    write(tracked, {"d/copy": "12345"})  # the bytes of f
    shutil.copy(Path(tracked.root, "d/a"), Path(tracked.root, "d/b"))
    done = checkout(tracked)
    assert done.removed == 1 and done.kept == ()
    assert seen(tracked, "d") == WHOLE


def test_a_foreign_file_where_a_directory_has_to_be(project: Project) -> None:
    write(project, {"deep/er/f": "tracked"})
    add(project, ["deep/er/f"])
    shutil.move(Path(project.root, "deep/er/f.dvcx"), Path(project.root, "kept"))
    shutil.rmtree(Path(project.root, "deep/er"))
    record = pointer(project, "kept") | {"path": "deep/er/f"}
    import json

    write(project, {"f.dvcx": json.dumps(record), "deep/er": "mine"})
    Path(project.root, "kept").unlink()
    for force in (False, True):
        with pytest.raises(Conflict, match="deep/er"):
            checkout(again(project), force=force)
    assert text(project, "deep/er") == "mine"


def test_a_link_put_in_place_of_a_directory(tracked: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    victim = tmp_path_factory.mktemp("victim")
    (victim / "a").write_text("do not touch")
    shutil.rmtree(Path(tracked.root, "d"))
    Path(tracked.root, "d").symlink_to(victim)
    from dvcx.errors import DvcxError

    with pytest.raises(DvcxError):
        checkout(tracked)
    assert sorted(path.name for path in victim.iterdir()) == ["a"] and (victim / "a").read_text() == "do not touch"


# Objects that are not there, or not right


def test_nothing_is_touched_when_an_object_is_absent(tracked: Project) -> None:
    (found,) = [path for path in Path(tracked.cache_dir, "objects").glob("*/*") if path.read_bytes() == b"c"]
    found.unlink()
    shutil.rmtree(Path(tracked.root, "d"))
    write(tracked, {"f": "a"})  # saved elsewhere, so it would be replaced
    with pytest.raises(NotFound, match="'d/sub/c'") as caught:
        checkout(again(tracked))
    assert "remote" in caught.value.hint
    assert seen(tracked, "d") == {} and text(tracked, "f") == "a"
    assert not Path(tracked.root, ".dvcx/tmp").exists() or os.listdir(Path(tracked.root, ".dvcx/tmp")) == []


def test_the_error_names_the_path_that_lacks_it(project: Project) -> None:
    write(project, {"one/x": "1", "two/y": "22"})
    add(project, ["one", "two"])
    (found,) = [path for path in Path(project.cache_dir, "objects").glob("*/*") if path.read_bytes() == b"22"]
    found.unlink()
    for name in ("one", "two"):
        shutil.rmtree(Path(project.root, name))
    with pytest.raises(NotFound, match="'two"):
        checkout(again(project))


def test_a_lost_listing_is_named(tracked: Project) -> None:
    wipe_cache(tracked)
    shutil.rmtree(Path(tracked.root, "d"))
    with pytest.raises(NotFound, match="the listing of 'd'"):
        checkout(again(tracked))
    Path(tracked.root, "f").unlink()
    with pytest.raises(NotFound, match="'f'"):
        checkout(again(tracked), ["f"])


@pytest.mark.parametrize("link", ["copy", "hardlink", "symlink"])
@pytest.mark.parametrize("size", [50, SMALL + 1])
def test_a_corrupt_object_is_never_placed(project: Project, link: str, size: int) -> None:
    project = setting(project, cache_link=(link,))
    data = random.Random(1).randbytes(size)
    write(project, {"f": data})
    (item,) = add(project, ["f"]).items
    Path(project.root, "f").unlink()
    path = Path(project.cache_dir, object_name(item.id))
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=item.id):
        checkout(again(project))
    with pytest.raises(IntegrityError, match=item.id):
        checkout(setting(again(project), cache_link=(link,)))
    assert not os.path.lexists(Path(project.root, "f"))


# Other commits


def test_another_commit_and_back(tracked: Project) -> None:
    write(tracked, {"d/a": "second", "d/new": "n", "only-here": "o"})
    Path(tracked.root, "d/sub/c").unlink()
    add(tracked, ["d", "only-here"])
    commit_all(tracked, "second")
    second = seen(tracked, "d")
    run_git(tracked, "checkout", "-q", "HEAD~1")
    done = checkout(again(tracked))
    assert seen(tracked, "d") == WHOLE
    assert not Path(tracked.root, "only-here").exists()  # that commit does not track it, and the cache has it
    assert PathChange("only-here", "removed") in done.paths and PathChange("d/a", "replaced") in done.paths
    assert status(again(tracked)).clean
    run_git(tracked, "checkout", "-q", "main")
    checkout(again(tracked))
    assert seen(tracked, "d") == second and text(tracked, "only-here") == "o"


def test_what_another_commit_does_not_track_stays_when_it_is_nowhere_else(tracked: Project) -> None:
    write(tracked, {"only-here": "o", "tree/x": "x"})
    add(tracked, ["only-here", "tree"])
    commit_all(tracked, "second")
    write(tracked, {"only-here": "edited since", "tree/y": "new in it"})
    run_git(tracked, "checkout", "-q", "HEAD~1")
    checkout(again(tracked))
    assert text(tracked, "only-here") == "edited since" and text(tracked, "tree/y") == "new in it"


def test_a_file_becomes_a_directory_between_commits(project: Project) -> None:
    write(project, {"p": "file"})
    add(project, ["p"])
    commit_all(project, "file")
    Path(project.root, "p").unlink()
    write(project, {"p/x": "in"})
    add(again(project), ["p"])
    commit_all(project, "directory")
    for rev, expected in (("HEAD~1", {"p": "file"}), ("main", {"p": "/", "p/x": "in"})) * 2:
        run_git(project, "checkout", "-q", rev)
        checkout(again(project))
        assert seen(project, "p") == expected


def test_a_merge_conflict_in_a_pointer_is_named(tracked: Project) -> None:
    write(tracked, {"f.dvcx": "<<<<<<< HEAD\n" + text(tracked, "f.dvcx") + "=======\n>>>>>>> other\n"})
    with pytest.raises(IntegrityError, match=r"f\.dvcx"):
        checkout(again(tracked))


# Ways to place


@pytest.mark.parametrize("links", [("reflink", "copy"), ("copy",), ("hardlink", "copy"), ("symlink", "copy")])
@pytest.mark.parametrize("pack", ["auto", "never"])
def test_every_kind_of_link_gives_the_same_bytes(project: Project, links: tuple[str, ...], pack: str) -> None:
    project = setting(project, cache_link=links, cache_pack=pack)
    write(project, {f"d/{number}": f"{number}" * 50 for number in range(120)})
    write(project, {"d/big": random.Random(2).randbytes(SMALL), "d/empty": "", "d/run": "#!/bin/sh"})
    Path(project.root, "d/run").chmod(0o755)
    add(project, ["d"])
    before = seen(project, "d")
    for _ in range(2):
        shutil.rmtree(Path(project.root, "d"))
        assert checkout(project).placed == 123
        assert seen(project, "d") == before
        assert status(project).clean and checkout(project).unchanged == 1
    big = Path(project.root, "d/big")
    assert big.is_symlink() == (links[0] == "symlink")
    assert (big.stat().st_nlink > 1) == (links[0] == "hardlink")


def test_a_directory_of_9000_files(project: Project) -> None:
    base = Path(project.root, "many")
    base.mkdir()
    for number in range(9000):
        (base / f"f{number:05}").write_bytes(b"%d" % number)
    (item,) = add(project, ["many"]).items
    assert item.files == 9000
    shutil.rmtree(base)
    assert checkout(again(project)).placed == 9000
    assert status(again(project)).clean
    assert (base / "f08999").read_bytes() == b"8999" and len(os.listdir(base)) == 9000
    (base / "f04000").unlink()
    assert checkout(again(project)).paths == (PathChange("many/f04000", "placed"),)


@pytest.mark.parametrize("hash_name", ["xxh128", "blake3"])
def test_without_git(tmp_path: Path, hash_name: str) -> None:
    init(str(tmp_path / "p"), git=False, hash=hash_name)
    project = open_project(str(tmp_path / "p"))
    write(project, {"d/x": "x"})
    add(project, ["d"])
    shutil.rmtree(Path(project.root, "d"))
    checkout(project)
    assert seen(project, "d") == {"d": "/", "d/x": "x"}


def test_in_a_project_below_the_repository(repo: Path) -> None:
    init(str(repo / "sub"))
    project = open_project(str(repo / "sub"))
    write(project, {"d/x": "x"})
    add(project, ["d"])
    commit_all(project)
    assert "sub/d.dvcx" in run_git(project, "ls-files", "--full-name").split()
    shutil.rmtree(Path(project.root, "d"))
    checkout(again(project))
    assert seen(project, "d") == {"d": "/", "d/x": "x"} and status(project).clean


def test_outputs_of_stages_come_back_too(project: Project) -> None:
    from dvcx.ops.repro import repro

    write(project, {"dvcx.yaml": "stages:\n  s:\n    cmd: echo hi > out\n    outs: [out]\n"})
    repro(project)
    for target in ([], ["out"], ["s"]):
        Path(project.root, "out").unlink()
        assert checkout(again(project), target).placed == 1
        assert text(project, "out") == "hi\n"


def test_a_forced_checkout_that_fails_saves_nothing(tracked: Project) -> None:
    """What it would have saved still counts as saved nowhere: the next command may not overwrite it silently."""
    write(tracked, {"d/a": "newer"})
    add(again(tracked), ["d"])
    write(tracked, {"d/a": "never recorded", "d/mine": "never recorded either"})
    cache = again(tracked).cache(lambda event: None)
    try:
        cache.quarantine(pointer_id(tracked, "newer"))
    finally:
        cache.close()
    with pytest.raises(NotFound):
        checkout(again(tracked), force=True)
    with pytest.raises(Conflict, match="never recorded"):
        checkout(again(tracked), ["d"])
    assert text(tracked, "d/a") == "never recorded"


def pointer_id(project: Project, content: str) -> str:
    """The id of a small file's bytes."""
    return digest(content.encode(), project.algorithm).id


@pytest.mark.parametrize("ignoring", [False, True])
def test_links_into_a_cache_that_moved_or_lost_its_objects(project: Project, tmp_path: Path, ignoring: bool) -> None:
    project = setting(project, cache_link=("symlink",))
    write(project, {"f": "file", "d/a": "a", "d/sub/b": "b", **({".dvcxignore": "*.log\n"} if ignoring else {})})
    add(project, ["f", "d"])
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    os.rename(project.root, moved)
    try:
        here = setting(open_project(str(moved)), cache_link=("symlink",))
        assert {(change.path, change.state) for change in status(here).data} == {("f", "deleted"), ("d", "modified")}
        with pytest.raises(UnsafeInput, match="into a cache"):
            commit(here)
        with pytest.raises(UnsafeInput, match="symbolic link"):
            add(here, ["d/a"])
        assert checkout(here, ["d/a"]).placed == 1 and checkout(here).placed == 2
        assert (text(here, "f"), text(here, "d/a"), text(here, "d/sub/b")) == ("file", "a", "b") and status(here).clean
        shutil.rmtree(f"{here.cache_dir}/objects")
        assert {(change.path, change.state) for change in status(here).data} == {("f", "missing"), ("d", "modified")}
        with pytest.raises(NotFound):
            commit(here)
        assert os.path.islink(f"{moved}/f") and os.path.islink(f"{moved}/d/a")
    finally:
        os.rename(moved, project.root)


def test_bytes_of_another_seal_are_not_saved_by_their_id(project: Project) -> None:
    """Of an object in a pack as of one that stands alone: a forged twin in the cache is no copy of what would be overwritten."""
    write(project, {**{f"d/{number}": f"file {number}" for number in range(120)}, "f": "x" * (SMALL + 1)})
    add(project, ["d", "f"])
    cache = project.cache(ignore)
    try:
        for data in ("file 7", "x" * (SMALL + 1)):
            names = digest(data.encode(), "xxh128")
            entry = Entry("f", FILE, len(data), names.id, names.seal)
            assert unsaved(cache, [("f", entry)]) == []
            assert unsaved(cache, [("f", entry._replace(seal="0" * 64))])
    finally:
        cache.close()
