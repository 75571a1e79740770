"""Reading recorded directories: what spells out without end is refused, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.core.objects import DIR, FILE, TREE, Content, Entry, encode_tree, totals
from dvcx.core.records import Pointer
from dvcx.errors import UnsafeInput
from dvcx.io.hashing import digest
from dvcx.io.store.store import object_name
from dvcx.ops import looking, records
from dvcx.ops.diff import diff
from dvcx.ops.list import list_
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import commit_all, write


def _record(project: Project, names: str, depth: int, leaf: bytes) -> None:
    """A pointer to `depth` directories in one another, each with an entry per name that leads to the same next one."""

    def keep(data: bytes) -> tuple[str, str]:
        found = digest(data, project.algorithm)
        file = Path(project.cache_dir, object_name(found.id))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return found

    entries = [Entry("f", FILE, len(leaf), *keep(leaf))]
    for _ in range(depth):
        names_of = keep(encode_tree(entries))
        size, files = totals(entries)
        content = Content(TREE, *names_of, size, files)
        entries = [Entry(name, DIR, size, *names_of, files) for name in names]
    records.write_pointer(project, "data", Pointer("data", content))


@pytest.mark.parametrize(("names", "depth"), [("ab", 40), ("a", 1200)], ids=["wide", "deep"])
def test_a_directory_without_end_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch, names: str, depth: int) -> None:
    monkeypatch.setattr(looking, "MAX_DIRECTORIES", 1000)
    _record(project, names, depth, b"one")
    commit_all(project)
    with pytest.raises(UnsafeInput, match="directories"):
        list_(project, "data", recursive=True)
    _record(project, names, depth, b"two")
    with pytest.raises(UnsafeInput, match="directories"):
        diff(project, "HEAD")
    write(project, {"data/x": "x"})
    assert [change.path for change in status(project).data] == ["data"]
