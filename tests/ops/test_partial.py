"""Work with a part of the data: nothing else is read from the remote, and nothing that never came is taken for deleted."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.objects import BLOB
from dvcx.core.packing import SMALL
from dvcx.errors import Conflict, DvcxError, NotFound, UsageError
from dvcx.ops import placed
from dvcx.ops.add import add
from dvcx.ops.check import check
from dvcx.ops.checkout import checkout
from dvcx.ops.commit import commit
from dvcx.ops.fetch import fetch
from dvcx.ops.list import list_
from dvcx.ops.move import move
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.remove import remove
from dvcx.ops.status import DataChange, status
from dvcx.project import Project
from tests.ops.counting import Traffic, traffic  # noqa: F401
from tests.ops.trying import again, clone, commit_all, pointer, seen, wipe_cache, with_remote, write

LISTINGS = 20_000
"""Bytes: more than all listings of the data take together, much less than any other part."""


@pytest.fixture
def pushed(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`data` with small cats, large dogs and notes, pushed (in a pack and alone) and committed."""
    noise = random.Random(7)
    write(project, {f"data/images/cats/{number}.png": f"cat {number}" for number in range(10)})
    write(project, {f"data/images/dogs/{number}.png": noise.randbytes(12_000) for number in range(120)})
    write(project, {"data/notes/one.txt": "one", "data/notes/two.txt": "two", "data/big.bin": noise.randbytes(SMALL + 1)})
    add(project, ["data"])
    project = with_remote(project, tmp_path_factory.mktemp("remote"))
    push(project)
    commit_all(project)
    return again(project)


@pytest.fixture
def there(pushed: Project, tmp_path_factory: pytest.TempPathFactory, traffic: Traffic) -> Project:  # noqa: F811
    """A fresh clone: nothing but the records."""
    return clone(pushed, tmp_path_factory.mktemp("clone") / "c")


def names(project: Project) -> list[str]:
    """Every recorded file."""
    return [item.path for item in list_(project, recursive=True).items]


def files(project: Project, path: str = "data") -> list[str]:
    """Every file in the workspace."""
    return [name for name, text in seen(project, path).items() if text != "/"]


def states(project: Project) -> list[tuple[str, str, str]]:
    return [(change.path, change.state, change.text) for change in status(project).data]


CATS = [f"data/images/cats/{number}.png" for number in range(10)]


@pytest.mark.parametrize("work", [pull, fetch])
def test_a_directory_inside_and_nothing_else(
    there: Project,
    pushed: Project,
    traffic: Traffic,  # noqa: F811
    work: Callable[..., object],
) -> None:
    assert traffic.of(lambda: work(there, ["data/images/cats"])).bytes < LISTINGS
    if work is fetch:
        assert traffic.of(lambda: checkout(there, ["data/images/cats"])).names == []
    assert files(there) == CATS
    assert states(there) == [("data", "not pulled", "123 of 133 files")]
    assert check(there).clean
    pull(there)
    assert seen(there, "data") == seen(pushed, "data") and status(there).clean


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("data/**/1.png", ["data/images/cats/1.png", "data/images/dogs/1.png"]),
        ("data/images/c*/*.png", CATS),
        ("data/images/c*", CATS),
        ("**/*.txt", ["data/notes/one.txt", "data/notes/two.txt"]),
        ("data/notes/**", ["data/notes/one.txt", "data/notes/two.txt"]),
    ],
)
def test_what_a_glob_names(
    there: Project,
    traffic: Traffic,  # noqa: F811
    glob: str,
    expected: list[str],
) -> None:
    read = traffic.of(lambda: pull(there, globs=[glob])).bytes
    assert files(there) == expected
    assert read < LISTINGS or "dogs" in str(expected)
    before = status(there).data
    assert before == (DataChange("data", "not pulled", f"{133 - len(expected)} of 133 files"),)
    shutil.rmtree(f"{there.root}/data")
    assert checkout(there, globs=[glob]).placed == len(expected)
    assert files(there) == expected and status(there).data == before


