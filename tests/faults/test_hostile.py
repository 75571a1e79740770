"""A repository made to do harm, and plain mistakes: one clear error with a hint; nothing run, lost or written outside."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dvcx
from dvcx.core.objects import Entry
from tests.faults.world import World, can_mount, copy_world, identity, mounted_image, new_world, store_objects
from tests.work import SECOND, turn

ASKING = ("status", "diff", "check", "dag", "list", "push", "fetch", "pull", "checkout")
HELLO = b"hello\n"
HELLO_ID, HELLO_SEAL = identity(HELLO)


@pytest.fixture
def remote(world: World) -> Path:
    path = world.root.parent / "remote"
    world.ok("remote", "add", "-d", "origin", str(path))
    return path


def _everything_but_state(world: World) -> dict[str, bytes]:
    found = {}
    for base, directories, files in os.walk(world.root):
        directories[:] = [name for name in directories if name not in (".git", "state")]
        for name in files:
            path = Path(base, name)
            if not path.is_symlink() and path.is_file() and not (name == "lock" or name.endswith((".json", ".toml"))):
                found[str(path.relative_to(world.root))] = path.read_bytes()
    return found


# Trees (item 33)


def _tree(*lines: bytes) -> bytes:
    return b"dvcx-tree 1\n" + b"".join(line + b"\n" for line in lines)


def _line(name: bytes) -> bytes:
    return b"\t".join((name, b"file", str(len(HELLO)).encode(), HELLO_ID.encode(), HELLO_SEAL.encode()))


def _plant_tree(world: World, data: bytes, *, files: int = 1, size: int = len(HELLO)) -> None:
    """A pointer `d.dvcx` to a tree of these bytes, whose objects are all in the cache."""
    world.put("hello.txt", HELLO)
    world.ok("add", "hello.txt")
    tree_id, seal = identity(data)
    path = world.object(tree_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    record = {"dvcx": 1, "path": "d", "kind": "tree", "hash": tree_id, "blake3": seal, "size": size, "files": files}
    world.put("d.dvcx", json.dumps(record))


NAMES = {
    "parent": (b"..", 9),
    "up": (b"../x", 9),
    "through": (b"a/../../x", 9),
    "absolute": (b"/abs", 9),
    "slash": (b"a//b", 9),
    "nested": (b"a/b", 9),
    "dot": (b".", 9),
    "git": (b".git", 9),
    "GIT": (b".GIT", 9),
    "short": (b"git~1", 9),
    "ignorable": (".g\u200cit".encode(), 9),
    "dvcx": (b".dvcx", 9),
    "carriage": (b"x\\r", 9),
    "temporary": (b"tmp-dvcx-x", 9),
    "long": (b"x" * 256, 9),
    "empty": (b"", 4),
    "nul": (b"a\0b", 4),
    "raw-return": (b"x\r", 4),
    "not-utf8": (b"\xff\xfe", 4),
}


@pytest.mark.parametrize("name", NAMES)
def test_tree_names(world: World, name: str) -> None:
    """Item 33: names in a tree that would lead elsewhere are refused; nothing is placed, inside or outside."""
    raw, code = NAMES[name]
    _plant_tree(world, _tree(_line(raw)))
    before = _everything_but_state(world)
    world.fails(code, "checkout", "d")
    assert _everything_but_state(world) == before
    assert not (world.root / "d").exists() and not (world.root.parent / "x").exists()


def test_deep_tree(world: World) -> None:
    """Item 33: directories that nest without end are refused before one is made, in little time."""
    data = _tree(_line(b"x"))
    for _ in range(5000):
        tree_id, seal = identity(data)
        path = world.object(tree_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        data = _tree(b"\t".join((b"d", b"dir", b"6", tree_id.encode(), seal.encode(), b"1")))
    _plant_tree(world, data)
    world.fails(9, "checkout", "d")
    assert not (world.root / "d").exists()


@pytest.mark.parametrize("how", ["unsorted", "doubled", "totals", "no-end", "shard-beside-file", "negative"])
def test_tree_form(world: World, how: str) -> None:
    """Item 38: a tree that is not in its one canonical form is refused."""
    data, size, files = _tree(_line(b"a"), _line(b"b")), 12, 2
    if how == "unsorted":
        data = _tree(_line(b"b"), _line(b"a"))
    elif how == "doubled":
        data = _tree(_line(b"a"), _line(b"a"))
    elif how == "totals":
        size = 13
    elif how == "no-end":
        data = data[:-1]
    elif how == "shard-beside-file":
        data = _tree(_line(b"a"), _line(b"b").replace(b"\tfile\t", b"\tshard\t") + b"\t1")
    elif how == "negative":
        data = data.replace(b"\t6\t", b"\t-6\t")
    _plant_tree(world, data, size=size, files=files)
    world.fails(4, "checkout", "d")
    assert not (world.root / "d").exists()


TWINS = sorted([b"A", b"a", "\u00e9".encode(), "e\u0301".encode()])


def test_twins(world: World) -> None:
    """Item 37: names that differ only in case or accents stay apart where the file system keeps them apart."""
    _plant_tree(world, _tree(*(_line(name) for name in TWINS)), size=24, files=4)
    outcome = world.run("checkout", "d")
    if outcome.code == 0:
        assert sorted(os.listdir(os.fsencode(world.root / "d"))) == TWINS
    else:
        assert outcome.code == 9


def _refuses_twins(world: World) -> None:
    """Twins in a tree, beside one another as tracked files, and beside a file that is there: refused, both named."""
    _plant_tree(world, _tree(_line(b"A"), _line(b"a")), size=12, files=2)
    world.fails(9, "checkout", "d", says=("d/A and d/a", "one name"))
    assert not (world.root / "d").exists()
    _plant_tree(world, _tree(*(_line(name) for name in TWINS[2:])), size=12, files=2)
    world.fails(9, "checkout", "d", says=("one name",))
    assert not (world.root / "d").exists() and world.temporaries() == []
    tree_id, seal = identity(_tree(_line(b"b")))
    (world.root / "d.dvcx").unlink()
    for name in ("one", "One"):
        path = world.object(tree_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tree(_line(b"b")))
        record = {"dvcx": 1, "path": name, "kind": "tree", "hash": tree_id, "blake3": seal, "size": len(HELLO), "files": 1}
        world.put(f"{len(name) + ord(name[0])}.dvcx", json.dumps(record))
    world.fails(9, "checkout", says=("One and one",))
    assert not (world.root / "one").exists()
    world.ok("checkout", "one")
    world.fails(9, "checkout", "One", says=("One and one",))
    assert world.get("one/b") == HELLO


@pytest.mark.skipif(not can_mount(), reason="mounting needs root")
def test_twins_where_they_are_one(world: World) -> None:
    """Item 37: on a file system that folds names twins are refused. Here one name folds: the one by which that is found out."""
    (world.root / ".DVCX").mkdir()
    mounted = subprocess.run(["mount", "--bind", world.root / ".dvcx", world.root / ".DVCX"], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.decode().strip()}")
    try:
        _refuses_twins(world)
    finally:
        subprocess.run(["umount", "-l", world.root / ".DVCX"], check=True)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["ext4", "vfat", "xfs"])
def test_twins_on_a_folding_file_system(tmp_path: Path, kind: str) -> None:
    """Item 37: the same on real ones, where this kernel has them."""
    make = {
        "ext4": ("mkfs.ext4", "-q", "-O", "casefold"),
        "vfat": ("mkfs.vfat",),
        "xfs": ("mkfs.xfs", "-q", "-n", "version=ci"),
    }[kind]
    with mounted_image(tmp_path / "disk", make, megabytes=320) as disk:
        if kind == "ext4":
            (disk / "here").mkdir()
            subprocess.run(["chattr", "+F", disk / "here"], check=True)
        folding = new_world(disk / "here")
        _refuses_twins(folding)


# Pointers and locks (items 34, 35, 40)


def _pointer(**changes: Any) -> dict[str, Any]:
    record = {"dvcx": 1, "path": "x.txt", "kind": "blob", "hash": HELLO_ID, "blake3": HELLO_SEAL, "size": len(HELLO), **changes}
    return {key: value for key, value in record.items() if value is not None}


HASHES: dict[str, Any] = {
    "traversal": "xxh128:aa/../../../../victim/secret.txt",
    "upper": HELLO_ID.upper(),
    "upper-digits": "xxh128:" + HELLO_ID[7:].upper(),
    "short": HELLO_ID[:-1],
    "long": HELLO_ID + "0",
    "newline": HELLO_ID + "\n",
    "unknown": "md5:" + "0" * 32,
    "bare": HELLO_ID[7:],
    "int": 7,
    "list": [HELLO_ID],
    "none": None,
}


@pytest.mark.parametrize("case", HASHES)
def test_pointer_hash(world: World, remote: Path, case: str) -> None:
    """Item 34: what is no object id is refused by every verb; nothing outside is read, sent or removed."""
    world.put("x.txt.dvcx", json.dumps(_pointer(hash=HASHES[case])))
    # All verbs read records by one function; of what harms most, each is asked.
    for verb in ("status", "fetch", "push", "checkout") if case == "traversal" else ("push",):
        assert "x.txt.dvcx" in world.fails(9, verb)
    assert not remote.exists() or not list((remote / "objects").glob("*"))


PATHS = ["/etc/passwd", "../victim/secret.txt", "a/../../x", ".git/hooks/post-checkout", ".GIT/config", ".dvcx/config.toml"]
PATHS += ["", ".", "a//b", "a\0b"]


@pytest.mark.parametrize("path", PATHS)
def test_pointer_path(world: World, path: str) -> None:
    """Item 35: a pointer whose path leads elsewhere is refused, naming the file and the field."""
    world.put("x.dvcx", json.dumps(_pointer(path=path)))
    world.fails(9, "checkout", says=("x.dvcx", "path"))


STAGES = {
    "dep-git": "deps: [.git/config]",
    "dep-dvcx": "deps: [sub/../.dvcx/config.toml]",
    "dep-password": "deps: ['https://me:hush@127.0.0.1/x']",
    "out": "outs: [../x]",
    "out-absolute": "outs: [/tmp/x]",
    "out-git": "outs: [.git/hooks/post-checkout]",
    "out-dvcx": "outs: [.dvcx/config.toml]",
    "wdir": "wdir: ../victim",
    "wdir-absolute": "wdir: /tmp",
    "metrics": "metrics: [../x]",
}


@pytest.mark.parametrize("case", STAGES)
def test_stage_path(world: World, case: str) -> None:
    """Item 35: outs and wdir that leave the project, and deps in .git or .dvcx, are refused, with the place."""
    world.stage_file(f"stages:\n  bad:\n    cmd: touch PWNED\n    {STAGES[case]}\n")
    for verb in ("status", "repro"):
        assert "dvcx.yaml:4" in world.fails(2 if case == "dep-password" else 9, verb)
    assert not list(world.root.parent.rglob("PWNED"))


@pytest.mark.parametrize("how", ["deps: [{}]", "params: [{{{}: [token]}}]"], ids=["dep", "params"])
def test_what_lies_outside_is_read_and_never_kept(world: World, how: str) -> None:
    """Item 35, decision 17: an input outside the project is compared; no byte of it is shown, or comes into project or cache."""
    secret = world.root.parent / "outside/secret.yaml"
    secret.parent.mkdir()
    secret.write_text("token: a secret of its owner\n")
    world.stage_file(f"stages:\n  a:\n    cmd: touch out\n    {how.format('../outside/secret.yaml')}\n    outs: [out]\n")
    for verb in ("status", "repro", "status", "commit", "push", "gc", "checkout", "why", "check", "params show"):
        assert "secret of its" not in world.run(*verb.split(), *(["a"] if verb == "why" else [])).text, verb
    assert "../outside/secret.yaml" in (world.root / "dvcx.lock").read_text()
    secret.write_text("token: another secret of its owner\n")
    for verb in ("status", "why", "repro"):
        told = world.ok(verb, *(["a"] if verb == "why" else []))
        assert "secret.yaml" in told and "secret of its" not in told, told
    assert not [path for path in world.root.rglob("*") if path.is_file() and b"secret of its" in path.read_bytes()]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project with a tracked file and a stage that has run, to be copied."""
    world = new_world(tmp_path_factory.mktemp("reproduced"))
    world.put("x.txt", HELLO)
    world.ok("add", "x.txt")
    world.stage_file("stages:\n  one:\n    cmd: cat x.txt > out.txt\n    deps: [x.txt]\n    outs: [out.txt]\n")
    world.ok("repro")
    return world


