"""Configuration: the one list of keys, what their values may be, and which layer wins. Values only; no file is read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dvcx.core.objects import ALGORITHMS
from dvcx.errors import NotFound, UsageError, display

LINKS = ("reflink", "hardlink", "symlink", "copy")
ACTIONS = ("off", "read", "write")
REMOTE_NAME_AT_MOST = 64

USER, COMMITTED, PRIVATE, ENVIRONMENT = "user", "committed", "private", "environment"


class Key(NamedTuple):
    """One row of the list. `type` is text, name, url, flag, number, choice or choices; `secret` values are never shown."""

    type: str
    committed: bool
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    secret: bool = False
    project_only: bool = False
    lowers: bool = False
    """`choices` go from the least to the most, which is the default; a committed file can only take less than that."""


# Every key there is; docs/format.md, "Configuration", describes the same rows. NAME stands for a remote's name.
KEYS: dict[str, Key] = {
    "core.hash": Key(
        "choice", True, "xxh128", "algorithm of ids; fixed by init", tuple(ALGORITHMS), project_only=True
    ),
    "core.remote": Key("name", True, None, "default remote"),
    "core.autostage": Key("flag", True, True, "git add pointers, locks, ignore files and settings"),
    "cache.link": Key("choices", True, ("reflink", "copy"), "how files are placed, first that works", LINKS),
    "cache.pack": Key("choice", True, "auto", "whether small objects are packed", ("auto", "never")),
    "cache.shared": Key("flag", True, False, "the cache is shared by several users: group-writable is accepted"),
    "parsing.bool": Key(
        "choice", True, "store_true", "how false becomes an option in a command", ("store_true", "boolean_optional")
    ),
    "parsing.list": Key("choice", True, "nargs", "how a list becomes options in a command", ("nargs", "append")),
    "remote.NAME.url": Key("url", True, None, "where the store is"),
    "remote.NAME.region": Key("text", True, None, "S3 region"),
    "remote.NAME.actions": Key(
        "choice", True, "write", "results of stages: off, looked up there (read), also sent (write)", ACTIONS, lowers=True
    ),
    "remote.NAME.gc": Key("flag", True, False, "no other project uses the remote: dvcx gc --remote may collect it"),
    "cache.dir": Key("text", False, ".dvcx/cache", "where the cache is"),
    "core.fsync": Key("choice", False, "batch", "how hard files are pushed to the disk", ("full", "batch", "none")),
    "core.runner": Key("choice", False, "here", "where repro runs stages: here, or by a runner: local", ("here", "local")),
    "core.jobs": Key("number", False, 0, "threads for transfer; 0: cores, at most 16"),
    "core.lock_timeout": Key("number", False, 600, "seconds to wait for another dvcx"),
    "resources.NAME": Key("number", False, None, "what stages share on this machine: gpu, mem (in MiB), or a token of yours"),
    "remote.NAME.endpoint": Key("url", False, None, "URL of an S3-compatible server"),
    "remote.NAME.profile": Key("text", False, None, "profile in ~/.aws"),
    "remote.NAME.access_key_id": Key("text", False, None, "credential", secret=True),
    "remote.NAME.secret_access_key": Key("text", False, None, "credential", secret=True),
    "remote.NAME.session_token": Key("text", False, None, "credential", secret=True),
    "remote.NAME.compression": Key("choice", False, None, "how packs sent there are stored", ("zstd", "none")),
    "remote.NAME.timeout": Key("number", False, 60, "seconds without progress before a transfer fails"),
}
_REMOTE_KEYS = tuple(key[len("remote.NAME.") :] for key in KEYS if key.startswith("remote.NAME."))
_LARGEST = 1_000_000
_NONE: Mapping[str, Any] = MappingProxyType({})


class Layer(NamedTuple):
    """The settings of one source: `kind` is user, committed, private or environment; `values` by flat key, as they were read."""

    source: str
    kind: str
    values: Mapping[str, Any]

    def __repr__(self) -> str:
        """Without values: some are secret."""
        return f"Layer(source={self.source!r}, kind={self.kind!r})"


class Config(NamedTuple):
    """All settings that were made, by flat key ("core.remote"), and where each comes from. Its repr shows no value."""

    values: Mapping[str, Any] = _NONE
    sources: Mapping[str, str] = _NONE

    def __repr__(self) -> str:
        return f"Config(sources={self.sources!r})"

    def get(self, key: str) -> Any:
        """The value of a key, else its default (None when it has none)."""
        return self.values[key] if key in self.values else find(key).default

    def remotes(self) -> tuple[str, ...]:
        """Names of the remotes that have a url, sorted."""
        return tuple(sorted(key.split(".")[1] for key in self.values if key.startswith("remote.") and key.endswith(".url")))

    def remote(self, name: str) -> Mapping[str, str]:
        """What is set for one remote ("url" and options), as text. Raises `NotFound`."""
        prefix = f"remote.{name}."
        if f"{prefix}url" not in self.values:
            close = _closest(name, self.remotes())
            there = f"there is: {', '.join(self.remotes())}; " if self.remotes() else ""
            known = f"did you mean '{close}'? " if close else there
            raise NotFound(f"no remote '{display(name)}'", f"{known}add one: dvcx remote add NAME URL")
        return Options({key[len(prefix) :]: str(value) for key, value in self.values.items() if key.startswith(prefix)})


class Options(dict[str, str]):
    """A remote's options. A dict whose repr names its keys only, so that no trace shows a credential."""

    def __repr__(self) -> str:
        return f"Options({', '.join(self)})"


