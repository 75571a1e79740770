"""Odd names and odd kinds of file: they come back as they were, or are refused by name; no terminal sees them raw."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time

import pytest

from tests.faults.world import World, tree_of

ODD = {
    "newline": "two\nlines",
    "dash": "-rf",
    "double-dash": "--force",
    "long": "n" * 245,
    "backslash": "back\\slash",
    "tab": "a\tb",
    "emoji": "🦜 parrot",
    "accents": "é-e\u0301-ü",
    "spaces": "  leading and trailing  ",
    "escape": "\x1b[31mred\x07",
    "markup": "[bold red]x[/]",
    "glob": "*?[a]!{b}",
    "hash": "#not-a-comment",
    "exclamation": "!not-negated",
    "colon": ":(exclude)x",
    "dollar": "$(touch PWNED)`x`",
    "quote": "it's \"quoted\"",
    "return": "a\rb",
    "percent": "%s%n%00",
    "reserved": "CON",
    "dots": "...",
    "rtl": "abc\u202etxt.exe",
}


@pytest.mark.parametrize("case", ODD)
def test_name_of_a_file(world: World, case: str) -> None:
    """Items 47 and 56: a tracked file of this name: add, status, a fresh checkout, byte for byte; or exit 9 naming it."""
    name = ODD[case]
    world.put(name, b"content\n")
    outcome = world.run("add", "--", name)
    _harmless(outcome.text)
    if outcome.code != 0:
        assert outcome.code == 9 and "hint:" in outcome.err, outcome.text
        assert not list(world.root.glob("?*.dvcx"))
        return
    (world.root / name).unlink()
    _harmless(world.ok("status", "--json"))
    _harmless(world.ok("checkout"))
    assert world.get(name) == b"content\n"
    assert name not in world.git("ls-files", "-z", "--others", "--exclude-standard").split("\0"), "git does not ignore it"
    assert "up to date" in world.ok("status")


def _harmless(text: str) -> None:
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text, repr(text)


def test_names_in_a_directory(world: World) -> None:
    """Items 47 and 56: the same names inside a tracked directory, as files and as directories, through a remote and back."""
    world.ok("remote", "add", "-d", "origin", str(world.root.parent / "remote"))
    for number, name in enumerate(ODD.values()):
        world.put(f"d/{name}", f"{number}\n")
        world.put(f"d/dir {number}/{name}/{name}", f"{number}\n")
    before = tree_of(world.root / "d")
    _harmless(world.ok("add", "d"))
    _harmless(world.ok("push"))
    shutil.rmtree(world.root / "d")
    shutil.rmtree(world.cache)
    _harmless(world.ok("pull"))
    assert tree_of(world.root / "d") == before
    world.put(f"d/{ODD['escape']}", "changed\n")
    (world.root / "d" / ODD["newline"]).unlink()
    for words in (("status",), ("diff",), ("list", "-R", "d"), ("diff", "--json"), ("status", "-v")):
        outcome = world.run(*words)
        _harmless(outcome.text)
    world.ok("commit")
    world.ok("check")
    assert not list(world.root.rglob("PWNED"))


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has only names that are UTF-8")
def test_not_utf8(world: World) -> None:
    """Item 56: a name that is not UTF-8 is refused, named with its bytes escaped; nothing is tracked."""
    raw = os.fsencode(world.root) + b"/d/bad-\xff\xfe.txt"
    world.put("d/good.txt", "good\n")
    with open(raw, "wb") as file:
        file.write(b"x")
    assert "bad-\\xff\\xfe.txt" in world.fails(9, "add", "d")
    assert not (world.root / "d.dvcx").exists()
    assert os.path.exists(raw)
    os.unlink(raw)
    world.ok("add", "d")
    with open(raw, "wb") as file:
        file.write(b"x")
    world.fails(9, "status", says=("\\xff",))


def test_lengths(world: World) -> None:
    """Item 56: 255 bytes are a name; a path beyond what the system takes comes back or is refused, and nothing is half done."""
    world.put("d/" + "n" * 255, "long\n")
    world.put("d/" + "é" * 127, "long too\n")
    world.ok("add", "d")
    shutil.rmtree(world.root / "d")
    world.ok("checkout")
    assert world.get("d/" + "n" * 255) == b"long\n"
    handle = os.open(world.root / "d", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("p" * 200, dir_fd=handle)
        below = os.open("p" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=handle))
    os.close(handle)
    old = world.get("d.dvcx")
    outcome = world.run("add", "d")
    assert outcome.code in (0, 8, 9), outcome.text
    if outcome.code:
        assert "hint:" in outcome.err and world.get("d.dvcx") == old
    shutil.rmtree(world.root / "d")


def test_special_files(world: World) -> None:
    """Item 57: a FIFO, a socket or a device in a directory is refused by name, at once, and .dvcxignore lets one pass."""
    world.put("d/good.txt", "good\n")
    kinds = {"fifo": lambda path: os.mkfifo(path), "sock": lambda path: _socket(path)}
    if os.geteuid() == 0:
        kinds["null"] = lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    for name, make in kinds.items():
        path = world.root / "d" / name
        try:
            make(str(path))
        except PermissionError:
            continue
        began = time.monotonic()
        world.fails(9, "add", "d", says=(f"d/{name}", ".dvcxignore"))
        world.fails(9, "add", f"d/{name}")
        assert time.monotonic() - began < 30
        assert not (world.root / "d.dvcx").exists()
        world.put(".dvcxignore", f"{name}\n")
        world.ok("add", "d")
        world.ok("check")
        (world.root / "d.dvcx").unlink()
        path.unlink()
    world.put(".dvcxignore", "")
    world.ok("add", "d")
    os.mkfifo(world.root / "d/late")
    world.fails(9, "status", says=("d/late",))
    # What is not part of the record is not removed.
    world.run("checkout", "--force")
    assert (world.root / "d/late").exists()


def _socket(path: str) -> None:
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def test_links_in_a_directory(world: World) -> None:
    """Item 58: links inside a tracked directory stay links, wherever they lead; nothing they lead to is read or written."""
    world.ok("remote", "add", "-d", "origin", str(world.root.parent / "remote"))
    world.put("d/real.txt", "real\n")
    world.put("d/sub/x", "x\n")
    for name, target in {
        "inside": "real.txt",
        "broken": "nowhere",
        "loop": "loop",
        "up": "../../victim/secret.txt",
        "outside": str(world.victim / "secret.txt"),
        "directory": str(world.victim),
        "sub-link": "sub",
        "self": ".",
        "root": "/",
        "newline": "a\nb",
    }.items():
        os.symlink(target, world.root / "d" / name)
    before = tree_of(world.root / "d")
    world.ok("add", "d")
    world.ok("push")
    assert not [path for path in world.cache.rglob("*") if path.is_file() and b"do not touch" in path.read_bytes()]
    shutil.rmtree(world.root / "d")
    shutil.rmtree(world.cache)
    world.ok("pull")
    assert tree_of(world.root / "d") == before
    world.ok("check")
    # A file that became a link, and a directory that became one: replaced, never followed.
    shutil.rmtree(world.root / "d/sub")
    os.symlink(world.victim, world.root / "d/sub")
    (world.root / "d/real.txt").unlink()
    os.symlink(world.victim / "secret.txt", world.root / "d/real.txt")
    world.ok("checkout", "--force")
    assert tree_of(world.root / "d") == before
    world.victim_is_untouched()


def test_a_tracked_directory_that_became_a_link(world: World) -> None:
    """Items 36 and 58: a tracked path replaced by a link to elsewhere is seen, and what the link leads to is left alone."""
    world.put("d/x.txt", "x\n")
    world.put("f.txt", "f\n")
    world.ok("add", "d", "f.txt")
    shutil.rmtree(world.root / "d")
    os.symlink(world.victim, world.root / "d")
    (world.root / "f.txt").unlink()
    os.symlink(world.victim / "secret.txt", world.root / "f.txt")
    for verb in ("status", "checkout", "commit"):
        outcome = world.run(verb)
        assert outcome.code in (0, 9, 11), outcome.text
        world.victim_is_untouched()
    assert not [path for path in world.cache.rglob("*") if path.is_file() and b"do not touch" in path.read_bytes()]


def test_modes(world: World) -> None:
    """Item 59: empty directories and the owner's execute bit come back; other modes follow the umask, as documented."""
    world.put("d/run.sh", "#!/bin/sh\n", 0o755)
    world.put("d/plain.txt", "plain\n", 0o600)
    (world.root / "d/empty/inner").mkdir(parents=True)
    world.put("tool", "#!/bin/sh\n", 0o755)
    world.ok("add", "d", "tool")
    before = tree_of(world.root / "d")
    shutil.rmtree(world.root / "d")
    (world.root / "tool").unlink()
    world.ok("checkout")
    assert tree_of(world.root / "d") == before
    assert os.access(world.root / "tool", os.X_OK) and (world.root / "d/run.sh").stat().st_mode & 0o100
    assert not (world.root / "d/plain.txt").stat().st_mode & 0o111
    assert list((world.root / "d/empty/inner").iterdir()) == []
    (world.root / "d/run.sh").chmod(0o644)
    assert "modified" in world.ok("status", "--json")
    world.ok("checkout", "--force")
    world.ok("check")
