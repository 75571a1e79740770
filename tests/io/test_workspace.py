"""The walk: every kind of entry, what may not be tracked, and that what has not changed is never read again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dvcx.core.objects import Content, Digest, Entry, decode_tree
from dvcx.errors import DvcxError, NotFound, UnsafeInput
from dvcx.io.hashing import digest
from dvcx.io.statindex import Memory, StatIndex
from dvcx.io.workspace import Looking, Rules, look


class Counting(Looking):
    """Looks, notes which files, links and trees were hashed, and keeps the trees."""

    def __init__(self, algorithm: str = "xxh128") -> None:
        super().__init__(algorithm)
        self.files: list[str] = []
        self.links: list[bytes] = []
        self.trees: dict[str, bytes] = {}

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        self.files.append(where)
        return super().file(name, directory, where, follow=follow)

    def link(self, target: bytes) -> Digest:
        self.links.append(target)
        return super().link(target)

    def tree(self, data: bytes) -> Digest:
        names = super().tree(data)
        self.trees[names.id] = data
        return names


class World:
    """A workspace with its stat index, which is opened anew for every look."""

    def __init__(self, base: Path) -> None:
        self.root = base / "w"
        self.root.mkdir()
        self.database = str(base / "statindex.sqlite")
        self.warnings: list[str] = []
        self.rules = Rules()

    def put(self, tree: dict[str, str]) -> None:
        for path, text in tree.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def settle(self) -> None:
        """Let the clock tick: what is written from now on has another time than what was."""
        time.sleep(0.03)

    def look(self, path: str, *, algorithm: str = "xxh128") -> tuple[Content | None, Counting]:
        index = StatIndex(self.database, self.warnings.append)
        sink = Counting(algorithm)
        try:
            found = look(str(self.root), path, index=index, sink=sink, rules=self.rules)
            index.flush()
        finally:
            index.close()
        return found, sink

    def entries(self, path: str) -> list[Entry]:
        """The entries of a directory, as the tree object holds them (not by way of the index)."""
        fresh = Counting()
        index = StatIndex(":memory:", self.warnings.append)
        content = look(str(self.root), path, index=index, sink=fresh, rules=self.rules)
        index.close()
        assert content is not None
        return decode_tree(fresh.trees[content.id], path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fresh_look(world: World, path: str) -> Content | None:
    """What somebody without memories sees."""
    index = StatIndex(":memory:", world.warnings.append)
    try:
        return look(str(world.root), path, index=index, sink=Counting(), rules=world.rules)
    finally:
        index.close()


def file_entry(name: str, data: bytes, kind: str = "file") -> Entry:
    names = digest(data, "xxh128")
    return Entry(name, kind, len(data), names.id, names.seal)


def test_a_single_file(world: World) -> None:
    world.put({"a.bin": "hello"})
    names = digest(b"hello", "xxh128")
    assert world.look("a.bin")[0] == Content("blob", names.id, names.seal, 5)
    (world.root / "a.bin").chmod(0o755)
    assert world.look("a.bin")[0] == Content("blob", names.id, names.seal, 5, 1, True)
    assert world.look("a.bin", algorithm="blake3")[0] is not None
    (world.root / "empty").touch()
    assert world.look("empty")[0] == Content("blob", *digest(b"", "xxh128"), 0)


def test_nothing_there(world: World) -> None:
    world.put({"file": "x"})
    for path in ("absent", "no/such/dir", "file/below"):
        assert world.look(path)[0] is None


def test_every_kind_of_entry(world: World) -> None:
    world.put({"d/file": "text", "d/run": "#!/bin/sh\n", "d/sub/x": "12345", "d/ü ñ\t\n\\": "odd", "outside": "no"})
    root = world.root / "d"
    (root / "run").chmod(0o744)
    (root / "group-run").write_text("g")
    (root / "group-run").chmod(0o674)  # only the owner's bit counts
    (root / "empty").mkdir()
    (root / "inside").symlink_to("sub/x")
    (root / "outward").symlink_to("../outside")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "to-dir").symlink_to("sub")
    (root / "big").write_bytes(b"b" * (1 << 20))
    content, sink = world.look("d")
    assert content is not None
    entries = {entry.name: entry for entry in decode_tree(sink.trees[content.id], "d")}
    assert [entry.name.encode() for entry in entries.values()] == sorted(name.encode() for name in entries)
    assert entries["file"] == file_entry("file", b"text")
    assert entries["run"] == file_entry("run", b"#!/bin/sh\n", "exec")
    assert entries["group-run"].kind == "file"
    assert entries["big"] == file_entry("big", b"b" * (1 << 20))
    assert entries["ü ñ\t\n\\"] == file_entry("ü ñ\t\n\\", b"odd")
    for name, target in {
        "inside": b"sub/x",
        "outward": b"../outside",
        "absolute": b"/etc/passwd",
        "broken": b"nowhere",
        "loop": b"loop",
        "to-dir": b"sub",
    }.items():
        assert entries[name] == file_entry(name, target, "link")
    assert (entries["sub"].kind, entries["sub"].size, entries["sub"].files) == ("dir", 5, 1)
    assert (entries["empty"].kind, entries["empty"].size, entries["empty"].files) == ("dir", 0, 0)
    assert content.files == 12 and content.size == sum(entry.size for entry in entries.values())
    assert not any("outside" in name or "passwd" in name for name in sink.files)


def test_a_second_look_reads_nothing(world: World) -> None:
    world.put({f"d/{number:03}": str(number) for number in range(200)})
    world.put({"d/sub/deep/x": "x", "single": "s"})
    (world.root / "d/link").symlink_to("000")
    (world.root / "d/empty").mkdir()
    (world.root / "d/big").write_bytes(b"b" * (2 << 20))
    world.settle()
    first, sink = world.look("d")
    single, _ = world.look("single")
    assert len(sink.files) == 202
    for _ in range(2):
        again, sink = world.look("d")
        assert again == first
        assert (sink.files, sink.links, sink.trees) == ([], [], {})
        again, sink = world.look("single")
        assert again == single and sink.files == []


def test_one_changed_file_is_read_alone(world: World) -> None:
    world.put({f"d/{part}/{number}": f"{part}{number}" for part in "abc" for number in range(20)})
    world.settle()
    first, _ = world.look("d")
    (world.root / "d/b/7").write_text("different")
    world.settle()
    second, sink = world.look("d")
    assert second != first and sink.files == ["d/b/7"]
    assert len(sink.trees) == 2  # d/b and d
    (world.root / "d/b/7").write_text("b7")
    assert world.look("d")[0] == first


Change = Callable[[Path], object]


def _touch_back(path: Path) -> None:
    """Other bytes of the same length under the old modification time."""
    before = path.stat()
    path.write_text("other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    before = path.stat()
    new = path.with_name("new")
    new.write_text("other")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def _to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("other")


def _to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Change] = {
    "written": lambda path: path.write_text("longer than before"),
    "same length and time": _touch_back,
    "replaced": _replace,
    "deleted": Path.unlink,
    "executable": lambda path: path.chmod(0o755),
    "renamed": lambda path: path.rename(path.with_name("z")),
    "beside": lambda path: path.with_name("new").write_text("n"),
    "directory beside": lambda path: path.with_name("newdir").mkdir(),
    "became a link": _to_link,
    "became a directory": _to_directory,
    "truncated": lambda path: path.write_text(""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen(world: World, change: Change) -> None:
    world.put({"d/sub/f": "bytes", "d/sub/g": "g", "d/h": "h"})
    world.settle()
    before, _ = world.look("d")
    change(world.root / "d/sub/f")
    after, _ = world.look("d")
    assert after != before
    assert fresh_look(world, "d") == after


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_right_after_a_look_is_seen(world: World, change: Change) -> None:
    """git's racy case: written, looked at and changed within one tick of the clock."""
    for attempt in range(5):
        base = f"d{attempt}"
        world.put({f"{base}/f": "bytes", f"{base}/g": "g"})
        before, _ = world.look(base)
        change(world.root / base / "f")
        assert world.look(base)[0] != before