def find(key: str) -> Key:
    """The row of a key such as "core.remote" or "remote.origin.url". Raises `UsageError` with a "did you mean"."""
    row = KEYS.get(key)
    if row is not None and not key.startswith(("remote.", "resources.")):
        return row
    section, _, rest = key.partition(".")
    name, _, last = rest.rpartition(".")
    if section == "remote" and name:
        row = KEYS.get(f"remote.NAME.{last}")
        if row is not None:
            check_remote_name(name)
            return row
    if section == "resources" and rest.replace("-", "_").isidentifier() and len(rest) <= REMOTE_NAME_AT_MOST:
        return KEYS["resources.NAME"]
    raise UsageError(f"unknown configuration key '{display(key[:100])}'", _suggest(key))


def check_remote_name(name: str) -> str:
    """`name` if a remote may be called that (letters, digits, - and _), else `UsageError`."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if plain and not name.startswith("-") and len(name) <= REMOTE_NAME_AT_MOST:
        return name
    raise UsageError(
        f"not a name for a remote: '{display(name[:100])}'",
        "use letters, digits, '-' and '_', such as: dvcx remote add origin URL",
    )


def parse_value(key: str, text: str, *, where: str = "") -> Any:
    """The value of `key` from the text a user typed or a variable holds; lists are separated by commas.

    Raises `UsageError` naming `where` (default: the key), without repeating a secret.
    """
    row = find(key)
    where = where or key
    text = text.strip()
    if row.type == "flag":
        lowered = text.lower()
        if lowered in ("true", "yes", "on", "1"):
            return True
        if lowered in ("false", "no", "off", "0"):
            return False
    elif row.type == "number":
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return check_value(key, int(text), where)
    elif row.type == "choices":
        return check_value(key, [part.strip() for part in text.split(",")], where)
    else:
        return check_value(key, text, where)
    raise _bad_value(row, key, where, text)


def check_value(key: str, value: object, where: str) -> Any:
    """`value` if `key` may have it (a list as a tuple), else `UsageError` naming `where`."""
    row = find(key)
    if row.type == "flag" and isinstance(value, bool):
        return value
    if row.type == "number" and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    if row.type == "choice" and value in row.choices and isinstance(value, str):
        return value
    if row.type == "choices":
        given = [value] if isinstance(value, str) else value
        if isinstance(given, (list, tuple)) and given and all(isinstance(part, str) and part in row.choices for part in given):
            return tuple(dict.fromkeys(given))
    if row.type in ("text", "name", "url") and isinstance(value, str) and value and not _has_control(value):
        if row.type == "name":
            return check_remote_name(value)
        if row.type == "url" and has_password(value):
            section = where if where == key else f"{where}: {key}"
            raise UsageError(
                f"{section}: the URL holds a password or key",
                "leave it out of the URL; put it in the private file: "
                f"dvcx remote modify --local {key.split('.')[1]} secret_access_key VALUE",
            )
        return value
    raise _bad_value(row, key, where, value)


def has_password(url: str) -> bool:
    """Whether a URL carries a secret: user:password@, a token before @ of a web address, or a signature in its query."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return False
    place, _, query = rest.partition("?")
    authority = place.partition("/")[0]
    user, at, _ = authority.rpartition("@")
    if at and (":" in user or scheme.lower() in ("http", "https", "s3", "gs")):
        return True
    if not at and "@" in place and ":" in authority and not authority.rpartition(":")[2].isdecimal():
        # A secret key may hold a slash: s3://KEY:SEC/RET@bucket.
        return True
    names = [part.partition("=")[0].lower() for part in query.replace(";", "&").split("&") if "=" in part]
    return any(word in name for name in names for word in ("sig", "token", "secret", "password", "credential", "access_key"))


