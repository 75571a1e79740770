"""fetch: what the records need comes into the cache, verified, and nothing else happens."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dvcx.errors import DvcxError, IntegrityError, NotFound, RemoteFailed, UsageError
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.fetch import Fetched, fetch
from dvcx.ops.push import push
from dvcx.project import Project
from tests.faults.forge import forge
from tests.ops.trying import again, objects, pointer, seen, setting, wipe_cache, with_remote, write


@pytest.fixture
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture
def pushed(project: Project, store_dir: Path) -> Project:
    """`f`, `d` with 4 files in it and `many` with 130, pushed; the cache is empty again."""
    write(project, {"f": "12345", "d/a": "a", "d/b": "bb", "d/sub/c": "ccc", "d/sub/d": "dddd"})
    write(project, {f"many/{number:03}": f"{number}" * 50 for number in range(130)})
    add(project, ["many"])
    add(project, ["f", "d"])
    project = with_remote(project, store_dir)
    push(project)
    wipe_cache(project)
    return again(project)


def test_everything_once(pushed: Project) -> None:
    before = seen(pushed, "d")
    done = fetch(pushed)
    assert (done.remote, done.objects, done.present, done.repaired) == ("origin", 1 + 4 + 2 + 130 + 1, 0, 0)
    assert done.bytes > 5 + 10 and objects(pushed) == 138
    assert seen(pushed, "d") == before
    assert fetch(pushed) == Fetched("origin", 0, 0, 138, 0) == fetch(again(pushed))


@pytest.mark.parametrize(
    ("target", "count"), [("f", 1), ("d", 6), ("d/sub", 4), ("d/sub/c", 3), ("d/a", 2), ("many/007", 2), ("many", 131)]
)
def test_targets_bring_their_part_and_the_listings_on_the_way(pushed: Project, target: str, count: int) -> None:
    assert fetch(pushed, [target]).objects == count
    Path(pushed.root, "d/a").unlink()
    os.remove(f"{pushed.root}/d/sub/c")
    if target not in ("f", "many", "many/007", "d/a"):
        checkout(again(pushed), ["d/sub/c"])
        assert Path(pushed.root, "d/sub/c").read_text() == "ccc"
    with pytest.raises(NotFound):
        fetch(pushed, ["d/nothing"])


def test_nothing_tracked(project: Project) -> None:
    assert fetch(project) == Fetched("", 0, 0, 0, 0)
    with pytest.raises(NotFound):
        fetch(project, ["x"])
    write(project, {"f": "1"})
    add(project, ["f"])
    with pytest.raises(UsageError, match="no remote"):
        fetch(project)


def test_what_is_in_neither_place_is_named(pushed: Project, store_dir: Path) -> None:
    for pattern in ("objects/*/*", "packs/*/*"):
        for path in store_dir.glob(pattern):
            path.unlink()
    with pytest.raises(NotFound, match="'f' needs object"):
        fetch(pushed, ["f"])
    with pytest.raises(NotFound, match="listing of 'd'"):
        fetch(pushed, ["d"])
    assert objects(pushed) == 0 and not list(Path(pushed.cache_dir).rglob("tmp-*"))


@pytest.mark.parametrize("kind", ["objects", "packs", "index"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_damaged_remote_gives_nothing_wrong(project: Project, store_dir: Path, kind: str, compression: str) -> None:
    write(project, {f"d/{number:03}": f"{number}" * 200 for number in range(130)})
    write(project, {"big": random.Random(2).randbytes(3 << 20)})
    add(project, ["d", "big"])
    project = with_remote(project, store_dir)
    push(setting(project, **{"remote_origin.compression": compression}))
    wipe_cache(project)
    spots = random.Random(3)
    for victim in store_dir.glob(f"{kind}/**/*"):
        if not victim.is_file():
            continue
        good = victim.read_bytes()
        victim.chmod(0o644)
        for _ in range(8):
            at = spots.randrange(len(good))
            victim.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
            try:
                fetch(again(project))
            except DvcxError as error:
                assert error.exit_code in (4, 5, 6), error.message
            wipe_cache(project)
            for catalog in Path(project.state_dir).glob("catalog-*"):
                catalog.unlink()
        victim.write_bytes(good)
    fetch(again(project))
    for name in ("d", "big"):
        before = seen(project, name)
        checkout(again(project), force=True)
        assert seen(project, name) == before


def test_a_forged_object_is_refused(project: Project, store_dir: Path) -> None:
    good = random.Random(1).randbytes(3000)
    write(project, {"g": good})
    add(project, ["g"])
    project = with_remote(project, store_dir)
    push(project)
    wipe_cache(project)
    (victim,) = store_dir.glob("objects/*/*")
    victim.chmod(0o644)
    victim.write_bytes(forge(good))
    with pytest.raises(IntegrityError, match="forged"):
        fetch(again(project))
    assert objects(project) == 0


def test_a_record_with_a_wrong_seal_is_refused(pushed: Project) -> None:
    import json

    write(pushed, {"f.dvcx": json.dumps(pointer(pushed, "f.dvcx") | {"blake3": "0" * 64})})
    with pytest.raises(IntegrityError):
        fetch(again(pushed))


def test_a_remote_that_is_away(pushed: Project, store_dir: Path) -> None:
    import shutil

    shutil.move(store_dir, str(store_dir) + "-away")
    with pytest.raises(RemoteFailed):
        fetch(pushed)


def test_pointers_with_a_remote_of_their_own(pushed: Project, store_dir: Path) -> None:
    import json

    write(pushed, {"only": "elsewhere"})
    add(pushed, ["only"])
    project = with_remote(pushed, store_dir.parent / f"{store_dir.name}-2", "second")
    push(project, ["only"], remote="second")
    write(project, {"only.dvcx": json.dumps(pointer(project, "only.dvcx") | {"remote": "second"})})
    from dvcx.ops import remote

    remote.default(project, "origin")
    wipe_cache(project)
    done = fetch(again(project))
    assert done.remote == "origin, second" and done.objects == 139


def test_never_packing_keeps_every_object_loose(pushed: Project) -> None:
    fetch(setting(pushed, cache_pack="never"))
    assert len(list(Path(pushed.cache_dir).glob("objects/*/*"))) == 138
    assert not list(Path(pushed.cache_dir).glob("packs/*/*"))


def test_a_remote_of_another_hash_is_refused(pushed: Project, store_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvcx.ops.init import init
    from dvcx.project import open_project

    base = tmp_path_factory.mktemp("other")
    init(str(base), git=False, hash="blake3")
    other = with_remote(open_project(str(base)), store_dir)
    write(other, {"f": "1"})
    add(other, ["f"])
    for verb in (push, fetch):
        with pytest.raises(IntegrityError, match="names objects by xxh128"):
            verb(other)