@pytest.mark.parametrize("record", ["x.txt.dvcx", "dvcx.lock", "dvcx.yaml"])
@pytest.mark.parametrize("how", ["empty", "half", "blank", "version", "list", "not-utf8", "nul"])
def test_broken_record(reproduced: World, tmp_path: Path, record: str, how: str) -> None:
    """Item 40: an empty, cut or unknown record is an error that says how to restore it; it never means "nothing tracked"."""
    if (record, how) == ("dvcx.yaml", "version"):
        pytest.skip("a dvcx.yaml has no version")
    world = copy_world(reproduced, tmp_path)
    data = world.get(record)
    broken = {
        "empty": b"",
        "half": data[: len(data) // 2],
        "blank": b"\n \n",
        "version": data.replace(b'"dvcx": 1', b'"dvcx": 99'),
        "list": b"[]\n",
        "not-utf8": b"\xff\xfe\x00" + data,
        "nul": data.replace(b"one", b"o\0e").replace(b"x.txt", b"x\0txt"),
    }[how]
    assert broken != data
    world.put(record, broken)
    for verb in ("status", "checkout"):
        outcome = world.run(verb)
        if record == "dvcx.yaml":
            # Half a dvcx.yaml may well be good YAML.
            assert outcome.code in (2, 4, 9) or how == "half", outcome.text
        else:
            assert outcome.code == 4, outcome.text
            if how in ("empty", "half"):
                assert "truncated" in outcome.err or "empty" in outcome.err, outcome.text
                assert "git checkout" in outcome.err
        assert outcome.code == 0 or (record in outcome.err and "hint:" in outcome.err)
    assert world.get("x.txt") == HELLO
    # With half a dvcx.yaml that is good YAML the output belongs to nobody: it may go, but only because the cache has it.
    assert (world.root / "out.txt").exists() or (record == "dvcx.yaml" and how == "half")
    assert HELLO_ID in store_objects(world.cache)


def test_duplicate_keys(world: World) -> None:
    """Item 38: a key twice in a pointer or in YAML is refused, not the last one taken."""
    text = json.dumps(_pointer())
    world.put("x.txt.dvcx", text[:-1] + ', "path": "y.txt"}')
    world.fails(4, "status", says=("x.txt.dvcx", "path"))
    (world.root / "x.txt.dvcx").unlink()
    world.stage_file("stages:\n  one:\n    cmd: a\n    cmd: b\n")
    outcome = world.run("status")
    assert outcome.code in (2, 4) and "dvcx.yaml:4:5" in outcome.err, outcome.text


# Links (item 36)


def test_committed_link(world: World) -> None:
    """Item 36: a link in the repository that leads outside is never walked through, by any verb."""
    os.symlink(world.victim, world.root / "data")
    world.put("hello.txt", HELLO)
    world.ok("add", "hello.txt")
    world.put("x.dvcx", json.dumps(_pointer(path="data/secret.txt")))
    world.fails(9, "checkout", says=("data", "symbolic link"))
    world.fails(9, "checkout", "--force")
    world.fails(9, "status")
    world.fails(9, "add", "data/secret.txt")
    (world.root / "x.dvcx").unlink()
    world.fails(9, "add", "data")
    world.victim_is_untouched()
    assert "secret" not in str(list(world.cache.rglob("*")))


def test_link_to_a_record(world: World) -> None:
    """Item 36: a pointer, pipeline or lock that is a link is refused, so that nothing outside is read as one."""
    for name in ("x.dvcx", "dvcx.yaml", "dvcx.lock"):
        os.symlink(world.victim / "secret.txt", world.root / name)
        text = world.fails(9, "status", says=(name, "symbolic link"))
        assert "do not touch" not in text
        (world.root / name).unlink()


def test_link_swapped_in(world: World) -> None:
    """Item 36: a directory that turns into a link again and again while files are placed never leads them outside."""
    for number in range(40):
        world.put(f"data/d/{number}", f"{number}\n")
    world.ok("add", "data/d")
    for number in range(40):
        world.put(f"data/d/{number}", f"newer {number}\n")
    world.ok("config", "set", "core.autostage", "false")
    old = world.get("data/d.dvcx")
    world.ok("add", "data/d")
    newer = world.get("data/d.dvcx")
    real, link = world.root / "data", world.root / "hidden"
    stop = threading.Event()
    # The pointer is written through the directory itself, wherever it is by then: never through the link.
    directory = os.open(real, os.O_RDONLY | os.O_DIRECTORY)

    def put(pointer: bytes) -> None:
        with open(os.open("d.dvcx", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=directory), "wb") as file:
            file.write(pointer)

    def swap() -> None:
        while not stop.is_set():
            # dvcx may have made a directory in between.
            with contextlib.suppress(OSError):
                real.rename(link)
                os.symlink(world.victim, real)
                time.sleep(0.0005)
                real.unlink()
                link.rename(real)
            time.sleep(0.001)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for pointer in (old, newer, old, newer):
            put(pointer)
            outcome = world.run("checkout", "--force")
            assert outcome.code in (0, 4, 5, 8, 9, 11), outcome.text
    finally:
        stop.set()
        thread.join()
        os.close(directory)
    world.victim_is_untouched()
    world.clean()


def test_planted_state(world: World) -> None:
    """Items 36 and 42: a repository may not bring a cache or state directory: neither as a link nor with links in it."""
    world.put("hello.txt", HELLO)
    os.symlink(world.victim, world.root / ".dvcx/cache")
    world.git("add", "-f", ".dvcx/cache")
    world.fails(9, "add", "hello.txt", says=(".dvcx/cache",))
    world.git("rm", "-q", "--cached", ".dvcx/cache")
    (world.root / ".dvcx/cache").unlink()
    (world.root / ".dvcx/cache/objects").mkdir(parents=True)
    digits = HELLO_ID[7:]
    for name in (f"objects/{digits[:2]}", "objects", "index", "packs", "actions"):
        path = world.cache / name
        if path.exists():
            path.rmdir()
        os.symlink(world.victim, path)
        world.git("add", "-f", str(path))
        world.fails(9, "add", "hello.txt", says=(name,))
        assert not (world.root / "hello.txt.dvcx").exists()
        assert world.temporaries() == []
        path.unlink()


# Parsers under attack (item 39)


class Cost(NamedTuple):
    """What a command took: seconds of processor time, which other programs do not change, and bytes of memory at its peak."""

    seconds: float
    memory: int


# The system counts a child's peak from its fork on, so the one who forks has to be small.
LAUNCH = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ)
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=file)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _measured(world: World, *words: str) -> tuple[int, str, Cost]:
    """What a command answers and costs; it is asked again, twice at most, when others may have made it slow."""
    for _ in range(3):
        code, text, cost = _measured_once(world, *words)
        if _is_cheap(cost):
            break
    return code, text, cost


