"""The stat index: rows come back, and a database in any state costs time, never a wrong answer."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.objects import Content, Entry, digest_bytes
from dvcx.io.hashing import digest
from dvcx.io.statindex import CODES, FIELDS, SCHEMA, Row, StatIndex, health
from dvcx.io.workspace import Looking, look

ID, SEAL = digest(b"x", "xxh128")


def row(names: list[str], ignores: str = "") -> Row:
    flat: list[int] = []
    for number, _ in enumerate(names):
        flat += (CODES["file"], 1000 + number, number, 10**18 + number, 10**18)
    return Row(
        "\0".join(names).encode(),
        array("q", flat).tobytes(),
        "\n".join(f"{ID} {SEAL}" for _ in names).encode(),
        array("q", [1] * len(names)).tobytes(),
        Content("tree", ID, SEAL, 5, len(names)),
        ignores,
    )


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "statindex.sqlite"


def opened(path: Path) -> tuple[StatIndex, list[str]]:
    warnings: list[str] = []
    return StatIndex(str(path), warnings.append), warnings


def test_rows_come_back(where: Path) -> None:
    rows = {"d": row(["a", "ü b", "new\nline"]), "d/e": row([], "rules"), "caf\udce9": row(["x"])}
    index, warnings = opened(where)
    for path, value in rows.items():
        index.put(path, value)
    assert index.get("d") == rows["d"]  # before it is written too
    index.flush()
    index.close()
    index, _ = opened(where)
    assert {path: index.get(path) for path in rows} == rows
    assert index.get("other") is None and warnings == []
    assert rows["d"].entries()[1] == Entry("ü b", "file", 1, ID, SEAL, 1)
    assert row([]).entries() == []
    index.close()
    assert health(str(where)) == "ok" and health(str(where) + "x") == "none yet"


def test_what_was_not_flushed_is_forgotten(where: Path) -> None:
    index, _ = opened(where)
    index.put("d", row(["a"]))
    index.close()
    index, _ = opened(where)
    assert index.get("d") is None
    index.close()


def test_dropping_takes_what_is_below_and_nothing_beside(where: Path) -> None:
    index, _ = opened(where)
    for path in ("d", "d/e", "d/e/f", "d.x", "d0", "dd"):
        index.put(path, row([path.replace("/", "-")]))
    index.flush()
    index.put("d/new", row(["n"]))
    index.drop("d")
    assert [path for path in ("d", "d/e", "d/e/f", "d/new") if index.get(path)] == []
    index.put("d/e", row(["again"]))
    index.flush()
    assert [path for path, _ in index.walk("d")] == ["d/e"]
    assert index.get("d/e") == row(["again"])
    assert all(index.get(path) is not None for path in ("d.x", "d0", "dd"))
    index.close()


def test_walking_gives_parents_first(where: Path) -> None:
    index, _ = opened(where)
    for path in ("d/z", "d", "d/a/b", "d/a", "e"):
        index.put(path, row(["x"]))
    index.flush()
    assert [path for path, _ in index.walk("d")] == ["d", "d/a", "d/a/b", "d/z"]
    index.close()


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _holes(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _old_schema(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE directories (path TEXT, something BLOB); PRAGMA user_version=99;")
    db.execute("INSERT INTO directories VALUES ('d', x'00')")
    db.commit()
    db.close()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _not_these_columns(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.executescript(f"CREATE TABLE directories (path TEXT, something BLOB); PRAGMA user_version={SCHEMA};")
    db.close()


def _no_table(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.executescript(f"PRAGMA user_version={SCHEMA};")
    db.close()


def _edited(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE directories SET stats = x'0102', hashes = x'ff'")
    db.commit()
    db.close()


def _edited_types(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE directories SET names = 5, files = NULL, size = 'much'")
    db.commit()
    db.close()


def _flipped_bit(path: Path) -> None:
    db = sqlite3.connect(path)
    ((hashes,),) = db.execute("SELECT hashes FROM directories WHERE path = CAST('data' AS BLOB)").fetchall()
    flipped = bytearray(hashes)
    flipped[8] ^= 1
    db.execute("UPDATE directories SET hashes = ? WHERE path = CAST('data' AS BLOB)", (bytes(flipped),))
    db.execute("UPDATE directories SET id = ? WHERE path = CAST('single' AS BLOB)", ("xxh128:" + "0" * 32,))
    assert db.total_changes == 2
    db.commit()
    db.close()


DAMAGE: list[Callable[[Path], None]] = [
    _garbage,
    _truncated,
    _holes,
    _empty,
    _old_schema,
    _directory,
    _not_these_columns,
    _no_table,
    _edited,
    _edited_types,
    _flipped_bit,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_database_gives_the_same_answers(tmp_path: Path, where: Path, damage: Callable[[Path], None]) -> None:
    data = tmp_path / "w/data"
    (data / "sub").mkdir(parents=True)
    for number in range(150):
        (data / f"f{number}").write_text(str(number))
    (data / "sub/x").write_text("x")
    (tmp_path / "w/single").write_text("s")
    root = str(tmp_path / "w")

    def seen() -> list[Content | None]:
        index, warnings = opened(where)
        found = [look(root, path, index=index, sink=Looking("xxh128"), rules=_rules()) for path in ("data", "single", "absent")]
        index.flush()
        index.close()
        told.extend(warnings)
        return found

    told: list[str] = []
    expected = seen()
    assert told == [] and expected[0] is not None and expected[0].files == 151
    damage(where)
    assert seen() == expected
    assert seen() == expected
    assert all("rebuilt" in text or "cannot be written" in text for text in told)
    if damage in (_garbage, _truncated, _holes):
        assert told != []
    if damage is not _directory:
        index, _ = opened(where)
        found = index.get("data")
        assert found is not None and found.content == expected[0]
        index.close()


def _rules():  # type: ignore[no-untyped-def]
    from dvcx.io.workspace import Rules

    return Rules()


READER = """
import encodings.utf_8, os, sys
from dvcx.io.statindex import StatIndex
from tests.io.test_statindex import row
os.setuid(65534)
said = []
index = StatIndex(sys.argv[1], said.append)
assert index.get("d") == row(["a"]), index.get("d")
index.put("d", row(["other"]))
index.flush()
index.close()
assert said == [], said
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root has to become somebody else")
@pytest.mark.parametrize("writable_directory", [False, True])
def test_a_read_only_database_is_read(tmp_path: Path, writable_directory: bool) -> None:
    place = tmp_path / "state"
    place.mkdir()
    index, _ = opened(place / "statindex.sqlite")
    index.put("d", row(["a"]))
    index.flush()
    index.close()
    # A path nobody else may pass is no read-only disk: give it one that leads there.
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as outside:
        os.chmod(outside, 0o777 if writable_directory else 0o755)
        # What a URL would take for something else stands in the path.
        Path(outside, "a?b#c%41").mkdir()
        os.chmod(Path(outside, "a?b#c%41"), os.stat(outside).st_mode & 0o777)
        target = Path(outside, "a?b#c%41", "statindex.sqlite")
        target.write_bytes((place / "statindex.sqlite").read_bytes())
        target.chmod(0o444)
        before = target.read_bytes()
        done = subprocess.run([sys.executable, "-c", READER, str(target)], cwd=Path(__file__).parents[2], capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert target.read_bytes() == before


def test_a_database_locked_by_another_is_no_failure(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, warnings = opened(where)
    other = sqlite3.connect(where)
    try:
        other.execute("BEGIN IMMEDIATE")
        assert index._db is not None
        index._db.execute("PRAGMA busy_timeout=50")
        index.put("d", row(["a"]))
        index.flush()
        assert warnings and "slower" in warnings[0]
        assert index.get("d") == row(["a"])
        other.rollback()
        index.flush()
    finally:
        other.close()
        index.close()
    index, _ = opened(where)
    assert index.get("d") == row(["a"])
    index.close()


def test_numbers_per_entry() -> None:
    assert len(row(["a", "b"]).stats) == 2 * FIELDS * 8 and len(digest_bytes(ID)) == 16
