"""status --remote and push are honest: what somebody deleted on the remote is named, and sent again."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.holding import Holding
from dvcx.core.packing import SMALL
from dvcx.errors import IntegrityError, NotFound, RemoteFailed
from dvcx.events import ignore
from dvcx.io.store.backend import Backend
from dvcx.io.store.store import object_name
from dvcx.ops import remote as remotes
from dvcx.ops.add import add
from dvcx.ops.check import check
from dvcx.ops.checkout import checkout
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.faults.forge import forge
from tests.io.store.conftest import rclone, s3_server, seaweedfs  # noqa: F401
from tests.ops.counting import Traffic, traffic  # noqa: F401
from tests.ops.trying import again, clone, commit_all, pointer, wipe_cache, with_remote, write
from tests.servers import S3Server


def tracked(project: Project) -> None:
    """`f`, `large` and `many`: 140 files in `many/sub`, which go into a pack, one of them the same as `f`."""
    write(project, {f"many/sub/{number:03}": f"{number}" * 300 for number in range(140)})
    write(project, {"many/twin": "12345", "f": "12345", "large": random.Random(3).randbytes(SMALL + 5)})
    add(project, ["many"])
    add(project, ["f", "large"])


def holding(project: Project) -> Holding:
    (held,) = status(again(project), remote="").remotes
    return held


def lacking(project: Project) -> dict[str, int]:
    """How many objects the remote lacks, by tracked path."""
    return {path.path: len(path.objects) for path in holding(project).lacking}


def stored(project: Project, work: Callable[[Backend], object]) -> None:
    """Work behind the back of everybody who pushed."""
    store = project.remote("", ignore)
    try:
        work(store.backend)
    finally:
        store.close()


def delete(prefix: str) -> Callable[[Backend], None]:
    def work(backend: Backend) -> None:
        names = [item.name for item in backend.list(prefix)]
        assert names
        for name in names:
            backend.delete(name)

    return work


def check_honest(project: Project) -> None:
    """Whatever is deleted on the remote is named with its paths, and the next push brings it back."""
    tracked(project)
    everything = {"f": 1, "large": 1, "many": 143}
    assert lacking(project) == everything and not status(again(project), remote="").clean
    assert all(item.cached for path in holding(project).lacking for item in path.objects)
    push(again(project))
    # `f` and `many/twin` are the same bytes.
    assert holding(project) == Holding("origin", 144, 0, 0, 0, (), 2) and status(again(project), remote="").clean
    assert check(again(project), remote="").clean
    large = object_name(pointer(project, "large.dvcx")["hash"])
    stored(project, lambda backend: backend.delete(large))
    (path,) = holding(project).lacking
    assert (path.path, [item.path for item in path.objects]) == ("large", ["large"])
    assert not check(again(project), remote="").clean and check(again(project)).clean
    assert push(again(project)).objects == 1 and lacking(project) == {}
    for prefix, lost in (("packs", 141), ("index", 141)):
        stored(project, delete(prefix))
        found = lacking(project)
        assert found["many"] >= lost
        examples = [item.path for path in holding(project).lacking for item in path.objects]
        assert "many/sub/000" in examples and "many/sub/139" in examples
        assert push(again(project)).objects >= lost and lacking(project) == {}
    wipe_cache(project)
    for name in ("f", "large"):
        Path(project.root, name).unlink()
    shutil.rmtree(Path(project.root, "many"))
    assert holding(project).to_fetch == 144
    pull(again(project))
    assert status(again(project)).clean and holding(project) == Holding("origin", 144, 0, 0, 0, (), 2)


def test_a_directory(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_honest(with_remote(project, tmp_path_factory.mktemp("remote")))


def test_s3(project: Project, s3_server: S3Server) -> None:  # noqa: F811
    url, options = s3_server.fresh()
    remotes.add(project, "origin", url, default=True)
    for key, value in options.items():
        remotes.modify(again(project), "origin", key, value, local=True)
    check_honest(again(project))


# A directory, closer


@pytest.fixture
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture
def pushed(project: Project, store_dir: Path) -> Project:
    tracked(project)
    project = with_remote(project, store_dir)
    push(project)
    return again(project)


def test_every_path_of_an_object_is_named(pushed: Project, store_dir: Path) -> None:
    identity = pointer(pushed, "f.dvcx")["hash"]
    wipe_cache(pushed)
    for pattern in ("packs/*/*", "index/*", "objects/*/*"):
        for path in store_dir.glob(pattern):
            path.unlink()
    add(again(pushed), ["many", "f", "large"])
    push(again(pushed))
    for pattern in ("packs/*/*", "index/*", f"objects/{identity[7:9]}/*"):
        for path in store_dir.glob(pattern):
            path.unlink()
    found = {item.path for path in holding(pushed).lacking for item in path.objects if item.id == identity}
    assert found == {"f", "many/twin"}


def test_no_data_is_read_and_one_listing_is_enough(
    pushed: Project,
    tmp_path_factory: pytest.TempPathFactory,
    traffic: Traffic,  # noqa: F811
) -> None:
    commit_all(pushed)
    there = clone(pushed, tmp_path_factory.mktemp("clone") / "c")
    traffic.of(lambda: status(there, remote=""))
    assert traffic.listed == ["index", "packs", "objects"] and traffic.written == []
    listings = traffic.bytes
    held = status(there, remote="").remotes[0]
    assert (held.objects, held.missing, held.to_fetch) == (144, 0, 144) and held.to_fetch_bytes > SMALL
    assert listings < 40_000 < held.to_fetch_bytes
    assert not Path(there.cache_dir, "objects").exists()


def test_what_is_nowhere(pushed: Project, store_dir: Path) -> None:
    wipe_cache(pushed)
    for path in store_dir.glob("packs/*/*"):
        path.unlink()
    held = holding(pushed)
    # The listing of many is in no place any more: what lies below it is not known.
    assert held.missing >= 1 and {item.path for path in held.lacking for item in path.objects} >= {"many"}
    assert not any(item.cached for path in held.lacking for item in path.objects)
    with pytest.raises(NotFound, match="listing of 'many'"):
        push(again(pushed))


def test_another_seal_is_an_error_that_names_the_path(project: Project, store_dir: Path) -> None:
    good = random.Random(1).randbytes(3000)
    project = with_remote(project, store_dir)
    write(project, {"g": forge(good)})
    add(project, ["g"])
    push(project)
    wipe_cache(project)
    write(project, {"g": good})
    add(again(project), ["g"])
    with pytest.raises(IntegrityError, match=r"'g' needs xxh128:.*other bytes under this id"):
        status(again(project), remote="")


def test_which_remote_is_asked(pushed: Project, store_dir: Path) -> None:
    write(pushed, {"large.dvcx": json.dumps(pointer(pushed, "large.dvcx") | {"push": False})})
    write(pushed, {"f.dvcx": json.dumps(pointer(pushed, "f.dvcx") | {"remote": "other"})})
    other = with_remote(again(pushed), store_dir.parent / f"{store_dir.name}-other", "other")
    remotes.default(other, "origin")
    found = {held.remote: (held.objects, held.missing) for held in status(again(pushed), remote="").remotes}
    assert found == {"origin": (143, 0), "other": (1, 1)}
    found = {held.remote: (held.objects, held.missing) for held in status(again(pushed), remote="other").remotes}
    assert found == {"other": (143, 143)}
    with pytest.raises(NotFound, match="no remote is called 'nowhere'"):
        status(again(pushed), remote="nowhere")
    shutil.move(store_dir, f"{store_dir}-away")
    with pytest.raises(RemoteFailed):
        status(again(pushed), remote="origin")


@pytest.mark.parametrize(
    ("targets", "objects"),
    [(["f"], 1), (["many"], 143), (["many/sub"], 142), (["many/sub/007"], 3), (["f", "large"], 2), (["s"], 1), (["out"], 1)],
)
def test_targets(pushed: Project, targets: list[str], objects: int) -> None:
    write(pushed, {"dvcx.yaml": "stages:\n  s:\n    cmd: echo 1 > out\n    outs: [out]\n"})
    repro(again(pushed))
    (held,) = status(again(pushed), targets, remote="").remotes
    assert held.objects == objects and held.missing == (1 if targets in (["s"], ["out"]) else 0)


def test_nothing_is_tracked(project: Project, store_dir: Path) -> None:
    assert status(with_remote(project, store_dir), remote="").remotes == ()


# What is corrupt here is not sent


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _nothing(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("path", ["small", "large"])
@pytest.mark.parametrize("spoil", [_flip, _half, _nothing])
def test_a_corrupt_object_stops_the_push(
    project: Project, store_dir: Path, path: str, spoil: Callable[[bytes], bytes]
) -> None:
    write(project, {"small": "small and alone", "large": random.Random(3).randbytes(SMALL + 5), "other": "good"})
    add(project, ["small", "large", "other"])
    project = with_remote(project, store_dir)
    identity = pointer(project, f"{path}.dvcx")["hash"]
    found = Path(project.cache_dir, object_name(identity))
    good = found.read_bytes()
    found.chmod(0o644)
    found.write_bytes(spoil(good))
    with pytest.raises(IntegrityError, match=f"'{path}' cannot be sent") as caught:
        push(again(project))
    assert f"dvcx commit {path}" in caught.value.hint
    assert not list(store_dir.glob("index/*")) and not list(store_dir.rglob("tmp-*"))
    assert not (store_dir / object_name(identity)).exists()
    found.write_bytes(good)
    assert push(again(project)).objects > 0 and lacking(project) == {}


def test_a_corrupt_frame_of_a_pack_stops_the_push(project: Project, store_dir: Path) -> None:
    write(project, {f"many/{number:03}": f"{number}" * 300 for number in range(140)})
    add(project, ["many"])
    project = with_remote(project, store_dir)
    (pack,) = Path(project.cache_dir).glob("packs/*/*")
    good = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(good[:40] + _flip(good[40:41]) + good[41:])
    with pytest.raises(IntegrityError, match=r"'many/.*' cannot be sent"):
        push(again(project))
    assert not list(store_dir.glob("index/*")) and not list(store_dir.rglob("tmp-*"))
    pack.write_bytes(good)
    assert push(again(project)).objects > 0 and lacking(project) == {}


def test_pull_repairs_what_another_remote_has(project: Project, store_dir: Path) -> None:
    tracked(project)
    backup = store_dir.parent / f"{store_dir.name}-backup"
    project = with_remote(with_remote(project, store_dir), backup, "backup")
    push(project, remote="backup")
    found = Path(project.cache_dir, object_name(pointer(project, "large.dvcx")["hash"]))
    found.chmod(0o644)
    found.write_bytes(_flip(found.read_bytes()))
    with pytest.raises(IntegrityError, match="'large' cannot be sent") as caught:
        push(again(project), remote="origin")
    assert "dvcx pull --remote NAME large" in caught.value.hint
    Path(project.root, "large").unlink()
    pull(again(project), ["large"], remote="backup")
    assert push(again(project), remote="origin").objects > 0 and checkout(again(project)).placed == 0
