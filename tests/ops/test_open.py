from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import dvcx
from dvcx.errors import IntegrityError, NoProject, NotFound, UnsafeInput, UsageError
from dvcx.ops import remote
from dvcx.ops.add import add
from dvcx.ops.push import push
from dvcx.project import Project, open_project
from tests.ops.conftest import Git

Put = Callable[..., None]
BIG = bytes(range(256)) * (5 << 12)


@pytest.fixture
def pushed(project: Project, put: Put, git: Git, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Revision `one` and HEAD of images/ (two small files) and big.bin (5 MiB), all on the remote."""
    put({"images/a": "first\n", "images/sub/b": "b"})
    Path(project.root, "big.bin").write_bytes(BIG)
    os.symlink("a", f"{project.root}/images/link")
    add(project, ["images", "big.bin"])
    remote.add(project, "origin", str(tmp_path_factory.mktemp("stores") / "store"), default=True)
    project = open_project(project.root)
    push(project)
    git("commit", "-qm", "one")
    git("tag", "one")
    put({"images/a": "second\n"})
    add(project, ["images"])
    push(project)
    git("commit", "-qm", "two")
    return project


def read(project: Project, path: str, **options: str) -> bytes:
    with dvcx.open(path, repo=project.root, **options) as file:  # type: ignore[call-overload]
        return bytes(file.read())


def test_now_and_at_a_revision(pushed: Project, put: Put) -> None:
    put({"images/a": "not recorded"})
    assert read(pushed, "images/a") == b"second\n"
    assert read(pushed, "images/a", rev="one") == b"first\n"
    assert read(pushed, "images/sub/b") == b"b"
    assert read(pushed, "big.bin") == BIG


def test_it_is_a_file(pushed: Project) -> None:
    with dvcx.open("big.bin", repo=pushed.root) as file:
        assert isinstance(file, io.BufferedReader)
        assert file.read(1000) + file.read(24) == BIG[:1024]
        assert not file.seekable()
    with dvcx.open("images/a", repo=pushed.root, mode="r") as text:
        assert list(text) == ["second\n"]
    with dvcx.open("images/a", repo=pushed.root, mode="r", encoding="utf-16-le") as text:
        assert text.encoding == "utf-16-le"
    assert file.closed


def test_paths_are_relative_to_the_directory_named(pushed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(f"{pushed.root}/images")
    with dvcx.open("a") as file:
        assert file.read() == b"second\n"
    with dvcx.open("../big.bin") as file:
        assert file.read() == BIG


def test_only_that_file_comes_from_the_remote(pushed: Project) -> None:
    shutil.rmtree(pushed.cache_dir)
    store = Path(pushed.config.remote("origin")["url"])
    assert read(pushed, "images/a", rev="one") == b"first\n"
    assert read(pushed, "big.bin", remote="origin") == BIG
    big = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    big.unlink()
    assert read(pushed, "images/a") == b"second\n"
    with pytest.raises(NotFound, match=r"big\.bin"):
        read(pushed, "big.bin")


@pytest.mark.parametrize("where", ["cache", "remote"])
def test_the_last_bytes_come_only_when_all_are_right(pushed: Project, where: str) -> None:
    if where == "remote":
        shutil.rmtree(pushed.cache_dir)
    root = Path(pushed.cache_dir if where == "cache" else pushed.config.remote("origin")["url"])
    big = max((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(big.read_bytes())
    data[100] ^= 1
    big.chmod(0o644)
    big.write_bytes(bytes(data))
    taken = bytearray()
    with dvcx.open("big.bin", repo=pushed.root) as file, pytest.raises(IntegrityError):
        while True:
            taken += file.read1(1 << 16)
    assert len(taken) < len(BIG)
    big.write_bytes(bytes(data) + b"longer")
    # What a listing shows with another size is not that object.
    with pytest.raises(IntegrityError if where == "cache" else NotFound):
        read(pushed, "big.bin")


def test_what_cannot_be_opened(pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    for path, options, kind in (
        ("nowhere", {}, NotFound),
        ("images/nowhere", {}, NotFound),
        ("images", {}, UsageError),
        ("images/sub", {}, UsageError),
        ("images/link", {}, UsageError),
        ("images/a", {"rev": "nothing"}, NotFound),
        ("images/a", {"mode": "w"}, UsageError),
        ("images/a", {"encoding": "utf-8"}, UsageError),
        ("../x", {}, UnsafeInput),
        ("x", {"repo": "/no/such/place"}, NotFound),
        ("x", {"repo": str(tmp_path_factory.mktemp("empty"))}, NoProject),
    ):
        with pytest.raises(kind):
            dvcx.open(path, **({"repo": pushed.root} | options))  # type: ignore[call-overload]
    shutil.rmtree(pushed.cache_dir)
    with pytest.raises(NotFound):
        dvcx.open("big.bin", repo=pushed.root, remote="nowhere")


def test_a_repository_by_its_url(pushed: Project, put: Put, git: Git, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(isolated)
    url = f"file://{pushed.root}"
    with dvcx.open("images/a", repo=url) as file:
        assert file.read() == b"second\n"
    with dvcx.open("images/a", repo=url, rev="one") as file:
        assert file.read() == b"first\n"
    put({"images/a": "third\n"})
    add(pushed, ["images"])
    push(pushed)
    git("commit", "-qm", "three")
    with dvcx.open("images/a", repo=url) as file:
        assert file.read() == b"third\n"
    commit = git("rev-parse", "HEAD").strip()
    os.rename(f"{pushed.root}/.git", f"{pushed.root}/.away")
    with dvcx.open("big.bin", repo=url, rev=commit) as file:
        assert file.read() == BIG
    [kept] = (isolated / ".cache/dvcx/repositories").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_bare_repository(pushed: Project, git: Git, tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = tmp_path_factory.mktemp("bare") / "project.git"
    git("clone", "-q", "--bare", pushed.root, str(bare))
    with dvcx.open("images/sub/b", repo=str(bare)) as file:
        assert file.read() == b"b"


def test_a_url_whose_remote_lies_beside_the_work_tree(project: Project, put: Put, git: Git) -> None:
    put({"x": "x"})
    add(project, ["x"])
    remote.add(project, "o", "../store", default=True)
    git("commit", "-qm", "one")
    with pytest.raises(UsageError, match="beside a work tree"):
        dvcx.open("x", repo=f"file://{project.root}")


def test_a_repository_that_is_no_project(repo: Path, git: Git) -> None:
    (repo / "x").write_text("x")
    git("add", "x")
    git("commit", "-qm", "one")
    with pytest.raises(NoProject):
        dvcx.open("x", repo=f"file://{repo}")


def test_a_large_file_is_streamed_from_its_chunks(pushed: Project, put: Put) -> None:
    data = os.urandom(20 << 20)
    Path(pushed.root, "large").write_bytes(data)
    add(open_project(pushed.root), ["large"])
    push(open_project(pushed.root))
    shutil.rmtree(pushed.cache_dir)
    with dvcx.open("large", repo=pushed.root) as file:
        assert file.read(1000) == data[:1000]
    assert read(pushed, "large") == data
    store = Path(pushed.config.remote("origin")["url"])
    (pack,) = (path for path in store.glob("packs/*/*") if path.stat().st_size > 20 << 20)
    pack.chmod(0o644)
    with pack.open("r+b") as broken:
        broken.seek(19 << 20)
        broken.write(b"rotten")
    with dvcx.open("large", repo=pushed.root) as file, pytest.raises(IntegrityError):
        file.read()