def _measured_once(world: World, *words: str) -> tuple[int, str, Cost]:
    told = world.root.parent / "cost"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", LAUNCH, str(told), "-m", "dvcx", *words],
        cwd=world.root,
        env=world.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr and "bug in dvcx" not in done.stderr, done.stderr
    seconds, memory = told.read_text().split()
    unit = 1 if sys.platform == "darwin" else 1024
    return done.returncode, done.stderr, Cost(float(seconds), int(memory) * unit)


def _is_cheap(cost: Cost) -> bool:
    """Within 200 MB and a second, or what a second of work takes now: on a busy machine everything takes longer."""
    return cost.memory < 200 << 20 and (cost.seconds < 1 or cost.seconds < SECOND * turn())


BOMB = "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24))
YAML: dict[str, bytes] = {
    "aliases": BOMB.encode() + b"stages: {s: {cmd: *y}}\n",
    "large": b"stages:\n" + b"  # padding\n" * (50 << 20 >> 4),
    "object": b"stages: !!python/object/apply:os.system ['touch PWNED']\n",
    "tag": b"stages:\n  one: {cmd: !!python/name:os.system x}\n",
    "deep-flow": b"stages: " + b"[" * 100_000 + b"\n",
    "deep-block": b"".join(b" " * n + b"a:\n" for n in range(1200)),
    "deep-map": b"stages: " + b"{a: " * 20_000,
    "tabs": b"stages:\n\tone:\n\t\tcmd: x\n",
    "not-utf8": b"stages:\n  one:\n    cmd: \xff\xfe\n",
    "nul": b"stages:\n  one:\n    cmd: a\0b\n",
    "number": b"stages: {s: {cmd: x, wdir: " + b"9" * 100_000 + b"}}\n",
    "many": b"--- \n" * 10_000,
    "dense-list": b"stages: [" + b"1," * 500_000 + b"1]\n",
    "dense-flow": b"stages: [" + b"[]," * 340_000 + b"]\n",
    "dense-map": b"stages: {" + b"".join(b"%x: {cmd: x}," % number for number in range(50_000)) + b"}\n",
    "anchors": b"stages: [" + b"&a 1," * 200_000 + b"]\n",
}