def test_a_file_that_a_wildcard_does_not_name_stays_away(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(project, {"data/x/1.txt": "one", "big.bin": "big"})
    add(project, ["data", "big.bin"])
    project = with_remote(project, tmp_path_factory.mktemp("remote"))
    push(project)
    commit_all(project)
    there = clone(project, tmp_path_factory.mktemp("clone") / "c")
    assert fetch(there, globs=["**/*.txt"]).objects == 3  # the file and two listings
    assert pull(there, globs=["**/*.txt"]).fetched.objects == 0
    assert not os.path.exists(f"{there.root}/big.bin")
    with pytest.raises(NotFound, match="no recorded path matches"):
        fetch(there, globs=["**/*.jpg"])


def test_only_listings_that_can_hold_a_match_are_read(there: Project, traffic: Traffic) -> None:  # noqa: F811
    done = fetch(there, globs=["data/notes/*.txt"])
    assert done.objects == 4  # two files, the root's listing and that of notes
    with pytest.raises(NotFound, match="listing of 'data/images'"):
        checkout(there, ["data/images/cats/1.png"])


def test_equal_directories_are_told_apart(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("a", "b", "c/d"):
        write(project, {f"data/{name}/1": "one", f"data/{name}/2": "two", f"data/{name}/sub/3": "three"})
    add(project, ["data"])
    project = with_remote(project, tmp_path_factory.mktemp("remote"))
    push(project)
    commit_all(project)
    there = clone(project, tmp_path_factory.mktemp("clone") / "c")
    pull(there, globs=["data/a/1", "data/b/2", "data/c", "data/a/sub/*"])
    assert files(there) == ["data/a/1", "data/a/sub/3", "data/b/2", "data/c/d/1", "data/c/d/2", "data/c/d/sub/3"]
    os.remove(f"{there.root}/data/a/1")
    assert commit(there).items[0].not_pulled == 3
    assert names(there) == [name for name in names(project) if name != "data/a/1"]


def test_globs_that_name_nothing_and_globs_with_targets(there: Project) -> None:
    for work in (pull, fetch):
        with pytest.raises(NotFound, match=r"no recorded path matches 'data/.*jpg'"):
            work(there, globs=["data/**/*.jpg"])
        with pytest.raises(UsageError, match="exclude one another"):
            work(there, ["data"], globs=["data/*"])
    fetch(there)
    with pytest.raises(NotFound, match="no recorded path"):
        checkout(there, globs=["*.jpg"])
    assert files(there) == []


def test_unsaved_work_stops_a_glob_too(there: Project) -> None:
    pull(there, globs=["data/**/1.png"])
    write(there, {"data/images/cats/1.png": "mine", "data/images/cats/new.png": "new"})
    with pytest.raises(Conflict, match="never recorded"):
        checkout(there, globs=["data/**/1.png"])
    assert checkout(there, globs=["data/**/1.png"], force=True).kept[0].path == "data/images/cats/1.png"
    assert Path(there.root, "data/images/cats/new.png").read_text() == "new"


# Recording a change in a directory whose rest is not here


def test_add_into_what_was_never_pulled(there: Project, pushed: Project, traffic: Traffic) -> None:  # noqa: F811
    write(there, {"data/images/cats/new.png": "a new cat"})
    before = names(pushed)
    assert traffic.of(lambda: add(there, ["data/images/cats/new.png"])).bytes < LISTINGS
    assert names(there) == sorted([*before, "data/images/cats/new.png"])
    assert states(there) == [("data", "not pulled", "133 of 134 files")]
    assert traffic.of(lambda: push(there)).bytes < LISTINGS
    assert len(traffic.written) <= 6  # the file, the listings on its way, the index
    pull(there)
    assert status(there).clean and len(files(there)) == 134


def test_a_new_file_in_a_new_directory(there: Project, traffic: Traffic) -> None:  # noqa: F811
    write(there, {"data/birds/deep/1.png": "tweet"})
    assert traffic.of(lambda: add(there, ["data/birds"])).bytes < LISTINGS
    assert len(names(there)) == 134 and "data/birds/deep/1.png" in names(there)


def test_remove_what_was_never_pulled(there: Project, pushed: Project, traffic: Traffic) -> None:  # noqa: F811
    assert traffic.of(lambda: remove(there, ["data/images/cats/3.png"])).bytes < LISTINGS
    assert set(names(pushed)) - set(names(there)) == {"data/images/cats/3.png"}
    remove(there, ["data/images/dogs"], keep_data=False)
    assert len(names(there)) == 12
    with pytest.raises(NotFound, match="is not in 'data'"):
        remove(there, ["data/images/none.png"])


def test_move_what_was_never_pulled(there: Project, traffic: Traffic) -> None:  # noqa: F811
    moved = move(there, "data/images/cats/3.png", "data/images/dogs/cat.png")
    assert traffic.bytes < LISTINGS and moved.pointer == "data.dvcx"
    assert "data/images/dogs/cat.png" in names(there) and "data/images/cats/3.png" not in names(there)
    assert move(there, "data/images/dogs", "data/notes").destination == "data/notes/dogs"
    assert move(there, "data/notes/dogs", "data").destination == "data/dogs"
    pull(there)
    assert Path(there.root, "data/dogs/cat.png").read_text() == "cat 3" and status(there).clean
    move(there, "data/dogs/cat.png", "data/deep/er/cat.png")
    assert Path(there.root, "data/deep/er/cat.png").read_text() == "cat 3" and status(again(there)).clean


@pytest.mark.parametrize(
    ("source", "destination", "error"),
    [
        ("data/big.bin", "data/notes/one.txt", Conflict),
        ("data/big.bin", "data/notes/one.txt/below", Conflict),
        ("data/images", "data/images/cats", UsageError),
        ("data/none", "data/other", NotFound),
        ("data/big.bin", "outside.bin", Conflict),
    ],
)
def test_moves_that_are_refused(there: Project, source: str, destination: str, error: type[DvcxError]) -> None:
    before = pointer(there, "data.dvcx")
    with pytest.raises(error):
        move(there, source, destination)
    assert pointer(there, "data.dvcx") == before


@pytest.mark.parametrize("verb", ["commit", "add"])
def test_what_never_came_is_not_recorded_as_deleted(
    there: Project,
    pushed: Project,
    traffic: Traffic,  # noqa: F811
    verb: str,
) -> None:
    pull(there, ["data/images/cats"])
    os.remove(f"{there.root}/data/images/cats/0.png")
    write(there, {"data/images/cats/1.png": "edited", "data/images/cats/new.png": "new", "data/birds/1.png": "3"})
    assert states(there) == [("data", "modified", "1 file changed, 2 added, 1 deleted; 123 of 133 files not pulled")]
    traffic.of(lambda: commit(there) if verb == "commit" else add(there, ["data"]))
    assert traffic.bytes < LISTINGS
    expected = {*names(pushed), "data/images/cats/new.png", "data/birds/1.png"} - {"data/images/cats/0.png"}
    assert set(names(there)) == expected
    assert states(there) == [("data", "not pulled", "123 of 134 files")]
    assert push(there).objects == 3 + 4  # three files; data, images, cats, birds
    pull(there)
    assert set(files(there)) == expected and status(there).clean


def test_a_directory_that_was_deleted_again_counts_as_deleted(there: Project) -> None:
    pull(there, ["data/images"])
    shutil.rmtree(f"{there.root}/data/images/cats")
    assert states(there) == [("data", "modified", "10 files deleted; 3 of 133 files not pulled")]
    assert [item.not_pulled for item in commit(there).items] == [3]
    assert len(names(there)) == 123
    shutil.rmtree(f"{there.root}/data")
    assert states(there) == [("data", "deleted", "3 of 123 files not pulled")]
    checkout(there, ["data/images/dogs"])
    assert states(there) == [("data", "not pulled", "3 of 123 files")]


def test_exact_takes_what_is_here_for_all_of_it(there: Project, traffic: Traffic) -> None:  # noqa: F811
    pull(there, ["data/notes"])
    assert add(there, ["data"], dry_run=True).items[0].state == "unchanged"
    done = add(there, ["data"], exact=True)
    assert (done.items[0].state, done.items[0].files, done.items[0].not_pulled) == ("updated", 2, 0)
    assert names(there) == ["data/notes/one.txt", "data/notes/two.txt"] and status(there).clean


def test_commit_exact(there: Project) -> None:
    pull(there, ["data/notes"])
    assert commit(there).items == ()
    assert [item.files for item in commit(there, exact=True).items] == [2]


def test_what_stands_where_a_part_belongs_is_a_conflict(there: Project) -> None:
    pull(there, ["data/notes"])
    write(there, {"data/images": "a file"})
    with pytest.raises(Conflict, match="data/images: a directory is recorded here that was never pulled"):
        add(there, ["data"])
    os.remove(f"{there.root}/data/images")
    write(there, {"data/big.bin/x": "a directory"})
    with pytest.raises(Conflict, match="a file is recorded here"):
        commit(there)
    assert len(names(there)) == 133


def test_a_file_of_ones_own_takes_the_place_of_one_that_never_came(there: Project) -> None:
    write(there, {"data/big.bin": "mine"})
    assert states(there) == [("data", "modified", "a listing to compare it with is not in the cache")]
    fetch(there, ["data/notes"])
    assert states(there) == [("data", "modified", "1 file changed; 132 of 133 files not pulled")]
    commit(there)
    assert len(names(there)) == 133 and states(there) == [("data", "not pulled", "132 of 133 files")]


# The memory


def test_without_its_memory_nothing_counts_as_deleted(there: Project) -> None:
    pull(there)
    os.remove(f"{there.root}/data/big.bin")
    assert states(there) == [("data", "modified", "1 file deleted")]
    shutil.rmtree(there.state_dir)
    there = again(there)
    assert states(there) == [("data", "not pulled", "1 of 133 files")]
    assert commit(there).items == () and len(names(there)) == 133
    remove(there, ["data/big.bin"])
    assert len(names(there)) == 132 and status(there).clean


@pytest.mark.parametrize("text", ["", "[]", '["data"]', "{", '{"dvcx": 1, "placed": {"../x": {}}}', '{"dvcx": 1, "placed": 1}'])
def test_a_damaged_memory_is_none(there: Project, text: str) -> None:
    pull(there)
    Path(there.state_dir, placed.FILE).write_text(text)
    assert placed.load(there) == {} and status(again(there)).clean
    os.remove(f"{there.root}/data/big.bin")
    assert states(again(there)) == [("data", "not pulled", "1 of 133 files")]


def test_the_memory_stays_small(there: Project) -> None:
    pull(there)
    recorded = pointer(there, "data.dvcx")
    mark = placed.load(there)["data"][""]
    assert placed.load(there) == {"data": {"": mark}} and not isinstance(mark, bool) and mark.id == recorded["hash"]
    write(there, {"data/new": "1"})
    add(there, ["data/new"])
    remove(there, ["data/notes/one.txt"], keep_data=False)
    move(there, "data/new", "data/newer")
    assert list(placed.load(there)["data"]) == [""] and status(there).clean


def test_another_commit_that_took_it_away_and_back(there: Project) -> None:
    """What checkout itself took out of the workspace was not deleted by anybody."""
    from tests.ops.trying import run_git

    pull(there, ["data/notes", "data/images/cats"])
    run_git(there, "checkout", "-qb", "smaller")
    remove(there, ["data/notes/one.txt"], keep_data=False)
    commit_all(there)
    run_git(there, "checkout", "-q", "main")
    assert states(there) == [("data", "not pulled", "122 of 133 files")]
    commit(there)
    assert len(names(there)) == 133
    pull(there, ["data/notes"])
    run_git(there, "checkout", "-q", "smaller")
    checkout(there, ["data/notes"])
    assert not Path(there.root, "data/notes/one.txt").exists()
    run_git(there, "checkout", "-q", "main")
    assert commit(there).items == () and len(names(there)) == 133


def test_somebody_elses_new_file_was_never_here(there: Project, pushed: Project) -> None:
    from tests.ops.trying import run_git

    pull(there)
    write(pushed, {"data/theirs": "theirs"})
    add(pushed, ["data/theirs"])
    push(pushed)
    commit_all(pushed)
    run_git(there, "pull", "-q")
    write(there, {"data/mine": "mine"})
    fetch(there, ["data/notes"])  # the new root listing
    assert states(there) == [("data", "modified", "1 file added; 1 of 134 files not pulled")]
    commit(there)
    assert {"data/theirs", "data/mine"} <= set(names(there))


# When something is nowhere


def test_an_object_that_is_nowhere_is_named_by_push(there: Project, pushed: Project) -> None:
    remote = Path(there.config.remote("origin")["url"])
    pull(there, ["data/images/cats"])
    for path in (remote / "objects").glob("*/*"):
        if path.stat().st_size == SMALL + 1:
            path.unlink()
    with pytest.raises(NotFound, match=r"'data/big\.bin' needs object"):
        push(again(there))
    assert push(again(there), ["data/images"]).objects == 0
    assert push(again(pushed)).objects == 1
    assert push(again(there)).objects == 0


def test_listings_that_are_nowhere(there: Project) -> None:
    remote = Path(there.config.remote("origin")["url"])
    for pattern in ("objects/*/*", "packs/*/*"):
        for path in remote.glob(pattern):
            path.unlink()
    write(there, {"data/new": "1"})
    with pytest.raises(NotFound, match="listing of 'data'"):
        add(there, ["data/new"])
    with pytest.raises(NotFound, match="listing of 'data'") as caught:
        add(there, ["data"])
    assert "--exact" in caught.value.hint
    assert states(there)[0][1] == "modified"
    assert add(there, ["data"], exact=True).items[0].files == 1


def test_without_a_remote(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(project, {"d/a": "1"})
    add(project, ["d"])
    commit_all(project)
    other = clone(project, tmp_path_factory.mktemp("clone") / "c")
    write(other, {"d/b": "2"})
    with pytest.raises(NotFound, match="not in the cache"):
        add(other, ["d/b"])
    wipe_cache(project)
    write(again(project), {"d/b": "2"})
    assert add(again(project), ["d"]).items[0].files == 2  # it was all here, as the memory says


def test_a_single_file_that_was_never_here(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    commit_all(project)
    other = clone(project, tmp_path_factory.mktemp("clone") / "c")
    assert status(other).data == (DataChange("f", "not pulled", ""),)
    assert status(other).tracked == 1 and BLOB == "blob"


def test_a_checkout_that_was_cut_short_leaves_nothing_to_be_taken_for_deleted(there: Project) -> None:
    from dvcx.ops import records

    pull(there, ["data/images/cats", "data/notes"])
    # What a command does first when it is about to change these; then it was killed, having removed some files.
    placed.forget(there, records.load(there), ["data/images/cats"])
    shutil.rmtree(f"{there.root}/data/images")
    os.remove(f"{there.root}/data/notes/one.txt")
    assert states(there) == [("data", "modified", "1 file deleted; 131 of 133 files not pulled")]
    placed.forget(there, records.load(there), ["data"])
    assert commit(there).items == () and len(names(there)) == 133
