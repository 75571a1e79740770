"""Many new files are taken in by helper processes: the same records and objects as by the walk alone, and its errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvcx.errors import UnsafeInput
from dvcx.io import processes
from dvcx.ops import ahead
from dvcx.ops.add import add
from dvcx.ops.status import status
from dvcx.project import Project


@pytest.fixture
def many(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with 60 files in 6 directories, and helpers that start from 10 on."""
    monkeypatch.setattr(ahead, "MANY", 10)
    # Tests before this one may have left idle threads in this process; they do no harm here.
    monkeypatch.setattr(processes, "available", lambda: True)
    repo = Path(project.root)
    for at in range(6):
        directory = repo / "data" / f"d{at}"
        directory.mkdir(parents=True)
        for number in range(10):
            (directory / f"f{number}").write_bytes(b"%d %d" % (at % 3, number))
            os.utime(directory / f"f{number}", (1, 1))
    (repo / "data" / "top").write_bytes(b"right below")
    (repo / "data" / "d1" / "run").write_bytes(b"#!/bin/sh\n")
    (repo / "data" / "d1" / "run").chmod(0o755)
    (repo / "data" / "d2" / "empty").mkdir()
    (repo / "data" / "d3" / "link").symlink_to("../top")
    return project


def test_records_what_the_walk_alone_records(many: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    spread = processes.spread
    monkeypatch.setattr(processes, "spread", lambda *args, **more: started.append(1) or spread(*args, **more))
    (item,) = add(many, ["data"]).items
    assert started
    assert item.files == 63
    pointer = (Path(many.root) / "data.dvcx").read_bytes()
    assert not status(many).data
    # Again without helpers, into a cache that holds nothing yet.
    monkeypatch.setattr(ahead, "MANY", 1 << 30)
    for name in ("cache", "state"):
        os.rename(f"{many.root}/.dvcx/{name}", f"{many.root}/.git/{name}")
    os.unlink(f"{many.root}/data.dvcx")
    add(many, ["data"])
    assert (Path(many.root) / "data.dvcx").read_bytes() == pointer


def test_an_error_of_a_helper_is_the_error(many: Project) -> None:
    os.mkfifo(f"{many.root}/data/d4/pipe")
    with pytest.raises(UnsafeInput, match="data/d4/pipe: a named pipe"):
        add(many, ["data"])
    assert not os.path.exists(f"{many.root}/data.dvcx")
    os.unlink(f"{many.root}/data/d4/pipe")
    (item,) = add(many, ["data"]).items
    assert item.files == 63


def test_what_is_ignored_is_not_taken(many: Project) -> None:
    (Path(many.root) / ".dvcxignore").write_text("d5/\n")
    (item,) = add(many, ["data"]).items
    assert item.files == 53


def test_a_known_directory_needs_no_helpers(many: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    add(many, ["data"])
    monkeypatch.setattr(processes, "spread", lambda *args, **more: pytest.fail("helpers were started"))
    (Path(many.root) / "data" / "d0" / "new").write_text("one more")
    (item,) = add(many, ["data"]).items
    assert item.files == 64