def test_a_link_changed_right_after_a_look_is_seen(world: World) -> None:
    (world.root / "d").mkdir()
    link = world.root / "d/link"
    index = StatIndex(":memory:", world.warnings.append)
    try:
        for attempt in range(300):
            found = []
            for target in "ab":  # the same length, often the same inode, perhaps the same tick
                link.symlink_to(target)
                found.append(look(str(world.root), "d", index=index, sink=Counting()))
                link.unlink()
            assert found[0] != found[1], attempt
    finally:
        index.close()


def test_racy_entries_are_read_again_until_they_settled(world: World) -> None:
    world.put({"d/old": "o", "d/young": "y"})
    soon = time.time_ns() + 700_000_000
    os.utime(world.root / "d/young", ns=(soon, soon))
    world.settle()
    _, sink = world.look("d")
    assert sorted(sink.files) == ["d/old", "d/young"]
    time.sleep(max(0.0, (soon - time.time_ns()) / 1e9) + 0.03)
    assert world.look("d")[1].files == ["d/young"]
    assert world.look("d")[1].files == []


def test_times_in_the_future_and_whole_seconds_are_never_trusted_early(world: World) -> None:
    world.put({"d/future": "f", "single": "s"})
    future = time.time_ns() + 3600 * 10**9
    for path in ("d/future", "single"):
        os.utime(world.root / path, ns=(future, future))
    world.settle()
    for _ in range(2):
        assert world.look("d")[1].files == ["d/future"]
        assert world.look("single")[1].files == ["single"]


