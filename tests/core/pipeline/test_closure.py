"""Import closures: which local files a script imports, and which edits are no change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dvcx.core.pipeline.closure import Code, closure, dump_code, load_code, read_code, search_roots

FILES = {
    "train.py": "import os, json\nimport model.net\nfrom util import load\n",
    "model/__init__.py": "",
    "model/net.py": "from . import layers\nfrom .loss import cross\nfrom ..top import x\n",
    "model/layers.py": "def f():\n    import late\n",
    "model/loss.py": "if True:\n    import cond\nelse:\n    import other\ntry:\n    import fast\nexcept ImportError:\n    pass\n",
    "model/unused.py": "",
    "util.py": "import importlib\nimportlib.import_module('plug.one')\nimportlib.import_module(name)\n",
    "late.py": "", "cond.py": "import train\n", "other.py": "", "fast.py": "", "top.py": "",
    "plug/one.py": "", "plug/two.py": "",
    "star/__init__.py": "__all__ = ['a']\n__all__ += ['b']\n", "star/a.py": "", "star/b.py": "", "star/c.py": "",
    "uses_star.py": "from star import *\n",
    "ns/deep/mod.py": "", "uses_ns.py": "import ns.deep.mod\nfrom ns.deep import mod as again, nothing\n",
    "src/lib/__init__.py": "from lib.core import main\n", "src/lib/core.py": "", "uses_src.py": "import lib\n",
    "sub/run.py": "import near\nimport util\n", "sub/near.py": "",
    "pkg/__init__.py": "import util\n", "pkg/__main__.py": "from . import part\n", "pkg/part.py": "",
    "broken.py": "import util\nfrom model import (net,\nprint 'two'\n",
    "python2.py": "import util, late\nfrom plug import two as t\nprint 'x'\n",
    "loop_a.py": "import loop_b", "loop_b.py": "import loop_a",
    "escape.py": "from .... import secret\nfrom ..x import y\n",
    "stdlib.py": "import os.path\nfrom collections import abc\n",
}  # fmt: skip


def found(start: str, files: Mapping[str, str] = FILES, wdir: str = "") -> list[str]:
    def code(path: str) -> Code | None:
        return read_code(files[path].encode()) if path in files else None

    roots = search_roots(start, wdir, lambda directory: f"{directory}/__init__.py" in files)
    return list(closure(start, roots, code))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("train.py", "cond.py fast.py late.py model/__init__.py model/layers.py model/loss.py model/net.py other.py "
                     "plug/one.py top.py train.py util.py"),
        ("uses_star.py", "star/__init__.py star/a.py star/b.py uses_star.py"),
        ("uses_ns.py", "ns/deep/mod.py uses_ns.py"),
        ("uses_src.py", "src/lib/__init__.py src/lib/core.py uses_src.py"),
        ("sub/run.py", "plug/one.py sub/near.py sub/run.py util.py"),
        ("pkg", "pkg/__init__.py pkg/__main__.py pkg/part.py plug/one.py util.py"),
        ("python2.py", "late.py plug/one.py plug/two.py python2.py util.py"),
        ("loop_a.py", "loop_a.py loop_b.py"),
        ("escape.py", "escape.py"),
        ("stdlib.py", "stdlib.py"),
        ("absent.py", ""),
    ],
)  # fmt: skip
def test_what_is_imported(start: str, expected: str) -> None:
    assert " ".join(found(start)) == expected


def test_what_cannot_be_parsed_is_read_line_by_line() -> None:
    assert "util.py" in found("broken.py")
    assert read_code(FILES["broken.py"].encode()).text == ""


def test_the_nearest_module_wins() -> None:
    files = {"a/run.py": "import util\n", "a/util.py": "", "util.py": ""}
    assert found("a/run.py", files) == ["a/run.py", "a/util.py"]
    assert found("a/run.py", {**files, "a/util.py": ""}, "b") == ["a/run.py", "a/util.py"]


SOURCE = '''"""Doc."""
import os  # why


def f(a: int = 1, *b, c=None, **d) -> str:
    """Doc of f."""
    return f"{a!r:>10} {b}" + 'x'


class A(Exception):
    x = [1, 2.5, 1j, b"z", ..., None, True]
'''
SAME = '''#!/usr/bin/env python
"""Doc."""
import os
# a comment
def f(a: int = (1), *b, c=None,
      **d) -> str:
    """Doc of f."""

    return (f'{a!r:>10} {b}' + u"x")
class A(Exception):
    x = [
        1,
        2.5, 1j, b'z', ..., None, True,
    ]
'''


def text(source: str) -> str:
    return read_code(source.encode()).text


def test_comments_and_layout_are_no_change() -> None:
    assert text(SOURCE) == text(SAME) != ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return f", "return  not f"), ("Doc of f", "Doc of g"), ("c=None", "c=0"), ("1j", "2j"), ("True", "1"),
        ("2.5", "2"), ("import os", "import os as o"), ("Exception", "ValueError"), ("*b", "*e"), ("!r", "!s"), ('b"z"', '"z"'),
    ],
)  # fmt: skip
def test_everything_else_is_a_change(old: str, new: str) -> None:
    assert old in SOURCE
    assert text(SOURCE.replace(old, new)) != text(SOURCE)


@pytest.mark.parametrize("source", ["x = " + "1+" * 5000 + "1", "(" * 150 + ")" * 150, f"x = 1{'0' * 5000}", "a\0b", "\xff = 1"])
def test_odd_sources_have_an_answer(source: str) -> None:
    read_code(source.encode())
    read_code(source.encode("latin-1"))


def test_texts_cannot_imitate_structure() -> None:
    assert text("f('=str \\'a\\'\\n)')") != text("f('a')")
    assert text("f(['a', 'b'])") != text("f('a', 'b')")
    assert text("global a, b") != text("global b, a")


def test_memory_of_code() -> None:
    known = {name: read_code(source.encode()) for name, source in FILES.items()}
    assert load_code(json.loads(json.dumps(dump_code(known)))) == known


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_interpreters_agree(name: str) -> None:
    program = shutil.which(name)
    if program is None or subprocess.run([program, "-V"], capture_output=True, check=False).returncode:
        pytest.skip(f"no {name}")
    root = Path(__file__).parents[3]
    files = sorted((root / "dvcx").rglob("*.py"))
    script = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from dvcx.core.pipeline.closure import read_code\n"
        "for f in sys.argv[2:]: print(hashlib.sha256(read_code(open(f, 'rb').read()).text.encode()).hexdigest())\n"
    )
    arguments = ["-c", script, str(root), *map(str, files)]
    told = {subprocess.run([each, *arguments], capture_output=True, check=True).stdout for each in (program, sys.executable)}
    assert len(told) == 1
