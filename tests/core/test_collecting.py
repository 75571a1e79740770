"""What a collection takes: decided from values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.collecting import (
    DAY,
    MANY_INDEXES,
    MARKED,
    SMALL_INDEX,
    WORKING,
    Alone,
    Mark,
    Packed,
    Root,
    Seen,
    Spare,
    decide,
    decode_ids,
    decode_mark,
    decode_root,
    encode_ids,
    encode_mark,
    encode_root,
    is_own,
    parse_size,
    ripe,
    shrink,
    small_indexes,
    trash_name,
    trashed,
)
from dvcx.errors import DvcxError, IntegrityError, UsageError

NOW = 1_000 * DAY


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_what_is_unreachable_and_old_goes() -> None:
    loose = [Alone(key(1), 10, 0.0), Alone(key(2), 20, 0.0), Alone(key(3), 30, NOW)]
    sweep = decide(loose, [], {key(1)}, before=NOW - DAY)
    assert sweep.loose == (loose[1],)
    assert (sweep.live, sweep.young, sweep.young_bytes) == (1, 1, 30)
    assert (sweep.objects, sweep.bytes, sweep.empty) == (1, 20, False)


@pytest.mark.parametrize(
    ("pack", "where"),
    [
        (Packed("a", 100, 0.0, 0, 3, 90), "packs"),
        (Packed("a", 100, 0.0, 1, 3, 51), "repack"),
        (Packed("a", 100, 0.0, 1, 3, 50), ""),
        (Packed("a", 100, NOW, 0, 3, 90), ""),
        (Packed("a", 100, 0.0, 3, 0, 0), ""),
        (Packed("a", 100, 0.0, 0, 0, 0), "packs"),
    ],
)
def test_packs(pack: Packed, where: str) -> None:
    sweep = decide([], [pack], set(), before=NOW - DAY)
    assert (sweep.packs == (pack,), sweep.repack == (pack,)) == (where == "packs", where == "repack")
    if not where:
        assert sweep.empty and sweep.young + sweep.sparse == pack.dead


def test_only_what_may_go() -> None:
    loose = [Alone(key(1), 10, 0.0), Alone(key(2), 20, 0.0)]
    assert decide(loose, [], set(), before=NOW, only={key(2)}).loose == (loose[1],)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000), st.floats(0, NOW))),
    st.sets(st.integers(0, 30)),
    st.floats(0, NOW),
)
def test_nothing_reachable_or_young_ever_goes(items: list[tuple[int, int, float]], live: set[int], before: float) -> None:
    loose = [Alone(key(number), size, newest) for number, size, newest in items]
    sweep = decide(loose, [], {key(number) for number in live}, before=before)
    for item in sweep.loose:
        assert item.newest <= before and int.from_bytes(item.id, "big") not in live
    assert len(sweep.loose) + sweep.live + sweep.young == len(loose)


def test_the_least_recently_used_go_first_until_it_fits() -> None:
    spares = [Spare("b", 10, 2.0, 1), Spare("a", 10, 1.0, 1), Spare("c", 10, 3.0, 1)]
    assert [spare.name for spare in shrink(spares, 100, 100)] == []
    assert [spare.name for spare in shrink(spares, 100, 85)] == ["a", "b"]
    assert [spare.name for spare in shrink(spares, 100, 0)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "size"), [("50G", 50 << 30), ("1.5 TiB", 3 << 39), ("800000", 800_000), ("10kb", 10 << 10), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1e9", "5 X", "G", "1" * 40])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


OWN = [
    *("objects/ab/" + "c" * 30, "packs/ab/ab" + "c" * 62 + ".pack"),
    *("index/" + "0" * 64 + ".index", "actions/ab/ab" + "0" * 62 + ".json"),
]
FOREIGN = [
    *("objects/notes.txt", "objects/ab/notes", "packs/ab/cd" + "0" * 62 + ".pack", "store.json", "index/x.index", "trash/x"),
    *("objects/AB/" + "c" * 30, "objects/ab/" + "c" * 31, "../objects/ab/" + "c" * 30, "gc/2026-01-01-0.json", "roots/a.json"),
]


def test_only_names_of_our_own_are_ever_moved() -> None:
    assert all(map(is_own, OWN)) and not any(map(is_own, FOREIGN))
    for name in OWN:
        assert trashed(trash_name("2026-01-31", name)) == ("2026-01-31", name)
    for name in (*FOREIGN, *OWN):
        assert trashed(name) is None
        assert trashed(f"trash/yesterday/{name}") is None
    assert all(trashed(f"trash/2026-01-31/{name}") is None for name in FOREIGN)


def test_many_small_indexes_are_better_one() -> None:
    few = [(f"index/{number}", 10) for number in range(MANY_INDEXES)]
    assert small_indexes(few) == ()
    many = [*few, ("index/z", 10), ("index/large", SMALL_INDEX)]
    assert len(small_indexes(many)) == MANY_INDEXES + 1 and "index/large" not in small_indexes(many)


# Marks


def test_marks_read_as_they_were_written() -> None:
    for mark in (Mark(WORKING, 12.5, "me", began=2.5), Mark(MARKED, 12.5, "me", 3, "a" * 64)):
        assert decode_mark(encode_mark(mark), "here") == mark
    ids = {key(3), key(1), key(2)}
    assert decode_ids(encode_ids(ids), 16, "here") == ids
    for root in (Root("/srv/project", "host"), Root("/srv/project", "host", git=True)):
        assert decode_root(encode_root(root), "here") == root
    assert b"git" not in encode_root(Root("/srv/project", "host"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mark_or_an_error(data: bytes) -> None:
    for decode in (decode_mark, decode_root):
        try:
            decode(data, "here")
        except DvcxError as error:
            assert error.hint


@pytest.mark.parametrize("time", ["1e300", "1e999", "NaN", "-1", "1e11", "9" * 400, '"soon"', "null"])
def test_an_impossible_time_is_an_error(time: str) -> None:
    with pytest.raises(IntegrityError, match="broken mark"):
        decode_mark(b'{"dvcx": 1, "state": "working", "by": "me", "time": %s}' % time.encode(), "here")


def test_half_a_list_is_an_error() -> None:
    with pytest.raises(IntegrityError):
        decode_ids(b"x" * 17, 16, "here")
    with pytest.raises(IntegrityError):
        decode_root(b'{"dvcx": 1, "root": "/a", "host": "h", "git": 1}', "here")
    with pytest.raises(IntegrityError):
        decode_root(encode_root(Root("relative", "host")), "here")


def test_only_what_every_mark_since_named_is_ripe() -> None:
    assert ripe([], before=NOW) is None
    assert ripe([Seen(NOW, {key(1)})], before=NOW - 1) is None
    marks = [
        Seen(NOW - 40 * DAY, {key(1), key(9)}),
        Seen(NOW - 20 * DAY, {key(1), key(2), key(3)}),
        Seen(NOW - 5 * DAY, {key(1), key(3), key(4)}),
        Seen(NOW - 1 * DAY, {key(1), key(4)}),
    ]
    assert ripe(marks, before=NOW - 14 * DAY) == (NOW - 20 * DAY, {key(1)})
    assert ripe(marks[:2], before=NOW - 14 * DAY) == (NOW - 20 * DAY, {key(1), key(2), key(3)})