def merge(layers: Sequence[Layer]) -> tuple[Config, tuple[str, ...]]:
    """One configuration from layers, the weakest first, and warnings about what was passed over.

    Unknown keys, and keys a layer may not set, are ignored with a warning; so a committed file never sets a directory or
    a credential. Of a key that `lowers` the committed value counts only where it is less than what holds
    without it. A known key with an unusable value raises `UsageError` naming the source.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    warnings: list[str] = []
    lowered: dict[str, tuple[Any, str]] = {}
    for layer in layers:
        for key, value in layer.values.items():
            try:
                row = find(key)
            except UsageError as error:
                warnings.append(f"{layer.source}: {error.message} is ignored; {error.hint}")
                continue
            if layer.kind == COMMITTED and not row.committed:
                warnings.append(
                    f"{layer.source}: '{key}' is ignored: a committed file may not set it; "
                    f"use: dvcx config set --local {key} VALUE"
                )
            elif row.project_only and layer.kind != COMMITTED:
                warnings.append(f"{layer.source}: '{key}' is ignored: it is fixed by dvcx init")
            elif row.lowers and layer.kind == COMMITTED:
                lowered[key] = check_value(key, value, layer.source), layer.source
            elif layer.kind == ENVIRONMENT:
                values[key] = parse_value(key, value, where=f"{layer.source} {variable(key)}")
                sources[key] = f"{layer.source} {variable(key)}"
            else:
                values[key] = check_value(key, value, layer.source)
                sources[key] = layer.source
    for key, (value, source) in lowered.items():
        rank = find(key).choices.index
        if rank(value) < rank(values.get(key, find(key).default)) or key not in values:
            values[key], sources[key] = value, source
    return Config(values, sources), tuple(warnings)


def from_environment(environ: Mapping[str, str], remotes: Iterable[str] = ()) -> tuple[dict[str, str], tuple[str, ...]]:
    """Settings in DVCX_* variables, by flat key, and warnings. `remotes` are the names known from files.

    DVCX_REMOTE_MY_STORE_URL belongs to the known remote whose name in capitals, with _ for -, is MY_STORE; else to a new
    one, my_store.
    """
    found: dict[str, str] = {}
    warnings: list[str] = []
    known = {_capitals(name): name for name in remotes}
    for name in sorted(environ):
        if not name.startswith(("DVCX_CORE_", "DVCX_CACHE_", "DVCX_REMOTE_")) or not environ[name]:
            continue
        key = _key_of(name, known)
        if key:
            found[key] = environ[name]
        else:
            close = _closest(name, [variable(key) for key in KEYS if "NAME" not in key])
            hint = f"; did you mean {close}?" if close else ""
            warnings.append(f"environment: {display(name)} is ignored: no such setting{hint}")
    return found, tuple(warnings)


def variable(key: str) -> str:
    """The environment variable that sets a key."""
    return "DVCX_" + _capitals(key).replace(".", "_")


def flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    """A TOML document as flat keys: {"core": {"remote": "x"}} as {"core.remote": "x"}. Deeper than three levels stays a value."""
    flat: dict[str, Any] = {}
    for section, body in document.items():
        if not isinstance(body, Mapping):
            flat[section] = body
            continue
        for name, value in body.items():
            if section == "remote" and isinstance(value, Mapping):
                flat.update({f"{section}.{name}.{key}": setting for key, setting in value.items()})
            else:
                flat[f"{section}.{name}"] = value
    return flat


def shown(key: str, value: Any) -> str:
    """A value as text for people and scripts: lists with commas, flags as true and false, a secret as stars."""
    if find(key).secret:
        return "****"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return "" if value is None else str(value)


def _key_of(name: str, known: Mapping[str, str]) -> str:
    rest = name[len("DVCX_") :]
    if not rest.startswith("REMOTE_"):
        section, _, last = rest.partition("_")
        key = f"{section}.{last}".lower()
        return key if key in KEYS else ""
    rest = rest[len("REMOTE_") :]
    # Longest first: secret_access_key before anything that ends like it.
    for last in sorted(_REMOTE_KEYS, key=len, reverse=True):
        owner, mark, _ = rest.rpartition("_" + last.upper())
        if mark and owner and rest.endswith(mark):
            return f"remote.{known.get(owner, owner.lower())}.{last}"
    return ""


def _capitals(name: str) -> str:
    return name.upper().replace("-", "_")


def _bad_value(row: Key, key: str, where: str, value: object) -> UsageError:
    given = "" if row.secret or row.type == "url" else f" {_short(value)}"
    place = key if where == key else f"{where}: {key}"
    wanted = {
        "flag": "true or false",
        "number": f"a whole number from 0 to {_LARGEST}",
        "choice": "one of " + ", ".join(row.choices),
        "choices": "some of " + ", ".join(row.choices) + ", separated by commas",
    }.get(row.type, "a text that is not empty")
    close = _closest(value, row.choices) if isinstance(value, str) and row.choices else ""
    hint = f"did you mean '{close}'? " if close else ""
    default = f"; the default is {shown(key, row.default)}" if row.default is not None else ""
    return UsageError(f"{place}: not usable:{given}" if given else f"{place}: not usable", f"{hint}it must be {wanted}{default}")


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    text = display(value) if isinstance(value, str) else type(value).__name__ if isinstance(value, (dict, list)) else str(value)
    return f"'{text[:60]}'"


def _suggest(key: str) -> str:
    section, _, rest = key.partition(".")
    name, _, last = rest.rpartition(".")
    if section == "remote" and name:
        close = _closest(last, _REMOTE_KEYS)
        return f"did you mean remote.{display(name)}.{close}?" if close else f"a remote has: {', '.join(_REMOTE_KEYS)}"
    close = _closest(key, [key for key in KEYS if "NAME" not in key])
    if not close:
        close = next((known for known in KEYS if known.partition(".")[2] == key), "")
    return f"did you mean {close}?" if close else f"the keys are: {', '.join(KEYS)}"


def _closest(word: str, known: Iterable[str]) -> str:
    import difflib

    return "".join(difflib.get_close_matches(word[:100], list(known), 1, 0.6))


def _has_control(text: str) -> bool:
    return any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in text)
