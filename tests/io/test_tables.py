from __future__ import annotations

import pytest

from dvcx.errors import IntegrityError
from dvcx.io.tables import read_table


def test_tables() -> None:
    assert read_table(b'\xef\xbb\xbfa, b\r\n1,"x,y"\r\n\r\n2,"z\nz"\r\n', "t.csv") == (["a", "b"], [["1", "x,y"], ["2", "z\nz"]])
    assert read_table(b"a\tb\n1\t2\n", "t.TSV") == (["a", "b"], [["1", "2"]])
    assert read_table(b"1,2\n3\n", "t.csv", header=False) == (["0", "1"], [["1", "2"], ["3"]])
    assert read_table(b"", "t.csv") == ([], [])
    assert read_table(b"\xef\xbb\xbfa;b\n1,5;2\n", "t.csv") == (["a", "b"], [["1,5", "2"]])
    assert read_table(b"a;b,c\n1,2\n", "t.csv") == (["a;b", "c"], [["1", "2"]])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a,b\n1,2,3\n", "t.csv:2: 3 cells, and the first row has 2"),
        (b"a,a\n1,2\n", "t.csv: column 'a' twice"),
        (b"a,b\n1,\xff\n", "t.csv:2: not valid UTF-8"),
        (b"a\n1\n\0\n", "t.csv:3: a NUL byte"),
        (b'a\n"1\n', "t.csv:2: broken table"),
        (b"a\n" + b"1" * (1 << 21), "t.csv:2: broken table"),
    ],
)
def test_broken_tables(data: bytes, told: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_table(data, "t.csv")
    assert caught.value.message.startswith(told)
