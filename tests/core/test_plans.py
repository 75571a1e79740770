"""Plans: what to place and remove, for every pair of things a path can hold."""

from __future__ import annotations

from dvcx.core.objects import Content, Entry, encode_tree, totals
from dvcx.core.plans import Placement, plan_placement
from dvcx.io.hashing import digest

World = dict[str, list[Entry]]


def file(name: str, text: str, kind: str = "file") -> Entry:
    names = digest(text.encode(), "xxh128")
    return Entry(name, kind, len(text), names.id, names.seal)


def directory(world: World, name: str, entries: list[Entry]) -> Entry:
    names = digest(encode_tree(entries), "xxh128")
    world[names.id] = entries
    size, files = totals(entries)
    return Entry(name, "dir", size, names.id, names.seal, files)


def content(entry: Entry) -> Content:
    kind = "tree" if entry.kind == "dir" else "blob"
    return Content(kind, entry.id, entry.seal, entry.size, entry.files, entry.kind == "exec")


def planned(world: World, now: Entry | None, target: Entry | None, path: str = "p") -> Placement:
    plan = Placement()
    read = lambda at, of: world[of.id]  # noqa: E731
    plan_placement(path, now and content(now), target and content(target), read, read, plan)
    return plan


def test_nothing_to_do() -> None:
    world: World = {}
    tree = directory(world, "", [file("a", "1")])
    assert planned({}, file("", "x"), file("", "x")).empty
    assert planned({}, tree, tree).empty  # and nothing is read to see that
    assert planned({}, None, None).empty


def test_a_file_comes_changes_and_goes() -> None:
    old, new = file("", "old"), file("", "new!")
    assert planned({}, None, new) == Placement(files=[("p", new)])
    assert planned({}, old, new) == Placement(files=[("p", new)], overwritten=[("p", old)])
    assert planned({}, old, None) == Placement(removed=["p"], overwritten=[("p", old)])


def test_the_execute_bit_alone_is_a_change() -> None:
    plain, run = file("", "x"), file("", "x", "exec")
    assert planned({}, plain, run) == Placement(files=[("p", run)], overwritten=[("p", plain)])


def test_a_directory_comes_whole() -> None:
    world: World = {}
    tree = directory(world, "", [file("a", "1"), directory(world, "d", [file("b", "2")])])
    assert planned({}, None, tree) == Placement(directories=[("p", tree)])


def test_a_directory_goes_deepest_first() -> None:
    world: World = {}
    a, b, c = file("a", "1"), file("b", "2"), file("c", "3")
    empty = directory(world, "e", [])
    tree = directory(world, "", [a, directory(world, "d", [b, directory(world, "f", [c])]), empty])
    plan = planned(world, tree, None)
    assert sorted(plan.removed) == ["p/a", "p/d/b", "p/d/f/c"]
    assert plan.removed_directories[0] == "p/d/f" and plan.removed_directories[-1] == "p"
    assert sorted(plan.removed_directories) == ["p", "p/d", "p/d/f", "p/e"]
    assert sorted(plan.overwritten) == [("p/a", a), ("p/d/b", b), ("p/d/f/c", c)]
    assert not plan.files and not plan.directories


def test_only_what_differs_inside_a_directory() -> None:
    world: World = {}
    same = directory(world, "same", [file("s", "s")])
    old = directory(world, "", [file("gone", "g"), file("kept", "k"), file("mod", "1"), same])
    new_sub = directory(world, "sub", [file("n", "n")])
    new = directory(world, "", [file("kept", "k"), file("mod", "22"), file("new", "n"), same, new_sub])
    del world[same.id]  # an equal sub-tree is not read
    plan = planned(world, old, new)
    assert plan.files == [("p/mod", file("mod", "22")), ("p/new", file("new", "n"))]
    assert plan.directories == [("p/sub", new_sub)]
    assert plan.removed == ["p/gone"] and plan.removed_directories == []
    assert plan.overwritten == [("p/gone", file("gone", "g")), ("p/mod", file("mod", "1"))]


def test_a_file_becomes_a_directory_and_back() -> None:
    world: World = {}
    plain = file("x", "f")
    tree = directory(world, "x", [file("a", "1")])
    holds_file, holds_tree = directory(world, "", [plain]), directory(world, "", [tree])
    there = planned(world, holds_file, holds_tree)
    assert (there.removed, there.directories, there.overwritten) == (["p/x"], [("p/x", tree)], [("p/x", plain)])
    back = planned(world, holds_tree, holds_file)
    assert (back.removed, back.removed_directories, back.files) == (["p/x/a"], ["p/x"], [("p/x", plain)])
    assert planned(world, plain, tree).directories == [("p", tree._replace(name=""))]


def test_links_and_files_of_the_same_bytes_differ() -> None:
    world: World = {}
    link, plain = file("x", "target", "link"), file("x", "target")
    plan = planned(world, directory(world, "", [link]), directory(world, "", [plain]))
    assert plan.files == [("p/x", plain)] and plan.overwritten == [("p/x", link)]