def test_a_moved_directory_is_the_same(world: World) -> None:
    world.put({"d/a": "1", "d/sub/b": "2"})
    before, _ = world.look("d")
    (world.root / "d").rename(world.root / "e")
    assert world.look("e")[0] == before
    assert world.look("d")[0] is None
    world.put({"d/a": "another"})
    assert world.look("d")[0] != before


def test_a_directory_moved_over_another_is_looked_into(world: World) -> None:
    world.put({"d/sub/f": "one", "other/f": "two"})
    world.settle()
    world.look("d")
    os.rename(world.root / "d/sub", world.root / "gone")
    os.rename(world.root / "other", world.root / "d/sub")
    content, sink = world.look("d")
    assert sink.files == ["d/sub/f"]
    assert content == fresh_look(world, "d")


def test_a_file_and_a_directory_take_turns(world: World) -> None:
    world.put({"p": "file"})
    world.settle()
    assert world.look("p")[0] == fresh_look(world, "p")
    (world.root / "p").rename(world.root / "moved")
    (world.root / "p").mkdir()
    (world.root / "moved").rename(world.root / "p/p")  # a directory p that holds the file p
    found, _ = world.look("p")
    assert found is not None and found.kind == "tree" and found == fresh_look(world, "p")
    (world.root / "p/p").rename(world.root / "moved")
    (world.root / "p").rmdir()
    (world.root / "moved").rename(world.root / "p")
    found, _ = world.look("p")
    assert found is not None and found.kind == "blob" and found == fresh_look(world, "p")


def test_ignored_files_are_not_there(world: World) -> None:
    world.put({"d/keep": "k", "d/skip.tmp": "s", "d/cache/x": "x", "d/sub/skip.tmp": "s"})
    plain = world.look("d")[0]
    asked: list[tuple[str, bool]] = []

    def ignored(path: str, is_directory: bool) -> bool:
        asked.append((path, is_directory))
        return path.endswith(".tmp") or (is_directory and path.endswith("/cache"))

    world.rules = Rules(ignored, "rules 1")
    found, _ = world.look("d")
    assert found is not None and found != plain and found.files == 1
    assert [entry.name for entry in world.entries("d")] == ["keep", "sub"]
    assert ("d/cache", True) in asked and ("d/sub/skip.tmp", False) in asked and ("d/cache/x", False) not in asked
    world.rules = Rules()
    assert world.look("d")[0] == plain  # other rules: what was remembered under the old ones does not count


