"""push: what is sent, once, and what it says when something is not there; to a directory and to S3."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.packing import SMALL
from dvcx.core.records import decode_action
from dvcx.errors import IntegrityError, NotFound, RemoteFailed, UsageError
from dvcx.events import Advanced, Began, Ended, Noted, Warned
from dvcx.io.store import writer as writing
from dvcx.io.store.store import object_name, wanted
from dvcx.ops import remote as remotes
from dvcx.ops.add import add
from dvcx.ops.pull import pull
from dvcx.ops.push import Pushed, push
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.cli.runner import script_run
from tests.faults.forge import forge
from tests.io.store.conftest import rclone, s3_server, seaweedfs  # noqa: F401
from tests.ops.trying import again, clone, commit_all, pointer, seen, setting, text, wipe_cache, with_remote, write
from tests.servers import S3Server


@pytest.fixture
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture
def tracked(project: Project, store_dir: Path) -> Project:
    """A small file, a large one and a directory, with a directory as remote."""
    write(project, {"f": "12345", "big": b"B" * SMALL, "d/a": "a", "d/sub/c": "c"})
    add(project, ["f", "big", "d"])
    return with_remote(project, store_dir)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_everything_once(tracked: Project, store_dir: Path) -> None:
    planned = push(tracked, dry_run=True)
    assert planned == Pushed("origin", 6, 5 + SMALL + 2, 5 + SMALL + 2, 0, 1.0, 0, True, listings=2) and files(store_dir) == []
    done = push(tracked)
    assert (done.remote, done.objects, done.present, done.dry_run) == ("origin", 6, 0, False)
    assert done.bytes > 5 + SMALL + 2 and done.sent >= done.bytes  # with the two trees
    held = files(store_dir)
    assert "store.json" in held and len([name for name in held if name.startswith("objects/")]) == 6
    assert push(tracked) == Pushed("origin", 0, 0, 0, 0, 0.0, 6, False)
    assert push(again(tracked), dry_run=True) == Pushed("origin", 0, 0, 0, 0, 0.0, 6, True)
    assert files(store_dir) == held


def test_only_what_is_new(tracked: Project, store_dir: Path) -> None:
    push(tracked)
    write(tracked, {"d/a": "changed", "f": "a"})  # f: bytes that are there already
    add(tracked, ["d", "f"])
    done = push(again(tracked))
    assert (done.objects, done.present) == (2, 4)


@pytest.mark.parametrize(("target", "objects"), [("f", 1), ("d", 4), ("d/sub", 2), ("d/sub/c", 1), ("d/a", 1), ("big", 1)])
def test_targets(tracked: Project, target: str, objects: int) -> None:
    assert push(tracked, [target]).objects == objects
    with pytest.raises(NotFound):
        push(tracked, ["nothing"])


def test_many_small_files_become_packs(tracked: Project, store_dir: Path) -> None:
    write(tracked, {f"many/{number}": f"{number}" * 300 for number in range(400)})
    add(tracked, ["many"])
    done = push(tracked)
    packs = [name for name in files(store_dir) if name.endswith(".pack")]
    assert len(packs) == 1 and done.objects == 407
    second = with_remote(tracked, store_dir.parent / f"{store_dir.name}-zstd", "second")
    smaller = push(setting(second, **{"remote_second.compression": "zstd"}), remote="second")
    assert smaller.objects == 407 and smaller.sent < done.sent


def test_what_the_remote_lost_is_sent_again(tracked: Project, store_dir: Path) -> None:
    write(tracked, {f"many/{number}": f"{number}" * 300 for number in range(150)})
    add(tracked, ["many"])
    push(tracked)
    for pattern in ("packs/*/*", "index/*", "objects/*/*"):
        for path in store_dir.glob(pattern):
            path.unlink()
        done = push(again(tracked))
        assert done.objects > 0 and push(again(tracked)).objects == 0
    before = seen(tracked, "many")
    wipe_cache(tracked)
    shutil.rmtree(Path(tracked.root, "many"))
    pull(again(tracked))
    assert seen(tracked, "many") == before
    shutil.rmtree(store_dir)
    store_dir.mkdir()
    assert push(again(tracked)).present == 0


def test_a_directory_that_is_not_mounted_is_not_empty(tracked: Project, store_dir: Path) -> None:
    push(tracked)
    shutil.move(store_dir, str(store_dir) + "-away")
    with pytest.raises(RemoteFailed, match="does not exist") as caught:
        push(again(tracked))
    assert "mount it" in caught.value.hint and not store_dir.exists()
    events: list[Any] = []
    store_dir.mkdir()
    assert push(again(tracked), emit=events.append).present == 0
    assert any(isinstance(event, Warned) and "a new one is begun" in event.message for event in events)


def test_the_first_push_makes_the_directory(project: Project, store_dir: Path) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    project = with_remote(project, store_dir / "deep/er")
    shutil.rmtree(store_dir / "deep")
    assert push(project).objects == 1 and (store_dir / "deep/er/store.json").exists()


def test_an_object_that_is_nowhere_is_named(tracked: Project, store_dir: Path) -> None:
    identity = pointer(tracked, "f.dvcx")["hash"]
    Path(tracked.cache_dir, object_name(identity)).unlink()
    with pytest.raises(NotFound, match="'f' needs object") as caught:
        push(again(tracked))
    assert identity in caught.value.message and "dvcx commit f" in caught.value.hint
    assert not list(store_dir.glob("index/*"))
    wipe_cache(tracked)
    with pytest.raises(NotFound, match="listing of 'd'"):
        push(again(tracked), ["d"])


def test_what_is_only_on_the_remote_is_fine(tracked: Project) -> None:
    push(tracked)
    wipe_cache(tracked)
    assert push(again(tracked)) == Pushed("origin", 0, 0, 0, 0, 0.0, 6, False)


@pytest.mark.parametrize("path", ["f", "big"])
def test_a_corrupt_object_is_not_sent(tracked: Project, store_dir: Path, path: str) -> None:
    identity = pointer(tracked, f"{path}.dvcx")["hash"]
    found = Path(tracked.cache_dir, object_name(identity))
    data = bytearray(found.read_bytes())
    data[-1] ^= 1
    found.chmod(0o644)
    found.write_bytes(data)
    with pytest.raises(IntegrityError, match=identity):
        push(again(tracked))
    assert not list(store_dir.glob("index/*")) and not list(store_dir.rglob("tmp-*"))
    assert os.listdir(Path(tracked.state_dir, "tmp")) == []


def test_a_remote_that_holds_a_forgery_is_refused(tracked: Project, project: Project, store_dir: Path) -> None:
    good = random.Random(1).randbytes(3000)
    write(tracked, {"g": forge(good)})
    add(tracked, ["g"])
    push(tracked, ["g"])
    wipe_cache(tracked)
    write(tracked, {"g": good})
    add(again(tracked), ["g"])
    with pytest.raises(IntegrityError, match="other bytes under this id"):
        push(again(tracked), ["g"])


def test_what_is_not_to_be_pushed_stays(tracked: Project, store_dir: Path) -> None:
    import json

    write(tracked, {"f.dvcx": json.dumps(pointer(tracked, "f.dvcx") | {"push": False})})
    write(tracked, {"big.dvcx": json.dumps(pointer(tracked, "big.dvcx") | {"remote": "other"})})
    stages = "stages:\n  s:\n    cmd: echo 1 > kept; echo 2 > sent\n    outs:\n    - kept: {push: false}\n    - sent\n"
    write(tracked, {"dvcx.yaml": stages})
    repro(again(tracked))
    project = with_remote(again(tracked), store_dir.parent / f"{store_dir.name}-other", "other")
    done = push(project, remote="origin")
    assert done.objects == 6  # asked for by name, it takes what belongs elsewhere too; never what may not be pushed
    assert push(project, remote="other").objects == 6
    project = with_remote(project, store_dir.parent / f"{store_dir.name}-third", "third")
    assert push(project).objects == 5


def test_without_a_remote(project: Project) -> None:
    write(project, {"f": "1"})
    add(project, ["f"])
    with pytest.raises(UsageError, match="no remote") as caught:
        push(project)
    assert "dvcx remote add" in caught.value.hint
    with pytest.raises(NotFound, match="'nowhere'"):
        push(project, remote="nowhere")


def test_it_tells_what_it_does(tracked: Project, events: list[Any]) -> None:
    push(tracked, emit=events.append)
    phases = [event.phase for event in events if isinstance(event, Began)]
    assert phases == [event.phase for event in events if isinstance(event, Ended)] and phases[-1] == "pushing"
    assert sum(event.files for event in events if isinstance(event, Advanced)) == 6


# To another person and back


def check_round_trip(project: Project, destination: Path) -> None:
    """Push, clone, pull; change there, push, pull here."""
    write(project, {f"many/{number}": f"{number}" * 100 for number in range(130)})
    write(project, {"big": random.Random(4).randbytes(9 << 20), "d/run": "#!/bin/sh", "d/e": ""})
    Path(project.root, "d/run").chmod(0o755)
    Path(project.root, "d/link").symlink_to("run")
    Path(project.root, "d/none").mkdir()
    add(project, ["many", "big", "d"])
    commit_all(project)
    assert push(again(project)).present == 0
    there = clone(project, destination)
    local = Path(project.root, ".dvcx/config.local.toml")
    if local.exists():
        shutil.copy(local, Path(there.root, ".dvcx/config.local.toml"))
    there = again(there)
    assert {change.state for change in status(there).data} == {"not pulled"}
    done = pull(there)
    assert done.fetched.objects > 130 and done.checkout.placed == 134
    for path in ("many", "big", "d"):
        assert seen(there, path) == seen(project, path)
    assert status(there).clean and push(there).objects == 0
    write(there, {"many/7": "theirs"})
    add(there, ["many"])
    assert push(there).objects == 2
    shutil.copy(Path(there.root, "many.dvcx"), Path(project.root, "many.dvcx"))
    pull(again(project))
    assert text(project, "many/7") == "theirs" and status(again(project)).clean


def test_to_a_directory_and_back(project: Project, store_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_round_trip(with_remote(project, store_dir), tmp_path_factory.mktemp("clone") / "there")


def test_to_s3_and_back(
    project: Project,
    s3_server: S3Server,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    url, options = s3_server.fresh()
    remotes.add(project, "origin", url, default=True)
    for key, value in options.items():
        remotes.modify(again(project), "origin", key, value, local=True)
    check_round_trip(again(project), tmp_path_factory.mktemp("clone") / "there")


# Large files


def big(seed: int, mib: int = 20) -> bytes:
    return random.Random(seed).randbytes((mib << 20) + 777)


def test_it_says_what_was_new_and_what_was_sent(project: Project, store_dir: Path) -> None:
    data = big(1, 40)
    write(project, {"f": data})
    add(project, ["f"])
    project = with_remote(project, store_dir)
    planned = push(project, dry_run=True)
    assert (planned.objects, planned.bytes, planned.new, planned.sent, planned.ratio) == (1, len(data), len(data), 0, 1.0)
    first = push(project)
    assert first.new == first.bytes == len(data) and first.sent > len(data) and 1 <= first.ratio < 1.01
    write(project, {"f": data[: 9 << 20] + b"x" * 80 + data[9 << 20 :]})
    add(again(project), ["f"])
    planned = push(again(project), dry_run=True)
    second = push(again(project))
    assert planned.bytes == second.bytes == len(data) + 80 and planned.new == second.new < len(data) / 8
    assert second.new < second.sent < second.new + 10_000 and second.ratio == round(second.sent / second.bytes, 4)
    assert push(again(project)).present == 1
    before = seen(project, "f")
    wipe_cache(project)
    Path(project.root, "f").unlink()
    pull(again(project))
    assert seen(project, "f") == before


def test_a_corrupt_large_file_is_named_with_its_path(project: Project, store_dir: Path) -> None:
    write(project, {"d/f": big(1)})
    add(project, ["d"])
    project = with_remote(project, store_dir)
    found = next(path for path in Path(project.cache_dir, "objects").glob("*/*") if path.stat().st_size > 1 << 20)
    found.chmod(0o644)
    with found.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(IntegrityError, match="'d/f' cannot be sent: the cache: objects/") as caught:
        push(project)
    assert "dvcx commit d/f" in caught.value.hint and not list(store_dir.glob("index/*"))


def test_a_chunk_that_was_lost_is_sent_again(project: Project, store_dir: Path) -> None:
    write(project, {"f": big(1), "g": "1"})
    add(project, ["f", "g"])
    project = with_remote(project, store_dir)
    push(project)
    next(store_dir.glob("packs/*/*")).unlink()
    healed = push(again(project))
    assert (healed.objects, healed.present) == (1, 1) and healed.new == healed.bytes
    wipe_cache(project)
    Path(project.root, "f").unlink()
    pull(again(project))
    assert Path(project.root, "f").read_bytes() == big(1)


def test_parquet_that_shares_nothing_gets_one_hint(project: Project, store_dir: Path) -> None:
    project = with_remote(project, store_dir)
    for version in range(3):
        write(project, {f"t/{name}.parquet": b"PAR1" + big(10 * version + number, 9) for number, name in enumerate("ab")})
        write(project, {"plain.bin": big(version, 9), "no.parquet": b"none" + big(version, 9)})
        add(again(project), ["t", "plain.bin", "no.parquet"])
        commit_all(again(project))
        events: list[Any] = []
        push(again(project), emit=events.append)
        warned = [event for event in events if isinstance(event, Warned)]
        if not version:
            assert not warned
            continue
        (hint,) = warned
        assert "'t/a.parquet' and 1 more: 100 % was new" in hint.message
        assert "use_content_defined_chunking=True" in hint.hint


def test_what_a_killed_push_left_on_the_disk_is_removed(tracked: Project) -> None:
    left = Path(tracked.state_dir, "tmp/push-0123456789abcdef")
    left.mkdir(parents=True)
    Path(tracked.state_dir, "tmp").chmod(0o700)
    (left / "lock").touch()
    (left / "tmp-dvcx-1").write_bytes(b"1")
    held = Path(tracked.state_dir, "tmp/push-fedcba9876543210")
    held.mkdir()
    with (held / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        push(tracked)
        assert not left.exists() and held.exists()


# Killed on its way, to real servers

KILLED = """
import os, signal, sys
from dvcx.io.store import writer
writer.PACK_SIZE = 6 << 20
upload = writer.Writer._finish
count = 0

