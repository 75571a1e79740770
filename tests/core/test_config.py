"""Configuration: values, layers, the committed allow-list, the environment, and no secret in any message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core import config
from dvcx.core.config import COMMITTED, ENVIRONMENT, KEYS, PRIVATE, USER, Config, Layer
from dvcx.errors import DvcxError, NotFound, UsageError

CANARY = "CANARY-8d1f"
FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def test_the_list_is_the_one_of_the_format_page() -> None:
    rows: dict[str, bool] = {}
    section = FORMAT_PAGE.read_text().partition("### Configuration")[2].partition("###")[0]
    for names, committed in re.findall(r"^\| (`[^|]+`) \| (yes|no) \|", section, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", names)
        rows[first] = committed == "yes"
        rows.update({f"{first.rpartition('.')[0]}.{other}": committed == "yes" for other in others})
    assert rows == {key: row.committed for key, row in KEYS.items()}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("core.autostage", "no", False),
        ("core.autostage", "TRUE", True),
        ("core.jobs", " 8 ", 8),
        ("core.fsync", "full", "full"),
        ("core.hash", "blake3", "blake3"),
        ("core.remote", "my-store_2", "my-store_2"),
        ("cache.link", "hardlink, copy,copy", ("hardlink", "copy")),
        ("cache.dir", "/var/cache/é", "/var/cache/é"),
        ("remote.origin.url", "s3://bucket/prefix", "s3://bucket/prefix"),
        ("remote.origin.timeout", "5", 5),
        ("remote.origin.secret_access_key", "a/b+c=", "a/b+c="),
    ],
)
def test_values_from_text(key: str, text: str, value: Any) -> None:
    assert config.parse_value(key, text) == value
    assert config.check_value(key, value, "file") == value


@pytest.mark.parametrize(
    ("key", "text", "hint"),
    [
        ("core.autostage", "maybe", "true or false"),
        ("core.jobs", "-1", "whole number"),
        ("core.jobs", "4.5", "whole number"),
        ("core.jobs", "99999999999999999999", "whole number"),
        ("core.jobs", "٤", "whole number"),
        ("core.fsync", "bach", "did you mean 'batch'"),
        ("cache.link", "refink", "some of"),
        ("cache.link", "", "some of"),
        ("core.remote", "a.b", "letters"),
        ("core.remote", "../x", "letters"),
        ("core.remote", "-d", "letters"),
        ("cache.dir", "", "not empty"),
        ("cache.dir", "a\nb", "not empty"),
        ("remote.origin.region", "a\x1b[31m", "not empty"),
    ],
)
def test_unusable_values(key: str, text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.parse_value(key, text)
    assert hint in caught.value.hint and caught.value.message.isprintable() and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("core.remot", "core.remote"),
        ("core.lock-timeout", "core.lock_timeout"),
        ("xyz.abc", "the keys are"),
        ("jobs", "core.jobs"),
        ("remote.origin.ulr", "remote.origin.url"),
        ("remote.origin.xyz", "a remote has"),
        ("remote.NAME", "the keys are"),
        ("remote.url", "the keys are"),
        ("", "the keys are"),
        ("a\x1bb", "the keys are"),
    ],
)
def test_unknown_keys_get_a_suggestion(key: str, suggestion: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.find(key)
    assert suggestion in caught.value.hint and caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["", "a.b", "a b", "../x", "-x", "é", "x" * 65, "a\0"])
def test_names_no_remote_can_have(name: str) -> None:
    with pytest.raises(UsageError):
        config.find(f"remote.{name}.url")


PASSWORDS = [
    f"https://user:{CANARY}@host/x",
    f"ssh://user:{CANARY}@host/x",
    f"s3://KEY:{CANARY}@bucket/prefix",
    f"s3://KEY:{CANARY}/more@bucket",
    f"https://{CANARY}@host",
    f"az://c?sig={CANARY}",
    f"https://h/?x=1&X-Amz-Signature={CANARY}",
    f"sftp://u:{CANARY}@h",
]
NO_PASSWORDS = ["s3://b/p", "s3://b/a@b", "ssh://git@host/x", "http://127.0.0.1:9000", "/data/a@b:c", "../store", "sftp://u@h:22/x"]
NO_PASSWORDS += ["abfs://container@account.dfs.core.windows.net/x", "https://h:8080/a@b", "gs://bucket?version=2"]


@pytest.mark.parametrize("url", PASSWORDS)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    assert config.has_password(url)
    for attempt in (
        lambda: config.parse_value("remote.origin.url", url),
        lambda: config.merge([Layer("f", COMMITTED, {"remote.origin.url": url})]),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert CANARY not in caught.value.message + caught.value.hint
        assert "--local" in caught.value.hint


@pytest.mark.parametrize("url", NO_PASSWORDS)
def test_other_urls_are_fine(url: str) -> None:
    assert config.parse_value("remote.origin.url", url) == url


def test_later_layers_win_and_sources_are_kept() -> None:
    merged, warnings = config.merge(
        [
            Layer("user.toml", USER, {"core.remote": "a", "core.jobs": 2, "remote.origin.profile": "p"}),
            Layer("config.toml", COMMITTED, {"core.remote": "origin", "remote.origin.url": "/store", "core.hash": "blake3"}),
            Layer("config.local.toml", PRIVATE, {"core.jobs": 4, "cache.dir": "/c"}),
            Layer("environment", ENVIRONMENT, {"core.jobs": "8"}),
        ]
    )
    assert warnings == ()
    assert [merged.get(key) for key in ("core.remote", "core.jobs", "cache.dir", "core.hash")] == ["origin", 8, "/c", "blake3"]
    assert merged.sources["core.jobs"] == "environment DVCX_CORE_JOBS"
    assert merged.sources["core.remote"] == "config.toml"
    assert merged.remotes() == ("origin",)
    assert merged.remote("origin") == {"url": "/store", "profile": "p"}


def test_defaults() -> None:
    empty = Config()
    assert empty.get("cache.link") == ("reflink", "copy") and empty.get("core.lock_timeout") == 600
    assert empty.get("core.remote") is None and empty.get("remote.any.timeout") == 60
    assert empty.remotes() == ()
    with pytest.raises(UsageError):
        empty.get("core.nothing")


def test_an_unknown_remote_gets_a_suggestion() -> None:
    merged, _ = config.merge([Layer("f", COMMITTED, {"remote.origin.url": "/x", "remote.half.region": "eu"})])
    with pytest.raises(NotFound) as caught:
        merged.remote("orign")
    assert "origin" in caught.value.hint and caught.value.exit_code == 5
    with pytest.raises(NotFound):
        merged.remote("half")


PRIVATE_KEYS = sorted(key.replace("NAME", "origin") for key, row in KEYS.items() if not row.committed)


@pytest.mark.parametrize("key", PRIVATE_KEYS)
def test_a_committed_file_cannot_set_private_keys(key: str) -> None:
    merged, warnings = config.merge([Layer(".dvcx/config.toml", COMMITTED, {key: CANARY})])
    assert key not in merged.values
    (warning,) = warnings
    assert key in warning and "--local" in warning and CANARY not in warning


UNKNOWN = ["state.dir", "core.proxy", "remote.origin.credential_helper", "core.log_file", "cmd", "core", "remote.a.b.url"]


@pytest.mark.parametrize("key", UNKNOWN)
def test_unknown_keys_in_a_file_are_ignored_with_a_warning(key: str) -> None:
    for kind in (USER, COMMITTED, PRIVATE):
        merged, warnings = config.merge([Layer("file", kind, {key: CANARY})])
        assert not merged.values and len(warnings) == 1 and CANARY not in warnings[0]


@pytest.mark.parametrize("kind", [USER, PRIVATE, ENVIRONMENT])
def test_the_hash_is_the_projects(kind: str) -> None:
    merged, warnings = config.merge([Layer("file", kind, {"core.hash": "blake3"})])
    assert merged.get("core.hash") == "xxh128" and "init" in warnings[0]


def test_an_unusable_value_in_a_file_names_the_file() -> None:
    with pytest.raises(UsageError, match=r"config\.toml: cache\.link"):
        config.merge([Layer("config.toml", COMMITTED, {"cache.link": ["refink"]})])
    with pytest.raises(UsageError, match="DVCX_CORE_JOBS"):
        config.merge([Layer("environment", ENVIRONMENT, {"core.jobs": "many"})])


def test_the_environment() -> None:
    found, warnings = config.from_environment(
        {
            "DVCX_CORE_REMOTE": "a",
            "DVCX_CACHE_DIR": "/c",
            "DVCX_CORE_LOCK_TIMEOUT": "5",
            "DVCX_REMOTE_MY_STORE_URL": "/s",
            "DVCX_REMOTE_ORIGIN_SECRET_ACCESS_KEY": CANARY,
            "DVCX_REMOTE_NEW_ONE_ACCESS_KEY_ID": "id",
            "DVCX_CORE_JOBS": "",
            "DVCX_CORE_REMOT": CANARY,
            "DVCX_REMOTE_X_PASSWORD": CANARY,
            "DVCX_FAULT": "x",
            "PATH": "/bin",
        },
        ["My-Store", "origin"],
    )
    assert found == {
        "core.remote": "a",
        "cache.dir": "/c",
        "core.lock_timeout": "5",
        "remote.My-Store.url": "/s",
        "remote.origin.secret_access_key": CANARY,
        "remote.new_one.access_key_id": "id",
    }
    assert len(warnings) == 2 and "DVCX_CORE_REMOTE" in warnings[0] and CANARY not in "".join(warnings)


def test_no_repr_shows_a_value() -> None:
    layer = Layer("f", PRIVATE, {"remote.origin.url": "/s", "remote.origin.secret_access_key": CANARY})
    merged, _ = config.merge([layer])
    options = merged.remote("origin")
    assert options["secret_access_key"] == CANARY
    assert CANARY not in repr(layer) + repr(merged) + repr(options) + str(options) + f"{options}"


def test_shown() -> None:
    assert config.shown("cache.link", ("reflink", "copy")) == "reflink,copy"
    assert config.shown("core.autostage", False) == "false"
    assert config.shown("core.jobs", 3) == "3" and config.shown("core.remote", None) == ""
    for last in ("access_key_id", "secret_access_key", "session_token"):
        assert config.shown(f"remote.x.{last}", CANARY) == "****"


toml = st.recursive(
    st.one_of(st.text(max_size=5), st.booleans(), st.integers(), st.floats(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from([*"ab", "url", "x.y"]), inner, max_size=3)
    ),
    max_leaves=5,
)
keys = st.one_of(st.sampled_from([key.replace("NAME", "o") for key in KEYS]), st.text(max_size=12))


@given(st.dictionaries(keys, toml, max_size=4), st.sampled_from([USER, COMMITTED, PRIVATE]))
def test_any_values_merge_or_raise_our_error(values: dict[str, Any], kind: str) -> None:
    try:
        merged, warnings = config.merge([Layer("file", kind, values)])
    except DvcxError as error:
        assert error.message.isprintable()
        return
    assert all(config.find(key) for key in merged.values) and all(warning.isprintable() for warning in warnings)
    for key, value in merged.values.items():
        assert config.check_value(key, value, "again") == value
        if config.find(key).type in ("flag", "number", "choice", "choices", "name"):
            assert config.parse_value(key, config.shown(key, value)) == value


@given(st.dictionaries(st.sampled_from(["core", "cache", "remote", "x"]), toml, max_size=3))
def test_any_document_flattens(document: dict[str, Any]) -> None:
    assert all(isinstance(key, str) for key in config.flatten(document))


def test_a_committed_file_can_only_take_from_what_results_may_do() -> None:
    key = "remote.origin.actions"

    def effective(**given: str) -> str:
        layers = [
            Layer(kind, kind, {"remote.origin.url": "u", key: given[kind]} if kind in given else {})
            for kind in (USER, COMMITTED, PRIVATE, ENVIRONMENT)
        ]
        merged, warnings = config.merge(layers)
        assert warnings == ()
        return str(merged.get(key))

    assert effective() == "write"
    assert [effective(**{COMMITTED: value}) for value in ("off", "read", "write")] == ["off", "read", "write"]
    assert effective(**{ENVIRONMENT: "read", COMMITTED: "write"}) == "read"
    assert effective(**{PRIVATE: "off", COMMITTED: "write"}) == "off"
    assert effective(**{ENVIRONMENT: "write", COMMITTED: "read"}) == "read"
    assert effective(**{USER: "off", PRIVATE: "write", COMMITTED: "write"}) == "write"


def test_resources_have_any_name() -> None:
    layer = Layer("config.local.toml", PRIVATE, {"resources.licence": 2, "resources.gpu": 1, "resources.mem": 4096})
    merged, warnings = config.merge([layer])
    assert not warnings and merged.get("resources.licence") == 2 and merged.get("resources.other") is None
    _, warnings = config.merge([Layer("config.toml", COMMITTED, {"resources.gpu": 8})])
    assert "a committed file may not set it" in warnings[0]
    for key in ("resources.", "resources.a.b", "resources.2"):
        with pytest.raises(UsageError, match="unknown configuration key"):
            config.find(key)
