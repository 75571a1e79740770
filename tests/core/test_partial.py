"""Merging what is here with what was never pulled, against a model on plain sets of paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.objects import DIR, FILE, TREE, Content, Digest, Entry, encode_tree, entry_content, totals
from dvcx.core.partial import NOTHING, Here, Mark, Merged, here_of, merge
from dvcx.errors import Conflict, NotFound
from dvcx.io.hashing import digest

Files = dict[str, str]


class World:
    """Directories in memory; `lost` ones cannot be read."""

    def __init__(self) -> None:
        self.trees: dict[str, list[Entry]] = {}
        self.lost: set[str] = set()
        self.read_from: list[str] = []

    def write(self, entries: list[Entry]) -> Content:
        names: Digest = digest(encode_tree(entries), "xxh128")
        self.trees[names.id] = sorted(entries, key=lambda entry: entry.name)
        return Content(TREE, names.id, names.seal, *totals(entries))

    def read(self, path: str, content: Content) -> list[Entry]:
        self.read_from.append(path)
        if content.id in self.lost:
            raise NotFound(path)
        return self.trees[content.id]

    def tree(self, files: Files) -> Content:
        """Files by path as a directory; no empty directories."""
        below: dict[str, Files] = {}
        entries: list[Entry] = []
        for path, text in files.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = text
            else:
                names = digest(text.encode(), "xxh128")
                entries.append(Entry(name, FILE, len(text), names.id, names.seal))
        for name, inner in below.items():
            content = self.tree(inner)
            entries.append(Entry(name, DIR, content.size, content.id, content.seal, content.files))
        return self.write(entries)

    def files(self, content: Content | None, base: str = "") -> Files:
        found: Files = {}
        for entry in self.trees[content.id] if content is not None else ():
            if entry.kind == DIR:
                found.update(self.files(entry_content(entry), f"{base}{entry.name}/"))
            else:
                found[base + entry.name] = entry.id
        return found

    def merge(self, now: Files | None, recorded: Files, here: Here) -> Merged:
        content = None if now is None else self.tree(now)
        return merge(
            "d",
            content,
            self.tree(recorded),
            here,
            read_now=self.read,
            read_recorded=self.read,
            read_here=self.read,
            write=self.write,
        )


def ids(files: Files) -> Files:
    return {path: digest(text.encode(), "xxh128").id for path, text in files.items()}


def marks_of(world: World, recorded: Files, chosen: list[str]) -> dict[str, Mark]:
    """What placing these paths (files or directories, "" is all) leaves in the memory."""
    marks: dict[str, Mark] = {}
    for path in chosen:
        inside = {name[len(path) + 1 :]: text for name, text in recorded.items() if name.startswith(f"{path}/")}
        marks[path] = world.tree(recorded) if not path else world.tree(inside) if inside else True
    return marks


# Directories and files have names of their own, so that nothing stands in the way of anything.
paths = st.sampled_from([f"{a}{b}{c}" for a in ("", "x/", "y/") for b in ("", "u/", "v/") for c in ("1", "2", "3")])
places = st.sampled_from(["", "x", "y", "u", "x/u", "y/v", "1", "x/1", "x/u/2", "y/v/3"])
contents = st.dictionaries(paths, st.sampled_from(["a", "bb", "ccc"]), max_size=10)


def placed_by(recorded: Files, chosen: list[str]) -> set[str]:
    return {path for path in recorded for place in chosen if not place or path == place or path.startswith(f"{place}/")}


@given(contents, st.lists(places, max_size=4), st.sets(paths), contents)
def test_as_the_model_says(recorded: Files, chosen: list[str], deleted: set[str], edits: Files) -> None:
    world = World()
    was_here = placed_by(recorded, chosen)
    existing = [place for place in chosen if not place or place in recorded or any(p.startswith(f"{place}/") for p in recorded)]
    now = {path: recorded[path] for path in was_here - deleted} | edits
    merged = world.merge(now, recorded, here_of(marks_of(world, recorded, existing)))
    kept = {path for path in recorded if path not in was_here and path not in now}
    expected = ids(now) | {path: ids(recorded)[path] for path in kept}
    assert world.files(merged.content) == expected
    assert merged.files == len(kept)
    # What it remembers of the result is what is here: asked again, nothing changes, and whatever goes now was deleted.
    result = {path: dict(recorded, **now)[path] for path in expected}
    again = world.merge(now, result, here_of(merged.marks))
    assert again.files == len(kept) and (again.content, again.marks) == (merged.content, merged.marks)
    gone = world.merge({}, result, here_of(merged.marks))
    assert set(world.files(gone.content)) == kept


def test_all_of_it_is_not_read() -> None:
    world = World()
    recorded = {"x/1": "a", "y/2": "b"}
    here = here_of({"": world.tree(recorded)})
    assert world.merge({"x/1": "changed"}, recorded, here).content == world.tree({"x/1": "changed"})
    assert world.merge(None, recorded, here) == Merged(None, 0, 0, {"": False})
    assert world.merge(None, recorded, NOTHING).content == world.tree(recorded)
    assert world.read_from == []


def test_only_directories_that_differ_are_read() -> None:
    world = World()
    recorded = {"x/u/1": "a", "x/v/2": "b", "y/3": "c"}
    merged = world.merge({"x/u/1": "changed"}, recorded, here_of({"x/u": world.tree({"1": "a"})}))
    assert (merged.files, merged.size) == (2, 2)
    assert set(world.read_from) == {"d", "d/x"}
    assert list(merged.marks) == ["x/u"]


def test_what_was_placed_and_cannot_be_read_any_more_counts_as_never_here() -> None:
    world = World()
    older = world.tree({"1": "older", "2": "b"})
    world.lost.add(older.id)
    merged = world.merge({"1": "a"}, {"1": "a", "2": "b"}, here_of({"": older}))
    assert merged.files == 1 and set(world.files(merged.content)) == {"1", "2"}


def test_the_longest_path_decides() -> None:
    world = World()
    recorded = {"x/1": "a", "x/2": "b", "y/3": "c"}
    here = here_of({"": world.tree(recorded), "x/1": False})
    assert set(world.files(world.merge({}, recorded, here).content)) == {"x/1"}


@pytest.mark.parametrize(
    ("now", "recorded", "marks", "fine"),
    [
        ({"x": "file"}, {"x/1": "a"}, [], False),
        ({"x": "file"}, {"x/1": "a"}, ["x"], True),
        ({"x": "file"}, {"x/1": "a", "x/2": "b"}, ["x/1"], False),
        ({"x/1": "below"}, {"x": "file"}, [], False),
        ({"x/1": "below"}, {"x": "file"}, ["x"], True),
        ({"x": "mine"}, {"x": "theirs"}, [], True),
    ],
)
def test_what_stands_in_the_way(now: Files, recorded: Files, marks: list[str], fine: bool) -> None:
    world = World()
    here = here_of(marks_of(world, recorded, marks))
    if fine:
        assert world.files(world.merge(now, recorded, here).content) == ids(now)
    else:
        with pytest.raises(Conflict, match="was never pulled"):
            world.merge(now, recorded, here)