def finish(self, pack):
    global count
    done = upload(self, pack)
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

writer.Writer._finish = finish
"""


def test_a_push_that_was_killed_goes_on(
    project: Project,
    s3_server: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 6 << 20)
    url, options = s3_server.fresh()
    remotes.add(project, "origin", url, default=True)
    for key, value in options.items():
        remotes.modify(again(project), "origin", key, value, local=True)
    data = big(1, 60)
    write(project, {"f": data})
    add(again(project), ["f"])
    killed = script_run(KILLED, "push", cwd=Path(project.root))
    assert killed.returncode == -9, killed.stderr
    store = again(project).remote("", lambda event: None)
    sent = {item.name: item.size for item in store.backend.list("packs")}
    assert len(sent) >= 4 and not list(store.backend.list("index"))
    store.close()
    assert list(Path(project.state_dir, "tmp").glob("push-*/tmp-dvcx-*"))
    done = push(again(project))
    assert done.objects == 1 and done.bytes == len(data) and done.new < len(data) - sum(sent.values()) + (8 << 20)
    assert not list(Path(project.state_dir, "tmp").iterdir())
    store = again(project).remote("", lambda event: None)
    assert sent.keys() < {item.name for item in store.backend.list("packs")} and not store.unnamed_packs(0)
    store.close()
    wipe_cache(project)
    Path(project.root, "f").unlink()
    pull(again(project))
    assert Path(project.root, "f").read_bytes() == data


FETCH_KILLED = """
import os, signal
from dvcx.io.store import writer
writer.PARTIAL_ABOVE = 8 << 20
write_at, done = writer._write_at, 0

