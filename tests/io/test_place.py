"""Placing: staged by every kind of link, renamed into the workspace, never through a link somebody put there."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvcx.core.objects import EXEC, FILE, LINK
from dvcx.core.packing import BATCH, SMALL
from dvcx.errors import Conflict, DiskRefused, DvcxError, IntegrityError, NotFound, UnsafeInput
from dvcx.io import place
from dvcx.io.filesystem import file_system
from dvcx.io.place import Staging, Target
from dvcx.io.store.store import Wanted, object_name
from tests.io.store.shelves import Shelf, Thing, cache_shelf, thing, things

BIG = thing(random.Random(1).randbytes(SMALL + 5))


class Shop:
    """A cache, a workspace and a staging area below one directory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.shelf: Shelf = cache_shelf(base)
        self.root = base / "w"
        self.root.mkdir()
        self.staging = str(base / "w/.dvcx/tmp")

    def stage(
        self, jobs: Sequence[tuple[Thing, str, str]], *, links: Sequence[str] = ("copy",), staging: Staging, workers: int = 2
    ) -> dict[tuple[str, str], place.Stat]:
        """Stage (object, name, kind) into the directory "d" of the staging area."""
        directory = staging.directory("d")
        targets: dict[Wanted, list[Target]] = {}
        for item, name, kind in jobs:
            targets.setdefault(item.wanted, []).append(Target(directory, name, kind))
        store = self.shelf.open()
        told: list[tuple[int, int]] = []
        try:
            found = place.stage(
                store,
                targets,
                links=links,
                workers=workers,
                advanced=lambda files, size: told.append((files, size)),
                absent=lambda lacking: NotFound(f"{len(lacking)} absent", "x"),
            )
        finally:
            store.close()
        assert sum(files for files, _ in told) == len(jobs)
        return found

    def object(self, item: Thing) -> Path:
        return self.base / "cache" / object_name(item.names.id)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_every_kind_is_staged_with_its_bytes_and_mode(shop: Shop) -> None:
    small, empty, link = thing("small"), thing(""), thing("../target")
    shop.shelf.fill([small, empty, link, BIG])
    before = os.umask(0o027)
    try:
        with Staging(shop.staging) as staging:
            jobs = [(small, "a", FILE), (small, "b", EXEC), (BIG, "c", FILE), (BIG, "d", EXEC)]
            jobs += [(empty, "e", FILE), (link, "l", LINK)]
            found = shop.stage(jobs, staging=staging)
            at = Path(staging.path, "d")
            assert stat.S_IMODE(os.stat(staging.path).st_mode) == 0o700
            for item, name, kind in jobs:
                path = at / name
                status = path.lstat()
                assert found[str(at), name] == (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if kind == LINK:
                    assert os.readlink(path) == "../target"
                else:
                    assert path.read_bytes() == item.data
                    assert stat.S_IMODE(status.st_mode) == (0o750 if kind == EXEC else 0o640)
                    assert status.st_nlink == 1
            assert len(found) == len(jobs)
        assert not os.path.lexists(staging.path)
    finally:
        os.umask(before)


@pytest.mark.parametrize("count", [BATCH, 2500])  # above 2,000 objects helper processes write them
def test_packed_objects_are_staged(shop: Shop, count: int) -> None:
    some = things(count)
    shop.shelf.fill(some)
    with Staging(shop.staging) as staging:
        jobs = [(item, f"f{number}", EXEC if number % 7 == 0 else FILE) for number, item in enumerate(some)]
        found = shop.stage(jobs, staging=staging)
        assert len(found) == count
        for item, name, kind in jobs:
            path = Path(staging.path, "d", name)
            assert path.read_bytes() == item.data and bool(path.stat().st_mode & 0o100) == (kind == EXEC)


@pytest.mark.parametrize("count", [BATCH, 2500])
@pytest.mark.parametrize("links", [("copy",), ("hardlink",), ("symlink",), ("reflink",)])
def test_a_corrupt_object_is_never_placed(shop: Shop, links: Sequence[str], count: int) -> None:
    some = [*things(count), BIG]
    shop.shelf.fill(some)
    (pack,) = shop.shelf.names("packs")
    for victim in (shop.base / "cache" / pack, shop.object(BIG)):
        good = victim.read_bytes()
        victim.chmod(0o644)
        victim.write_bytes(good[:500] + bytes([good[500] ^ 1]) + good[501:])
        with Staging(shop.staging) as staging, pytest.raises(IntegrityError):
            shop.stage([(item, f"f{number}", FILE) for number, item in enumerate(some)], links=links, staging=staging)
        victim.write_bytes(good)
    assert os.listdir(shop.staging) == []


def test_an_absent_object_stages_nothing(shop: Shop) -> None:
    some = things(3)
    shop.shelf.fill(some[:2])
    with Staging(shop.staging) as staging:
        with pytest.raises(NotFound, match="1 absent"):
            shop.stage([(item, item.names.id[-6:], FILE) for item in some], staging=staging)
        assert os.listdir(f"{staging.path}/d") == []


def test_a_hard_link_is_the_object_itself(shop: Shop) -> None:
    small, empty = thing("small"), thing("")
    shop.shelf.fill([small, empty, BIG])
    with Staging(shop.staging) as staging:
        jobs = [(small, "a", FILE), (BIG, "b", FILE), (BIG, "run", EXEC), (empty, "e", FILE)]
        shop.stage(jobs, links=("hardlink", "copy"), staging=staging)
        at = Path(staging.path, "d")
        for item, name in ((small, "a"), (BIG, "b")):
            assert (at / name).samefile(shop.object(item)) and stat.S_IMODE((at / name).stat().st_mode) == 0o444
        # An executable needs a mode of its own, and an empty file saves nothing.
        assert not (at / "run").samefile(shop.object(BIG)) and os.access(at / "run", os.X_OK)
        assert (at / "e").stat().st_nlink == 1 and (at / "run").read_bytes() == BIG.data
    store = shop.shelf.open()
    store.check_loose(BIG.wanted)  # linking moved its ctime; it still counts as checked
    store.close()


def test_a_symbolic_link_leads_to_the_object(shop: Shop) -> None:
    small = thing("small")
    shop.shelf.fill([small, BIG])
    with Staging(shop.staging) as staging:
        shop.stage([(small, "a", FILE), (BIG, "b", FILE), (small, "run", EXEC)], links=("symlink",), staging=staging)
        at = Path(staging.path, "d")
        assert os.readlink(at / "a") == str(shop.object(small)) and os.readlink(at / "b") == str(shop.object(BIG))
        assert not (at / "run").is_symlink() and (at / "run").read_bytes() == small.data


def test_links_that_do_not_work_become_copies(shop: Shop, elsewhere: Path) -> None:
    shop.shelf.fill([BIG])
    with Staging(str(elsewhere / "staging")) as staging:
        shop.stage([(BIG, "b", FILE)], links=("reflink", "hardlink"), staging=staging)
        found = Path(staging.path, "d", "b")
        assert found.read_bytes() == BIG.data and found.stat().st_nlink == 1 and os.access(found, os.W_OK)


@contextmanager
def mounted(base: Path, kind: str) -> Iterator[Path]:
    """A small file system of its own, on a loop device."""
    image, at = base / f"{kind}.img", base / kind
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    options = ["-q", "-f"] if kind == "btrfs" else ["-q", "-f", "-m", "reflink=1"]
    made = subprocess.run([f"mkfs.{kind}", *options, str(image)], capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", str(image), str(at)], capture_output=True).returncode:
        pytest.skip(f"a {kind} cannot be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_reflinks_share_blocks_and_nothing_else(tmp_path: Path, kind: str) -> None:
    if not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"mkfs.{kind} is absent")
    with mounted(tmp_path, kind) as at:
        shop = Shop(at)
        big = thing(random.Random(2).randbytes(100 << 20))
        shop.shelf.fill([big])
        os.sync()
        free = shutil.disk_usage(at).free
        with Staging(shop.staging) as staging:
            shop.stage([(big, "b", FILE), (big, "x", EXEC)], links=("reflink", "copy"), staging=staging)
            os.sync()
            assert free - shutil.disk_usage(at).free < 20 << 20  # two copies of 100 MiB
            copy = Path(staging.path, "d", "b")
            assert copy.read_bytes() == big.data and not copy.samefile(shop.object(big))
            with copy.open("r+b") as file:
                file.write(b"mine")
            assert shop.object(big).read_bytes() == big.data
        assert place.link_support(str(at / "cache"), shop.staging) == {"reflink": True, "hardlink": True, "symlink": True}
        assert file_system(str(at)) == kind


def test_which_links_work_is_tried_with_a_file(shop: Shop, elsewhere: Path) -> None:
    shop.shelf.fill([BIG])
    os.makedirs(shop.staging)
    support = place.link_support(str(shop.base / "cache"), shop.staging)
    assert support["hardlink"] and support["symlink"]
    assert os.listdir(shop.staging) == [] and not list((shop.base / "cache").glob("tmp-*"))
    afar = place.link_support(str(shop.base / "cache"), str(elsewhere))
    assert afar == {"reflink": False, "hardlink": False, "symlink": True}


# Into the workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("do not touch")
    return tmp_path / "w"


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    path = tmp_path / "staged"
    path.write_text("new")
    return path


def victim_is_untouched(root: Path) -> None:
    victim = root.parent / "victim"
    assert [path.name for path in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "do not touch"


def test_moving_in_makes_parents_and_replaces_files(root: Path, staged: Path) -> None:
    place.move_in(str(root), "a/b/c", str(staged))
    assert (root / "a/b/c").read_text() == "new" and not staged.exists()
    staged.write_text("newer")
    place.move_in(str(root), "a/b/c", str(staged))
    assert (root / "a/b/c").read_text() == "newer"


def test_moving_in_never_replaces_a_directory_with_something_in_it(root: Path, staged: Path, tmp_path: Path) -> None:
    (root / "d").mkdir()
    (root / "d/mine").write_text("mine")
    with pytest.raises(Conflict, match="in the way"):
        place.move_in(str(root), "d", str(staged))
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "x").write_text("x")
    with pytest.raises(Conflict, match="in the way"):
        place.move_in(str(root), "d", str(whole))
    (root / "f").write_text("file")
    with pytest.raises(Conflict, match="in the way"):
        place.move_in(str(root), "f", str(whole))
    assert (root / "d/mine").read_text() == "mine" and (root / "f").read_text() == "file"
    with pytest.raises(DvcxError) as caught:
        place.move_in(str(root), "f/below", str(staged))
    assert caught.value.exit_code in (5, 11) and (root / "f").read_text() == "file"


Deed = Callable[[str, str, str], object]
DEEDS: dict[str, Deed] = {
    "move in": lambda root, path, other: place.move_in(root, path, other),
    "move out": lambda root, path, other: place.move_out(root, path, other + "-aside"),
    "rename": lambda root, path, other: place.rename(root, path, "elsewhere/x"),
    "remove a file": lambda root, path, other: place.remove_file(root, path),
    "remove a directory": lambda root, path, other: place.remove_directory(root, path),
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
@pytest.mark.parametrize("depth", ["way/file", "way/deep/file", "real/way/file"])
def test_no_deed_leads_through_a_link(root: Path, staged: Path, deed: Deed, depth: str) -> None:
    (root / "real").mkdir()
    for at in ("way", "real/way"):
        (root / at).symlink_to(root.parent / "victim")
    with pytest.raises(UnsafeInput, match="it is a symbolic link"):
        deed(str(root), depth, str(staged))
    victim_is_untouched(root)


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
@pytest.mark.parametrize("path", ["../victim/file", "/etc/passwd", "", "a/../../victim/file", ".git/x", "a//b"])
def test_no_deed_takes_an_unsafe_path(root: Path, staged: Path, deed: Deed, path: str) -> None:
    with pytest.raises(UnsafeInput):
        deed(str(root), path, str(staged))
    victim_is_untouched(root)


def test_a_link_at_the_path_itself_is_replaced_or_removed_not_followed(root: Path, staged: Path) -> None:
    (root / "link").symlink_to(root.parent / "victim/file")
    place.move_in(str(root), "link", str(staged))
    assert (root / "link").read_text() == "new" and not (root / "link").is_symlink()
    (root / "link2").symlink_to(root.parent / "victim")
    place.remove_file(str(root), "link2")
    assert not os.path.lexists(root / "link2")
    victim_is_untouched(root)


def test_a_parent_swapped_for_a_link_meanwhile_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """Somebody else keeps swapping a directory for a link while we write below it."""
    (root / "real").mkdir()
    (root / "trap").symlink_to(root.parent / "victim")
    stop = threading.Event()

    def swap() -> None:
        here, away, trap = root / "real", root / "away", root / "trap"
        while not stop.is_set():
            os.rename(here, away)
            force(trap, here)
            os.rename(here, trap)
            force(away, here)

    def force(source: Path, target: Path) -> None:
        # While the directory is away, it is made anew.
        for number in range(1000):
            try:
                os.rename(source, target)
                return
            except OSError:
                os.rename(target, tmp_path / f"made-{os.urandom(4).hex()}-{number}")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(400):
            source = tmp_path / f"s{number}"
            source.write_text("new")
            try:
                place.move_in(str(root), f"real/f{number}", str(source))
            except DvcxError as error:
                assert error.exit_code in (5, 8, 9)
    finally:
        stop.set()
        thread.join()
    victim_is_untouched(root)


def test_across_file_systems(root: Path, elsewhere: Path) -> None:
    (elsewhere / "f").write_text("file")
    (elsewhere / "f").chmod(0o755)
    (elsewhere / "l").symlink_to("nowhere")
    (elsewhere / "d/sub").mkdir(parents=True)
    (elsewhere / "d/sub/x").write_text("x")
    (elsewhere / "d/link").symlink_to("sub/x")
    for name in ("f", "l", "d"):
        place.move_in(str(root), f"in/{name}", str(elsewhere / name))
    assert (root / "in/f").read_text() == "file" and os.access(root / "in/f", os.X_OK)
    assert os.readlink(root / "in/l") == "nowhere" and os.readlink(root / "in/d/link") == "sub/x"
    assert (root / "in/d/sub/x").read_text() == "x"
    (elsewhere / "f").write_text("other")
    place.move_in(str(root), "in/f", str(elsewhere / "f"))
    assert (root / "in/f").read_text() == "other"
    assert sorted(os.listdir(root / "in")) == ["d", "f", "l"]
    assert place.move_out(str(root), "in/d", str(elsewhere / "out"))
    assert (elsewhere / "out/sub/x").read_text() == "x" and not (root / "in/d").exists()
    assert not place.move_out(str(root), "in/d", str(elsewhere / "again"))
    (root / "in/d").mkdir()
    (root / "in/d/mine").write_text("mine")
    with pytest.raises(Conflict):
        place.move_in(str(root), "in/d", str(elsewhere / "out"))
    assert sorted(os.listdir(root / "in")) == ["d", "f", "l"] and (root / "in/d/mine").read_text() == "mine"


def test_removing_what_is_not_there_makes_nothing(root: Path) -> None:
    place.remove_file(str(root), "no/such/file")
    assert place.remove_directory(str(root), "no/such")
    assert not place.move_out(str(root), "no/file", str(root.parent / "aside"))
    assert os.listdir(root) == []


def test_only_empty_directories_are_removed(root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    assert not place.remove_directory(str(root), "d")
    assert place.remove_directory(str(root), "d/e") and place.remove_directory(str(root), "d")
    (root / "f").write_text("x")
    with pytest.raises(DvcxError):
        place.remove_directory(str(root), "f")
    assert (root / "f").exists()


def test_renaming_in_the_workspace(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a/x").write_text("x")
    place.rename(str(root), "a", "b/c/a")
    assert (root / "b/c/a/x").read_text() == "x" and not (root / "a").exists()
    with pytest.raises(NotFound):
        place.rename(str(root), "absent/x", "y")


def test_reaping_spares_outputs_set_aside(tmp_path: Path) -> None:
    area = tmp_path / "tmp"
    for name in ("0123abcd", "aside-99"):
        (area / name).mkdir(parents=True)
        (area / name / "0").write_text("bytes")
        os.utime(area / name, (0, 0))
    place.reap_staging(str(area), 3600, spare="aside-")
    assert os.listdir(area) == ["aside-99"]
    (area / "young").mkdir()
    place.reap_staging(str(area), 3600, spare="aside-")
    assert sorted(os.listdir(area)) == ["aside-99", "young"]
    place.reap_staging(str(tmp_path / "absent"), 0)


def test_two_names_that_are_one_here_are_refused(shop: Shop) -> None:
    item = thing("x")
    shop.shelf.fill([item])
    with Staging(shop.staging) as staging, pytest.raises(UnsafeInput, match="another name"):
        shop.stage([(item, "same", FILE), (item, "same", FILE)], staging=staging)


def test_a_staging_area_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "tmp").symlink_to("victim")
    with pytest.raises(UnsafeInput):
        Staging(str(tmp_path / "tmp")).__enter__()
    assert os.listdir(tmp_path / "victim") == []
    (tmp_path / "file").write_text("x")
    with pytest.raises((UnsafeInput, DiskRefused, NotFound)):
        Staging(str(tmp_path / "file/tmp")).__enter__()


def test_a_file_written_while_it_is_detached_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"old")
    real = shutil.copyfile

    def copy(source: str, target: str) -> None:
        real(source, target)
        with open(source, "ab") as file:
            file.write(b" and new")

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(DiskRefused, match="changed while it was read"):
        place.detach(str(tmp_path), "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_bytes() == b"old and new"
