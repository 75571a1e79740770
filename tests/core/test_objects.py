"""Trees and ids as bytes: what is written can be read, and nothing else is."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core import objects, paths
from dvcx.core.objects import Content, Digest, Entry
from dvcx.errors import DvcxError, IntegrityError, UnsafeInput
from dvcx.io.hashing import digest
from dvcx.io.workspace import store_tree

ID = "xxh128:" + "0a" * 16
SEAL = "1b" * 32

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda name: not _refused(name))
hexes = st.text("0123456789abcdef", min_size=32, max_size=32)


def _refused(name: str) -> bool:
    try:
        paths.check_name(name, "")
    except UnsafeInput:
        return True
    return False


@st.composite
def entries(draw: st.DrawFn, kinds: tuple[str, ...] = ("file", "exec", "link", "dir")) -> list[Entry]:
    found = []
    for name in draw(st.lists(names, unique=True, max_size=12)):
        kind = draw(st.sampled_from(kinds))
        files = draw(st.integers(0, 10**9)) if kind in ("dir", "shard") else 1
        size = draw(st.integers(0, objects.MAX_SIZE))
        found.append(Entry(name, kind, size, "xxh128:" + draw(hexes), draw(hexes) * 2, files))
    return found


@given(entries(), st.randoms())
def test_a_tree_comes_back_sorted(given_entries: list[Entry], random: object) -> None:
    data = objects.encode_tree(given_entries)
    expected = sorted(given_entries, key=lambda entry: entry.name.encode())
    assert objects.decode_tree(data, "tree") == expected
    random.shuffle(given_entries)  # type: ignore[attr-defined]
    assert objects.encode_tree(given_entries) == data


@given(entries(kinds=("shard",)))
def test_a_sharded_tree_comes_back(given_entries: list[Entry]) -> None:
    data = objects.encode_tree(given_entries)
    assert set(objects.decode_tree(data, "tree")) == set(given_entries)


def line(name: bytes = b"a", kind: str = "file", size: str = "1", object_id: str = ID, seal: str = SEAL, tail: str = "") -> bytes:
    return name + f"\t{kind}\t{size}\t{object_id}\t{seal}{tail}\n".encode()


GOOD = objects.TREE_HEADER + line()
BROKEN = {
    "empty": b"",
    "no header": line(),
    "another version": b"dvcx-tree 2\n" + line(),
    "cut": GOOD[:-1],
    "half": GOOD[: len(GOOD) // 2],
    "unsorted": objects.TREE_HEADER + line(b"b") + line(b"a"),
    "doubled": objects.TREE_HEADER + line() + line(),
    "unknown kind": objects.TREE_HEADER + line(kind="fifo"),
    "leading zero": objects.TREE_HEADER + line(size="01"),
    "negative": objects.TREE_HEADER + line(size="-1"),
    "plus": objects.TREE_HEADER + line(size="+1"),
    "underscore": objects.TREE_HEADER + line(size="1_0"),
    "endless size": objects.TREE_HEADER + line(size="9" * 20),
    "upper-case id": objects.TREE_HEADER + line(object_id=ID.upper()),
    "unknown algorithm": objects.TREE_HEADER + line(object_id="md5:" + "0a" * 16),
    "short id": objects.TREE_HEADER + line(object_id=ID[:-1]),
    "id that climbs": objects.TREE_HEADER + line(object_id="xxh128:aa/../../../" + "0" * 19),
    "no seal": objects.TREE_HEADER + line(seal=""),
    "files of a file": objects.TREE_HEADER + line(tail="\t1"),
    "dir without files": objects.TREE_HEADER + line(kind="dir"),
    "not UTF-8": objects.TREE_HEADER + line(b"\xff"),
    "NUL": objects.TREE_HEADER + line(b"a\0b"),
    "bare carriage return": objects.TREE_HEADER + line(b"a\rb"),
    "unknown escape": objects.TREE_HEADER + line(b"a\\x"),
    "empty name": objects.TREE_HEADER + line(b""),
    "empty line": objects.TREE_HEADER + b"\n",
    "shard beside file": objects.TREE_HEADER + line(b"a", "shard", tail="\t1") + line(b"b"),
    "file beside shard": objects.TREE_HEADER + line(b"a") + line(b"b", "shard", tail="\t1"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_canonical_tree_is_an_integrity_error(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        objects.decode_tree(data, "tree of data")
    assert "tree of data" in caught.value.message and caught.value.exit_code == 4


HOSTILE_NAMES = [b"..", b".", b".git", b".GIT", b"git~1", b".dvcx", b"../x", b"/abs", b"a/b", b"a\\r", b"x" * 256]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_in_a_tree_are_unsafe(name: bytes) -> None:
    with pytest.raises(UnsafeInput):
        objects.decode_tree(objects.TREE_HEADER + line(name), "tree")


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=80).map(lambda tail: objects.TREE_HEADER + tail + b"\n")))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    try:
        decoded = objects.decode_tree(data, "tree")
    except DvcxError as error:
        assert error.message.isprintable()
    else:
        assert objects.encode_tree(decoded) == data


@given(entries(), st.data())
def test_a_flipped_bit_never_reads_as_the_same_tree(given_entries: list[Entry], data: st.DataObject) -> None:
    raw = bytearray(objects.encode_tree(given_entries))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = objects.decode_tree(bytes(raw), "tree")
    except DvcxError:
        return
    assert objects.encode_tree(decoded) == bytes(raw)


def test_a_name_that_is_not_utf8_cannot_be_written() -> None:
    with pytest.raises(UnsafeInput, match=r"caf\\xe9"):
        objects.encode_tree([Entry("caf\udce9", "file", 1, ID, SEAL)])


NO_IDS = [None, 1, ["x"], "", "aa/../../../x", ID.upper(), ID[:-1], ID + "0", ID + "\n", "blake3:" + "0" * 32, "md5:" + "0" * 32]


@pytest.mark.parametrize("value", [*NO_IDS, "xxh128:" + "g" * 32])
def test_what_is_no_id_is_unsafe(value: object) -> None:
    with pytest.raises(UnsafeInput) as caught:
        objects.check_id(value, "x.dvcx: hash")
    assert "x.dvcx: hash" in caught.value.message and len(caught.value.message) < 140


@pytest.mark.parametrize("value", [None, 5, "", SEAL.upper()[:-1] + "B", SEAL + "0", SEAL[:-1], SEAL + "\n"])
def test_what_is_no_seal_is_unsafe(value: object) -> None:
    with pytest.raises(UnsafeInput):
        objects.check_seal(value, "here")


def test_ids_and_their_bytes() -> None:
    assert objects.check_id(ID, "") == ID and objects.check_seal(SEAL, "") == SEAL
    assert objects.digest_bytes(ID) == b"\x0a" * 16
    assert objects.digest_bytes("blake3:" + SEAL) == b"\x1b" * 32


def test_shards_depend_on_names_alone() -> None:
    all_names = sorted(f"file-{number:06}" for number in range(20_000))
    every = [Entry(name, "file", 1, ID, SEAL) for name in all_names]
    parts = list(objects.shards(every))
    assert [entry for part in parts for entry in part] == every
    assert len(parts) > 3
    for part in parts[1:]:
        assert ((zlib.crc32(part[0].name.encode()) * 0x9E3779B1) % 2**32) >> 21 == 0
    without = [entry for entry in every if entry.name != parts[1][1].name]
    changed = [part for part in objects.shards(without) if part not in parts]
    assert len(changed) == 1
    assert list(objects.shards([])) == []


def test_totals_and_contents() -> None:
    some = [Entry("a", "file", 3, ID, SEAL), Entry("d", "dir", 10, ID, SEAL, 4), Entry("x", "exec", 1, ID, SEAL)]
    assert objects.totals(some) == (14, 6)
    assert objects.entry_content(some[1]) == Content("tree", ID, SEAL, 10, 4)
    assert objects.entry_content(some[2]) == Content("blob", ID, SEAL, 1, 1, True)


def sharded(entries: list[Entry]) -> tuple[Content, dict[str, bytes]]:
    """What the walk makes of a directory: its content, and the tree objects it kept, by id."""
    kept: dict[str, bytes] = {}

    def keep(data: bytes) -> Digest:
        names = digest(data, "xxh128")
        kept[names.id] = data
        return names

    return store_tree(list(entries), keep), kept


def many(count: int) -> list[Entry]:
    return [Entry(f"img_{number:05}.jpg", "file", 2, ID, SEAL) for number in range(count)]


def test_directories_are_sharded_above_8192_entries() -> None:
    content, kept = sharded(many(objects.SHARD_ABOVE))
    assert len(kept) == 1 and objects.decode_tree(kept[content.id], "t") == many(objects.SHARD_ABOVE)
    content, kept = sharded(many(objects.SHARD_ABOVE + 1))
    root = objects.decode_tree(kept[content.id], "t")
    assert {entry.kind for entry in root} == {"shard"} and len(kept) == len(root) + 1 > 2
    assert (content.size, content.files) == (2 * 8193, 8193) == objects.totals(root)
    joined = [entry for shard in root for entry in objects.decode_tree(kept[shard.id], "s")]
    assert joined == many(objects.SHARD_ABOVE + 1)
    assert [shard.name for shard in root] == [objects.decode_tree(kept[shard.id], "s")[0].name for shard in root]


@pytest.mark.parametrize("name", ["img_04000.jpg-copy", "aaa", "zzz"])
def test_one_new_name_rewrites_one_shard(name: str) -> None:
    before, old = sharded(many(9000))
    after, new = sharded([*many(9000), Entry(name, "file", 2, ID, SEAL)])
    assert not objects._begins_shard(name)
    written = set(new) - set(old)
    assert after.id in written and len(written) == 2  # the root and one shard
    assert after.files == before.files + 1


def test_entries_in_any_order_make_the_same_shards() -> None:
    assert sharded(many(9000)) == sharded(many(9000)[::-1])