@pytest.mark.parametrize("case", YAML)
@pytest.mark.parametrize("file", ["dvcx.yaml", "params.yaml"])
def test_hostile_yaml(world: World, file: str, case: str) -> None:
    """Item 39: YAML made to hang, to grow or to run something is refused at once, as a pipeline and as params."""
    if file == "params.yaml":
        world.stage_file("stages:\n  one:\n    cmd: 'true'\n    params: [a]\n")
    world.put(file, YAML[case])
    code, text, cost = _measured(world, "status")
    assert code in (2, 4, 9), f"exit {code}: {text}"
    assert "hint:" in text and file in text
    assert _is_cheap(cost), cost
    assert not list(world.root.parent.rglob("PWNED"))


@pytest.mark.parametrize("how", ["crlf", "bom"])
def test_yaml_of_other_editors(world: World, how: str) -> None:
    """Item 39: Windows line ends and a byte order mark are no attack."""
    text = b"stages:\n  one:\n    cmd: echo hi > out.txt\n    outs: [out.txt]\n"
    world.put("dvcx.yaml", text.replace(b"\n", b"\r\n") if how == "crlf" else b"\xef\xbb\xbf" + text)
    world.ok("repro")
    assert world.get("out.txt") == b"hi\n"


MANY: dict[str, bytes] = {
    "objects": b'{"dvcx":1,"stages":{' + b",".join(b'"some-key-%d":{}' % number for number in range(480_000)) + b"}}",
    "more": b'{"dvcx":1,"stages":[' + b"{}," * 3_000_000 + b"{}]}",
    "largest": b'{"dvcx":1,"stages":[' + b"[]," * (20 << 20) + b"[]]}",
}