def write(fd, data, offset):
    global done
    write_at(fd, data, offset)
    done += len(data)
    if done > 30 << 20:
        os.kill(os.getpid(), signal.SIGKILL)

writer._write_at = write
"""


def test_a_pull_that_was_killed_goes_on(project: Project, store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = big(1, 60)
    write(project, {"f": data, "d/small": "1"})
    add(project, ["f", "d"])
    project = with_remote(project, store_dir)
    push(project)
    wipe_cache(project)
    Path(project.root, "f").unlink()
    killed = script_run(FETCH_KILLED, "pull", cwd=Path(project.root))
    assert killed.returncode == -9, killed.stderr
    (partial,) = Path(project.cache_dir, "partial").iterdir()
    assert partial.stat().st_size > 30 << 20 and not Path(project.root, "f").exists()
    written = 0
    write_at = writing._write_at

    def count(fd: int, piece: bytes | memoryview, offset: int) -> None:
        nonlocal written
        written += len(piece)
        write_at(fd, piece, offset)

    monkeypatch.setattr(writing, "PARTIAL_ABOVE", 8 << 20)
    monkeypatch.setattr(writing, "_write_at", count)
    pull(again(project))
    assert Path(project.root, "f").read_bytes() == data and written < 32 << 20
    assert not list(Path(project.cache_dir, "partial").iterdir())


# Results of stages


PIPELINE = """\
stages:
  make: {cmd: tr a-z A-Z < f > made, deps: [f], outs: [made], metrics: [m.json: {cache: false}]}
  end: {cmd: cp made end, deps: [made], outs: [end]}