def test_an_ignored_special_file_is_no_obstacle(world: World) -> None:
    world.put({"d/keep": "k"})
    os.mkfifo(world.root / "d/pipe")
    world.rules = Rules(lambda path, is_directory: path.endswith("pipe"), "rules")
    found, _ = world.look("d")
    assert found is not None and found.files == 1


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the address may not be long
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


SPECIAL: dict[str, Callable[[Path], None]] = {"named pipe": lambda path: os.mkfifo(path), "socket": _socket}


@pytest.mark.parametrize(("what", "make"), SPECIAL.items(), ids=SPECIAL.keys())
def test_special_files_are_refused_by_name(world: World, what: str, make: Callable[[Path], None]) -> None:
    world.put({"d/ok": "x"})
    make(world.root / "d/special")
    make(world.root / "alone")
    for path, named in (("d", "d/special"), ("alone", "alone")):
        with pytest.raises(UnsafeInput, match=what) as caught:
            world.look(path)
        assert named in caught.value.message and caught.value.exit_code == 9


@pytest.mark.parametrize("name", [b"caf\xe9", b".git", b".GIT", b".dvcx", b"git~1", b"x\r"])
def test_names_that_may_not_be_tracked(world: World, name: bytes) -> None:
    directory = world.root / "d/sub"
    directory.mkdir(parents=True)
    with open(os.path.join(os.fsencode(directory), name), "w") as file:
        file.write("x")
    with pytest.raises(UnsafeInput) as caught:
        world.look("d")
    assert "d/sub" in caught.value.message and caught.value.message.isprintable()


def test_temporary_files_of_dvcx_are_not_there(world: World) -> None:
    world.put({"d/a": "a"})
    before = world.look("d")[0]
    world.put({"d/tmp-dvcx-0123": "half"})
    assert world.look("d")[0] == before


def test_links_on_the_way_are_not_followed(world: World) -> None:
    world.put({"real/d/x": "x"})
    (world.root / "way").symlink_to("real")
    (world.root / "link").symlink_to("real/d/x")
    (world.root / "dirlink").symlink_to("real/d")
    with pytest.raises(UnsafeInput, match="way"):
        world.look("way/d")
    for name in ("link", "dirlink"):
        with pytest.raises(UnsafeInput, match="it is a symbolic link"):
            world.look(name)
    for path in ("../real", "/etc", "a//b", ""):
        with pytest.raises(UnsafeInput):
            world.look(path)


