"""Configuration files on a real disk: layers, the quick reader against tomllib, edits that keep comments, modes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core import config
from dvcx.errors import DvcxError, IntegrityError, UnsafeInput, UsageError
from dvcx.io import configfile

CANARY = "CANARY-8d1f"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".dvcx").mkdir()
    return tmp_path


def committed(project: Path, text: str) -> Path:
    path = project / ".dvcx" / "config.toml"
    path.write_text(text)
    return path


def private(project: Path, text: str, mode: int = 0o600) -> Path:
    path = project / ".dvcx" / "config.local.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_no_files_mean_defaults(project: Path) -> None:
    loaded, warnings = configfile.load(str(project), {})
    assert not loaded.values and warnings == ()
    committed(project, "\n")
    assert not configfile.load(str(project), {}, str(project / "absent.toml"))[0].values


def test_all_layers_in_order(project: Path) -> None:
    user = project / "user.toml"
    user.write_text('[core]\njobs = 1\nremote = "u"\n[remote.origin]\nprofile = "p"\n')
    committed(project, '# hi\n[core]\nremote = "origin"\n[remote.origin]\nurl = "/s"\n')
    private(project, "[core]\njobs = 3\n[remote.origin]\ntimeout = 9\n")
    loaded, warnings = configfile.load(str(project), {"DVCX_REMOTE_ORIGIN_URL": "/e", "DVCX_CORE_FSYNC": "none"}, str(user))
    assert warnings == ()
    assert loaded.values["core.jobs"] == 3 and loaded.get("core.remote") == "origin" and loaded.get("core.fsync") == "none"
    assert loaded.remote("origin") == {"profile": "p", "url": "/e", "timeout": "9"}
    assert loaded.sources["core.jobs"] == ".dvcx/config.local.toml"


def test_a_hostile_committed_file_sets_nothing_private(project: Path) -> None:
    committed(
        project,
        '[cache]\ndir = "/victim"\nshared = true\n[core]\nfsync = "none"\nstate_dir = "/victim"\n'
        '[remote.o]\nurl = "s3://b"\nendpoint = "http://evil"\ncredential_helper = "touch PWNED"\nproxy = "http://evil"\n',
    )
    loaded, warnings = configfile.load(str(project), {})
    assert dict(loaded.values) == {"cache.shared": True, "remote.o.url": "s3://b"}
    assert len(warnings) == 6 and loaded.get("cache.dir") == ".dvcx/cache"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[core]\nremote = origin"\n', ".dvcx/config.toml:2"),
        ('[core]\nremote = "a"\nremote = "b"\n', ".dvcx/config.toml:3"),
        ("[core\n", ".dvcx/config.toml:1"),
        ('[core]\nremote = "x', ".dvcx/config.toml:2"),
        ("<<<<<<< HEAD\n", ".dvcx/config.toml:1"),
        ("[core]\n[core]\n", ".dvcx/config.toml:2"),
    ],
)
def test_broken_toml_names_the_line(project: Path, text: str, place: str) -> None:
    committed(project, text)
    with pytest.raises(IntegrityError) as caught:
        configfile.load(str(project), {})
    assert place in caught.value.message and caught.value.hint and caught.value.exit_code == 4


def test_other_hostile_files(project: Path) -> None:
    path = committed(project, "")
    path.write_bytes(b"[core]\n# \xff\n")
    with pytest.raises(IntegrityError, match="toml:2"):
        configfile.load(str(project), {})
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(DvcxError):
        configfile.load(str(project), {})
    path.write_text("# " + "x" * configfile.MAX_CONFIG)
    with pytest.raises(UnsafeInput, match="larger"):
        configfile.load(str(project), {})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnsafeInput):
        configfile.load(str(project), {})
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(UnsafeInput, match="link"):
        configfile.load(str(project), {})


def test_a_user_file_may_be_a_link(project: Path) -> None:
    (project / "dotfile").write_text("[core]\njobs = 2\n")
    (project / "user.toml").symlink_to("dotfile")
    assert configfile.load(str(project), {}, str(project / "user.toml"))[0].get("core.jobs") == 2


def test_a_private_file_others_can_read_is_refused(project: Path) -> None:
    private(project, f'[remote.o]\nsecret_access_key = "{CANARY}"\n', 0o644)
    with pytest.raises(UnsafeInput, match="other users") as caught:
        configfile.load(str(project), {})
    assert "chmod 600" in caught.value.hint and CANARY not in caught.value.message


TABLES = ["[core]", "[remote.a]", "[remote]", "[a.b.c]", "[ core ]", '[remote."x y"]', "[[list]]", "", "# note", "#\tt", "[]"]
TEXTS = ['"x"', '"a # b"', '"é"', '"\\n"', '"a\tb"', "'x'", '""', '"', '"""x"""', '"a" # note', '"a"b"', '"\\u0041"', ""]
NUMBERS = ["1", "01", "0", "-1", "1_0", "1.5", "+1", "9" * 30, "²", "nan", "1979-05-27", "true", "false", "TRUE"]
LISTS = ["[]", '["a", "b"]', '["a",]', '["a, b"]', '[ "a" ]', "[1]", '["a", 1]', "{}", "{ a = 1 }", '["a""b"]', '[["a"]]']
tables = st.sampled_from(TABLES)
names = st.sampled_from(["a", "core", "b-c", "1", "d_e", '"q"', "a.b", "", "é"])
values = st.sampled_from(TEXTS + NUMBERS + LISTS)
marks = st.sampled_from([" = ", "=", "  =  ", " "])
pairs = st.builds(lambda name, mark, value: f"{name}{mark}{value}", names, marks, values)
documents = st.lists(st.one_of(tables, pairs), max_size=6).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\n  ", " \n", "\r"]).map(lambda end: end.join(lines))
)


@given(st.one_of(documents, st.text(max_size=40)))
def test_the_quick_reader_agrees_with_tomllib(text: str) -> None:
    quick = configfile._parse_simple(text)
    if quick is not None:
        assert tomllib.loads(text) == quick


@given(st.binary(max_size=60))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    try:
        configfile._parse(data, "config.toml")
    except DvcxError as error:
        assert error.message.isprintable()


def test_what_edit_writes_is_read_without_tomllib(project: Path) -> None:
    path = str(project / ".dvcx" / "config.toml")
    for key, value in (("core.remote", "o"), ("cache.link", ("copy",)), ("remote.o.url", "s3://b/p"), ("core.autostage", False)):
        assert configfile.edit(path, key, value, private=False)
    code = (
        "import sys; from dvcx.io import configfile\n"
        f"c, w = configfile.load({str(project)!r}, {{}})\n"
        "assert c.get('core.remote') == 'o' and c.remote('o')['url'] == 's3://b/p' and not w\n"
        "heavy = {'tomllib', 'tomlkit', 'difflib'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_edit_keeps_comments_and_order(project: Path) -> None:
    text = '# ours\n[remote.b] # second\nurl = "/b"   # keep\n\n[core]\nremote = "b"\n\n[remote.a]\nurl = "/a"\n'
    path = committed(project, text)
    configfile.edit(str(path), "core.autostage", False, private=False)
    configfile.edit(str(path), "remote.a.url", "/c", private=False)
    after = path.read_text()
    assert after == text.replace('remote = "b"\n', 'remote = "b"\nautostage = false\n').replace('"/a"', '"/c"')


def test_edit_of_the_same_value_writes_nothing(project: Path) -> None:
    path = committed(project, '[core]\nremote = "b"\n')
    before = path.stat()
    assert not configfile.edit(str(path), "core.remote", "b", private=False)
    assert not configfile.edit(str(path), "core.autostage", None, private=False)
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns


def test_unset_removes_the_key_and_what_it_leaves_empty(project: Path) -> None:
    path = committed(project, '[core]\nremote = "b"\n[remote.a]\nurl = "/a"\nregion = "eu"\n[remote.b]\nurl = "/b"\n')
    assert configfile.edit(str(path), "core.remote", None, private=False)
    assert configfile.edit(str(path), "remote.a", None, private=False)
    assert tomllib.loads(path.read_text()) == {"remote": {"b": {"url": "/b"}}}
    assert configfile.edit(str(path), "remote.b.url", None, private=False)
    assert path.read_text().strip() == ""
    absent = str(project / ".dvcx" / "none.toml")
    assert not configfile.edit(absent, "core.remote", None, private=False)
    assert not os.path.exists(absent)


def test_the_private_file_is_0600_from_the_first_byte_and_stays(project: Path) -> None:
    path = project / ".dvcx" / "config.local.toml"
    old = os.umask(0)
    try:
        configfile.edit(str(path), "remote.o.secret_access_key", CANARY, private=True)
        assert mode(path) == 0o600
        configfile.edit(str(path), "cache.dir", "/c", private=True)
    finally:
        os.umask(old)
    assert mode(path) == 0o600 and configfile.load(str(project), {})[0].get("cache.dir") == "/c"
    assert sorted(os.listdir(project / ".dvcx")) == ["config.local.toml"]


def test_a_committed_file_keeps_its_mode(project: Path) -> None:
    path = committed(project, "")
    path.chmod(0o664)
    configfile.edit(str(path), "core.remote", "x", private=False)
    assert mode(path) == 0o664


@pytest.mark.parametrize("key", ["cache.dir", "core.jobs", "remote.o.secret_access_key", "remote.o.endpoint"])
def test_private_keys_are_refused_in_the_committed_file(project: Path, key: str) -> None:
    path = project / ".dvcx" / "config.toml"
    value: Any = 3 if key == "core.jobs" else CANARY
    with pytest.raises(UsageError) as caught:
        configfile.edit(str(path), key, value, private=False)
    assert "--local" in caught.value.hint and CANARY not in caught.value.message + caught.value.hint
    assert not path.exists()


def test_a_misplaced_private_key_can_be_taken_out(project: Path) -> None:
    path = committed(project, '[cache]\ndir = "/x"\n')
    assert configfile.edit(str(path), "cache.dir", None, private=False)
    assert path.read_text().strip() == ""


REFUSED = [("core.remot", "x"), ("core.jobs", -1), ("remote.o.url", "s3://a:b@c"), ("remote.a b", None)]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_edit_refuses_what_load_would(project: Path, key: str, value: Any) -> None:
    path = committed(project, "# mine\n")
    with pytest.raises(UsageError):
        configfile.edit(str(path), key, value, private=True)
    assert path.read_text() == "# mine\n"


def test_edit_refuses_a_broken_file(project: Path) -> None:
    path = committed(project, "[core\n")
    with pytest.raises(IntegrityError):
        configfile.edit(str(path), "core.remote", "x", private=False)
    assert path.read_text() == "[core\n"


LAYOUTS = [
    "",
    "# only a comment\n",
    'core.remote = "a"\n',
    'core = { remote = "a" }\n',
    '[remote]\no = { url = "/x" }\n',
    '[remote.o]\nurl = "/x"\n[core]\njobs = 1\n[remote.p]\nurl = "/y"\n',
    '[core]\r\nremote = "a"\r\n',
    "[core]\n[cache]\n",
]
EDITS = [("core.remote", "z"), ("remote.o.url", "/new"), ("remote.p.region", "eu"), ("cache.link", ("copy", "hardlink"))]
EDITS += [("core.remote", None), ("remote.o", None)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("key", "value"), EDITS)
def test_an_edit_changes_its_key_and_nothing_else_whatever_the_layout(project: Path, layout: str, key: str, value: Any) -> None:
    path = project / ".dvcx" / "config.toml"
    path.write_bytes(layout.encode())
    expected = config.flatten(tomllib.loads(layout))
    expected = {name: old for name, old in expected.items() if name != key and not name.startswith(key + ".")}
    if value is not None:
        expected[key] = list(value) if isinstance(value, tuple) else value
    try:
        configfile.edit(str(path), key, value, private=False)
    except IntegrityError:
        assert path.read_bytes() == layout.encode()
        pytest.fail(f"cannot edit {layout!r}")
    assert config.flatten(tomllib.loads(path.read_bytes().decode())) == expected