"""


@pytest.fixture
def ran(tracked: Project) -> Project:
    pipeline = PIPELINE.replace("> made", "> made; echo 1 > m.json")
    write(tracked, {"dvcx.yaml": pipeline})
    repro(tracked)
    return again(tracked)


def results(store_dir: Path) -> list[str]:
    return [name for name in files(store_dir) if name.startswith("actions/")]


def test_results_go_along_with_what_they_name(ran: Project, store_dir: Path) -> None:
    assert push(ran, ["end"]).actions == 1 and len(results(store_dir)) == 1
    assert push(ran).actions == 1 and push(ran).actions == 0
    assert len(results(store_dir)) == 2
    store = ran.remote("", lambda event: None)
    for name in results(store_dir):
        for out in decode_action(Path(store_dir, name).read_bytes(), name).outs.values():
            assert not store.missing([wanted(out)])  # the uncached one as well
    store.close()


@pytest.mark.parametrize("value", ["off", "read"])
def test_results_stay_here_by_policy(ran: Project, store_dir: Path, value: str) -> None:
    push(setting(ran, **{"remote_origin.actions": value}))
    assert results(store_dir) == []


def test_the_first_result_stays_on_the_remote(ran: Project, store_dir: Path) -> None:
    push(ran)
    path = next(Path(store_dir, name) for name in results(store_dir) if b'"end"' in Path(store_dir, name).read_bytes())
    other = path.read_bytes().replace(b'"size": 5', b'"size": 6')
    path.write_bytes(other)
    events: list[Any] = []
    assert push(ran, emit=events.append).actions == 0  # it sent them itself: they are not compared again
    for memory in Path(ran.state_dir).glob("actions-*"):
        memory.unlink()
    assert push(ran, emit=events.append).actions == 0 and path.read_bytes() == other
    told = [event.message for event in events if isinstance(event, Noted)]
    assert any("keeps the result it has" in message and "'end'" in message for message in told)


def test_edits_that_are_not_recorded_are_told(tracked: Project) -> None:
    push(tracked)
    assert push(again(tracked)).unrecorded == ()
    write(tracked, {"f": "edited", "d/a": "edited"})
    assert push(again(tracked)).unrecorded == ("d", "f")
    assert push(again(tracked), ["d/sub"]).unrecorded == ("d",)
    assert push(again(tracked), ["big"]).unrecorded == ()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "gone"])
def test_a_damaged_pack_of_the_cache_stops_it(project: Project, store_dir: Path, damage: str) -> None:
    write(project, {f"many/{number:03}": f"{number}" * 60 for number in range(130)})
    add(project, ["many"])
    project = with_remote(project, store_dir)
    (pack,) = [path for path in Path(project.cache_dir, "packs").rglob("*") if path.is_file()]
    pack.chmod(0o644)
    if damage == "gone":
        pack.unlink()
    else:
        os.truncate(pack, 0 if damage == "emptied" else 2000)
    with pytest.raises(NotFound if damage == "gone" else IntegrityError) as caught:
        push(again(project))
    assert "dvcx fsck --repair" in caught.value.hint or damage == "gone", (caught.value.message, caught.value.hint)
    assert not list((store_dir / "index").glob("*"))


def test_two_services_with_a_bucket_of_one_name_are_two_stores(tracked: Project) -> None:
    remotes.add(tracked, "other", "memory://bucket")
    remotes.modify(again(tracked), "other", "endpoint", "http://127.0.0.1:1", local=True)
    remotes.add(again(tracked), "third", "memory://bucket")
    found = again(tracked)
    push(found, remote="other")
    assert found.met_store("other") and not found.met_store("third")