@pytest.mark.parametrize("case", MANY)
def test_hostile_lock(world: World, case: str) -> None:
    """Item 39: a lock may be large, but what it unfolds to in memory is bounded."""
    world.put("dvcx.lock", MANY[case])
    code, text, cost = _measured(world, "status")
    assert code in (4, 9) and "hint:" in text and "dvcx.lock" in text, f"exit {code}: {text}"
    assert _is_cheap(cost), cost


JSON: dict[str, bytes] = {
    "deep": b'{"dvcx": 1, "meta": ' + b"[" * 30_000,
    "large": b" " * (70 << 10),
    "number": b'{"dvcx": 1' + b"0" * 5000 + b"}",
    "digits": b'{"dvcx": 1, "size": ' + b"9" * 6000 + b"}",
    "nan": b'{"dvcx": NaN}',
    "float": json.dumps(_pointer(size=1e300)).encode(),
    "negative": json.dumps(_pointer(size=-1)).encode(),
    "bool": json.dumps(_pointer(size=True)).encode(),
    "huge": json.dumps(_pointer(size=1 << 70)).encode(),
    "surrogate": b'{"dvcx": 1, "path": "\\ud800"}',
    "bom": b"\xef\xbb\xbf" + json.dumps(_pointer()).encode(),
    "unknown": json.dumps(_pointer(cmd="touch PWNED")).encode(),
    "control": b'{"dvcx": 1, "\\u001b[31m": 1}',
}


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize("file", ["x.txt.dvcx", "dvcx.lock"])
def test_hostile_json(world: World, file: str, case: str) -> None:
    """Item 39: the same for pointers and locks; no control character reaches the terminal."""
    world.put(file, JSON[case])
    code, text, cost = _measured(world, "status")
    assert code in (4, 9), f"exit {code}: {text}"
    assert "hint:" in text and file in text and "\x1b" not in text
    assert _is_cheap(cost), cost