def cache_object(base: Path, data: bytes) -> tuple[str, Path]:
    objects = base / "cache/objects"
    digits = digest(data, "xxh128").id[7:]
    path = objects / digits[:2] / digits[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return str(objects), path


class Keeping(Looking):
    """Looks as one who records what it sees."""

    checks = True


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_link_into_the_cache_is_the_file_it_stands_for(world: World, tmp_path: Path, size: int) -> None:
    data = b"d" * size
    objects, path = cache_object(tmp_path, data)
    (world.root / "d").mkdir()
    (world.root / "d/placed").symlink_to(path)
    (world.root / "alone").symlink_to(path)
    world.rules = Rules(None, "", objects)
    world.settle()
    assert world.entries("d") == [file_entry("placed", data)]
    names = digest(data, "xxh128")
    assert world.look("alone")[0] == Content("blob", names.id, names.seal, size)
    assert world.look("alone")[1].files == []
    path.unlink()
    # As good as absent to who looks; nobody may record it as deleted.
    assert world.look("alone")[0] is None and world.entries("d") == []
    for name in ("alone", "d"):
        with pytest.raises(NotFound, match="the cache object it links to is gone"):
            look(str(world.root), name, index=Memory(), sink=Keeping("xxh128"), rules=world.rules)


def test_a_link_through_the_cache_to_elsewhere_stays_a_link(world: World, tmp_path: Path) -> None:
    objects, path = cache_object(tmp_path, b"x")
    (tmp_path / "secret").write_text("secret")
    (world.root / "d").mkdir()
    targets = [f"{objects}/../../secret", f"{objects}/{path.parent.name}", f"{objects}/{path.parent.name}/../../../secret"]
    for number, target in enumerate(targets):
        (world.root / f"d/l{number}").symlink_to(target)
    world.rules = Rules(None, "", objects)
    assert world.entries("d") == [file_entry(f"l{n}", target.encode(), "link") for n, target in enumerate(targets)]


def test_a_sharded_directory(world: World) -> None:
    directory = world.root / "many"
    directory.mkdir()
    for number in range(9000):
        os.close(os.open(directory / f"f{number:05}", os.O_CREAT | os.O_WRONLY))
    world.settle()
    content, sink = world.look("many")
    assert content is not None and content.files == 9000 and len(sink.files) == 9000 and len(sink.trees) > 2
    shards = decode_tree(sink.trees[content.id], "many")
    assert {entry.kind for entry in shards} == {"shard"}
    names = [entry.name for shard in shards for entry in decode_tree(sink.trees[shard.id], "shard")]
    assert names == sorted(f"f{number:05}" for number in range(9000))
    again, quiet = world.look("many")
    assert again == content and quiet.files == [] and quiet.trees == {}
    (directory / "f04000").write_text("changed")
    changed, one = world.look("many")
    assert one.files == ["many/f04000"] and changed is not None and changed.files == 9000
    assert len(set(one.trees) - set(sink.trees)) == 2  # the root and one shard


def test_directories_nested_too_deep_are_refused(world: World) -> None:
    here = os.getcwd()
    (world.root / "d").mkdir()
    os.chdir(world.root / "d")
    try:
        for _ in range(260):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    with pytest.raises(UnsafeInput, match="nest more than 255 deep"):
        world.look("d")


def test_a_path_that_could_not_be_placed_again_is_refused(world: World) -> None:
    longest = 4096 - 64 - len(os.fsencode(world.root))
    parts, room = ["t"], longest - 1
    while room > 240:
        parts.append("d" * 199)
        room -= 200
    fd = os.open(world.root, os.O_RDONLY)
    for part in parts:
        os.mkdir(part, dir_fd=fd)
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    name = "n" * (room - 1)
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert world.look("t")[0] is not None
    os.rename(name, name + "n", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    with pytest.raises(UnsafeInput, match="too many to place"):
        world.look("t")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(world: World) -> None:
    world.put({"d/closed": "x"})
    (world.root / "d/closed").chmod(0)
    with pytest.raises(DvcxError, match="d/closed"):
        world.look("d")


def test_a_sink_that_lacks_objects_gets_them_again(world: World) -> None:
    world.put({"d/a": "1", "d/sub/b": "2"})
    world.settle()
    content, _ = world.look("d")

    class Empty(Counting):
        checks = True

        def holds(self, names: Sequence[Digest]) -> bool:
            return False

    index = StatIndex(world.database, world.warnings.append)
    sink = Empty()
    assert look(str(world.root), "d", index=index, sink=sink) == content
    assert sorted(sink.files) == ["d/a", "d/sub/b"] and len(sink.trees) == 2
    index.close()


def test_progress_counts_every_file_once(world: World) -> None:
    world.put({f"d/{number}": "x" for number in range(300)})
    world.put({"d/sub/y": "y", "single": "s"})
    world.settle()
    for _ in range(2):
        told: list[int] = []
        index = StatIndex(world.database, world.warnings.append)
        for path in ("d", "single"):
            look(str(world.root), path, index=index, sink=Counting(), advanced=told.append)
        index.flush()
        index.close()
        assert sum(told) == 302
