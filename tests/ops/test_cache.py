from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import Conflict, IntegrityError, NotFound, UsageError
from dvcx.ops import cache
from dvcx.ops.add import add
from dvcx.project import Project

Put = Callable[..., None]


def test_size_counts_loose_and_packed(project: Project, put: Put) -> None:
    empty = cache.size(project)
    assert (empty.objects, empty.bytes, empty.packs) == (0, 0, 0)
    put({"one": "1", "two": "22"})
    add(project, ["one", "two"])
    put({f"many/{number:03}": f"file {number}" for number in range(150)})
    add(project, ["many"])
    found = cache.size(project)
    assert (found.loose, found.loose_bytes, found.packed, found.packs) == (2, 3, 151, 1)
    assert found.objects == 153
    assert found.bytes == found.loose_bytes + found.pack_bytes
    assert found.free_bytes > 0
    assert found.dir == cache.directory(project).dir == project.cache_dir


@pytest.mark.parametrize("many", [1, 150])
def test_get_copies_an_object_out(project: Project, put: Put, tmp_path: Path, many: int) -> None:
    put({f"d/{number}": f"file {number}" for number in range(many)} | {"x": "file 0"})
    add(project, ["d"])
    [item] = add(project, ["x"], dry_run=True).items
    got = cache.get(project, item.id, f"{tmp_path}/out")
    assert (got.size, (tmp_path / "out").read_text()) == (6, "file 0")
    assert (tmp_path / "out").stat().st_mode & 0o200
    with pytest.raises(Conflict):
        cache.get(project, item.id, f"{tmp_path}/out")


def test_get_refuses(project: Project, put: Put, tmp_path: Path) -> None:
    put({"x": "some bytes"})
    [item] = add(project, ["x"]).items
    os.symlink("nowhere", tmp_path / "dangling")
    for name, destination, kind in (
        (item.id, "dangling", Conflict),
        (item.id, "no/such/directory", NotFound),
        ("xxh128:" + "0" * 32, "out", NotFound),
        ("blake3:" + "0" * 64, "out", UsageError),
        ("../../x", "out", UsageError),
    ):
        with pytest.raises(kind):
            cache.get(project, name, f"{tmp_path}/{destination}")
    assert not (tmp_path / "nowhere").exists()
    store = project.cache(lambda event: None)
    path = store.loose_path(item.id)
    store.close()
    os.chmod(path, 0o644)
    Path(path).write_text("other byte")
    with pytest.raises(IntegrityError):
        cache.get(project, item.id, f"{tmp_path}/out")
    assert [name for name in os.listdir(tmp_path) if name.startswith(("out", "tmp-"))] == []