# Nothing runs (items 41, 44)


def test_nothing_runs_before_repro(world: World, remote: Path) -> None:
    """Item 41: commands, and what git and YAML could be made to run, run only when `repro` or `run` is asked for."""
    marker = world.root / "PWNED"
    world.put("x.txt", HELLO)
    world.ok("add", "x.txt")
    world.stage_file(
        "stages:\n"
        f"  one:\n    cmd: touch {marker}\n    deps: [x.txt]\n    params: ['$(touch PWNED)']\n    outs: ['$(touch PWNED).txt']\n"
        "  \"$(touch PWNED)\":\n    cmd: touch PWNED\n"
    )
    world.put("params.yaml", "'$(touch PWNED)': '`touch PWNED`'\n")
    script = world.put("hook", f"#!/bin/sh\ntouch {marker}\n", 0o755)
    for hook in ("post-checkout", "pre-commit", "post-index-change"):
        shutil.copy2(script, world.root / ".git/hooks" / hook)
    world.git("config", "core.fsmonitor", str(script))
    world.git("config", "diff.external", str(script))
    world.git("config", "filter.x.clean", str(script))
    world.git("config", "core.pager", str(script))
    world.git("config", "core.sshCommand", str(script))
    for verb in (*ASKING, "why one", "doctor", "cache size", "repro --dry-run", "config", "remote list", "stage list"):
        world.run(*verb.split())
        assert not marker.exists(), verb
    world.stage_file(f"stages:\n  one:\n    cmd: touch {marker}\n    outs: [PWNED]\n")
    world.ok("repro")
    assert marker.exists()


def test_no_code_is_ever_loaded() -> None:
    """Item 44: the program uses no pickle, marshal, shelve, eval, exec or unsafe YAML, anywhere."""
    banned = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in Path(dvcx.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                assert not banned & {name.name.partition(".")[0] for name in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in banned, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load"), f"{path}: {called}"
                assert called != "yaml.load" or "import yaml\n" not in path.read_text().replace("from dvcx.io import yaml", "")


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch PWNED",)


def test_planted_pickle(world: World) -> None:
    """Item 44: a pickle in place of every file of the state and the cache is never loaded."""
    world.put("x.txt", HELLO)
    world.ok("add", "x.txt")
    world.stage_file("stages:\n  one:\n    cmd: 'true'\n    params: [a]\n")
    world.put("params.yaml", "a: 1\n")
    world.ok("status")
    data = pickle.dumps(_Bomb())
    for path in list((world.root / ".dvcx/state").rglob("*")):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(data)
    assert "stale" in world.ok("status") or "one" in world.ok("status")
    for path in list(world.cache.rglob("*")):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(data)
    (world.root / "x.txt").unlink()
    for verb in ("status", "checkout", "doctor"):
        world.run(verb)
    assert not list(world.root.rglob("PWNED"))


# Plain mistakes


def test_no_project(tmp_path: Path) -> None:
    """Bad input: no project here: exit 3, with what to type."""
    world = World(tmp_path, tmp_path)
    for verb in ("status", "push", "repro"):
        world.fails(3, verb, says=("dvcx init",))


def test_arguments(world: World) -> None:
    """Bad input: paths outside, in .git, through a link, absent, special, not UTF-8; each refused, none tracked."""
    world.put("real/x.txt", HELLO)
    os.symlink("real", world.root / "link")
    os.symlink("/nowhere", world.root / "broken")
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(world.root)
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        for argument, code in {
            "../victim/secret.txt": 9,
            str(world.victim / "secret.txt"): 9,
            "/etc/passwd": 9,
            ".git/config": 9,
            ".dvcx/config.toml": 9,
            "link/x.txt": 9,
            "link": 9,
            "broken": 9,
            "fifo": 9,
            "sock": 9,
            ".": 9,
            "nosuch": 5,
            "real/nosuch": 5,
            "real/x.txt/below": 5,
            "dvcx.yaml": 2,
            "": 2,
        }.items():
            began = time.monotonic()
            world.fails(code, "add", argument)
            assert time.monotonic() - began < 30
    world.fails(9, "add", os.fsdecode(b"bad-\xff"))
    assert not list(world.root.rglob("?*.dvcx"))


def test_two_owners(world: World) -> None:
    """Bad input: one path, two owners: exit 11 naming both, and nothing changes."""
    world.put("d/x.txt", HELLO)
    world.put("d/y.txt", "y\n")
    world.ok("add", "d/x.txt")
    world.fails(11, "add", "d", says=("d/x.txt", "one owner"))
    world.stage_file("stages:\n  one:\n    cmd: 'true'\n    outs: [d/x.txt]\n")
    world.fails(11, "status", says=("d/x.txt",))
    world.stage_file("stages:\n  one: {cmd: 'true', outs: [z]}\n  two: {cmd: 'true', outs: [z]}\n")
    world.fails(11, "status", says=("one", "two", "z"))
    (world.root / "dvcx.yaml").unlink()
    world.put("e.dvcx", json.dumps(_pointer(path="d/x.txt")))
    world.fails(11, "status")
    (world.root / "e.dvcx").unlink()
    world.put("kept.txt", "in git\n")
    world.git("add", "kept.txt")
    world.fails(11, "add", "kept.txt", says=("git rm",))


def test_yaml_mistakes(world: World) -> None:
    """Bad input: a typo in dvcx.yaml is shown with file:line:column and "did you mean"."""
    for text, place, words in (
        ("stages:\n  one:\n    cmd: x\n    dep: [a]\n", "dvcx.yaml:4:5", "did you mean"),
        ("stages:\n  one:\n    comd: x\n", "dvcx.yaml:3:5", "did you mean"),
        ("stagse:\n  one:\n    cmd: x\n", "dvcx.yaml:1:1", "did you mean"),
        ("stages:\n  one:\n    cmd: [x\n", "dvcx.yaml:", ""),
        ("stages:\n  one:\n    cmd: 7\n    deps: {a: b}\n", "dvcx.yaml:", ""),
        ("stages:\n  one: nothing\n", "dvcx.yaml:2:", ""),
    ):
        world.stage_file(text)
        outcome = world.run("status")
        assert outcome.code == (4 if "[x\n" in text else 2), outcome.text
        assert place in outcome.err and words in outcome.err.lower() and "hint:" in outcome.err, outcome.text


def test_cycle(world: World) -> None:
    """Bad input: a cycle is named, stage by stage."""
    world.stage_file(
        "stages:\n  one: {cmd: 'true', deps: [b], outs: [a]}\n  two: {cmd: 'true', deps: [a], outs: [b]}\n"
        "  three: {cmd: 'true', deps: [c], outs: [c2]}\n"
    )
    for verb in ("status", "repro", "dag"):
        world.fails(11, verb, says=("one", "two"))


def test_missing_dependency(world: World) -> None:
    """Bad input: a dependency that does not exist: the stage and the path are named, nothing runs."""
    world.stage_file("stages:\n  one:\n    cmd: touch ran; touch out\n    deps: [nosuch.csv]\n    outs: [out]\n")
    outcome = world.run("repro")
    assert outcome.code in (5, 10) and "nosuch.csv" in outcome.text and "one" in outcome.text, outcome.text
    assert not (world.root / "ran").exists()
    assert "nosuch.csv" in world.ok("status")


def test_failing_command(world: World) -> None:
    """Bad input: a command that fails: exit 10, its old outputs are back, later stages do not run, the lock is as it was."""
    world.put("in.txt", "1\n")
    world.ok("add", "in.txt")
    world.stage_file(
        "stages:\n  one:\n    cmd: cp in.txt out.txt && test $(cat in.txt) = 1\n    deps: [in.txt]\n    outs: [out.txt]\n"
        "  two:\n    cmd: cp out.txt last.txt\n    deps: [out.txt]\n    outs: [last.txt]\n"
    )
    world.ok("repro")
    lock = world.get("dvcx.lock")
    world.put("in.txt", "2\n")
    outcome = world.run("repro")
    assert outcome.code == 10 and "one" in outcome.text, outcome.text
    assert world.get("out.txt") == b"1\n" and world.get("last.txt") == b"1\n"
    assert world.get("dvcx.lock") == lock
    assert world.run("check").code == 1
    world.put("in.txt", "1\n")
    world.ok("repro")


def test_command_without_output(world: World) -> None:
    """Bad input: a command that ends well and does not write its output, or writes its input: exit 10."""
    world.put("in.txt", "1\n")
    world.ok("add", "in.txt")
    world.stage_file("stages:\n  one:\n    cmd: 'true'\n    outs: [never.txt]\n")
    assert world.run("repro").code == 10
    world.stage_file("stages:\n  one:\n    cmd: echo more >> in.txt; cp in.txt o\n    deps: [in.txt]\n    outs: [o]\n")
    outcome = world.run("repro")
    assert outcome.code == 10 and "in.txt" in outcome.text


def test_outputs_set_aside_outlast_another_command(world: World) -> None:
    """Bad input: while a long stage runs, other commands leave its old outputs alone; when it fails they come back."""
    world.put("in.txt", "1\n")
    world.put("x.txt", "x\n")
    world.ok("add", "in.txt", "x.txt")
    world.stage_file(
        "stages:\n  one:\n"
        "    cmd: if grep -q 2 in.txt; then touch started; until test -e go; do sleep 0.02; done; false; fi && cp in.txt out\n"
        "    deps: [in.txt]\n    outs: [{out: {cache: false}}]\n"
    )
    world.ok("repro")
    world.put("in.txt", "2\n")
    running = world.start("repro")
    try:
        deadline = time.monotonic() + 20
        while not (world.root / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for aside in (world.root / ".dvcx/tmp").glob("aside-*"):
            os.utime(aside, (0, 0))
        (world.root / "x.txt").unlink()
        world.ok("checkout", "x.txt")
    finally:
        world.put("go", "")
        out, _ = running.communicate(timeout=30)
    assert running.returncode == 10, out
    assert world.get("out") == b"1\n"


def test_remote_mistakes(world: World) -> None:
    """Bad input: no remote, an unknown one, one that cannot be reached, credentials that are missing."""
    world.put("x.txt", HELLO)
    world.ok("add", "x.txt")
    world.fails(2, "push", says=("dvcx remote add",))
    world.ok("remote", "add", "-d", "origin", str(world.root.parent / "r"))
    world.fails(5, "push", "--remote", "orgin", says=("did you mean",))
    world.fails(2, "remote", "add", "odd", "gopher://x/y", says=("gopher",))
    world.fails(5, "push", "--remote", "odd")
    world.ok("remote", "add", "box", "sftp://127.0.0.1:9/x")
    outcome = world.run("fetch", "--remote", "box")
    # Without its extra it says what to install.
    assert outcome.code in (2, 6) and "hint:" in outcome.err, outcome.text
    assert "pip install" in outcome.err or "127.0.0.1" in outcome.err


def test_missing_credentials(world: World) -> None:
    """Bad input: S3 without credentials: exit 6 naming the bucket and what to set, soon."""
    pytest.importorskip("obstore")
    world.put("x.txt", HELLO)
    world.ok("add", "x.txt")
    world.ok("remote", "add", "-d", "cloud", "s3://my-bucket/prefix")
    world.ok("remote", "modify", "--local", "cloud", "endpoint", "http://127.0.0.1:9")
    world.ok("remote", "modify", "--local", "cloud", "timeout", "2")
    outcome = world.run("push", AWS_EC2_METADATA_DISABLED="true", timeout=30)
    assert outcome.code == 6 and "hint:" in outcome.err, outcome.text
    assert "my-bucket" in outcome.err or "127.0.0.1" in outcome.err, outcome.text


def test_another_user(world: World) -> None:
    """Item 43: a project that belongs to another user is refused until it is said to be safe."""
    if os.geteuid() != 0:
        pytest.skip("giving a directory away needs root")
    os.chown(world.root / ".dvcx", 12345, 12345)
    world.fails(9, "status", says=("12345", "DVCX_SAFE_DIRECTORY"))
    world.ok("status", DVCX_SAFE_DIRECTORY=str(world.root))


def test_committed_settings(world: World) -> None:
    """Item 42: a committed file sets neither directories, credentials nor commands; it is told, and ignored."""
    world.put(
        ".dvcx/config.toml",
        f'[cache]\ndir = "{world.victim}"\n[core]\nfsync = "none"\n[remote.origin]\nurl = "s3://b/p"\n'
        'endpoint = "http://169.254.169.254"\naccess_key_id = "AKIA"\nprofile = "admin"\n',
    )
    world.put("x.txt", HELLO)
    text = world.ok("add", "x.txt")
    assert "cache.dir" in text and "warning" in text.lower(), text
    assert list((world.cache / "objects").glob("*/*"))
    world.victim_is_untouched()
    assert "169.254" not in world.run("config").out


def test_entry_is_not_a_path() -> None:
    """Item 33: a tree entry with a slash can be made as a value, never as bytes that are read back."""
    from dvcx.core.objects import decode_tree, encode_tree
    from dvcx.errors import DvcxError

    data = encode_tree([Entry("a/b", "file", 6, HELLO_ID, HELLO_SEAL)])
    with pytest.raises(DvcxError):
        decode_tree(data, "here")
