"""Results of actions, and requests to run them, in a store: read with every doubt, written without replacing what is there."""

from __future__ import annotations

from typing import NamedTuple

from dvcx.core.records import (
    MAX_ACTION,
    Action,
    Asked,
    action_part,
    decode_action,
    decode_asked,
    encode_action,
    encode_asked,
)
from dvcx.errors import IntegrityError, NotFound, UnsafeInput
from dvcx.io.hashing import seal
from dvcx.io.store.backend import Backend
from dvcx.io.store.store import action_name, request_name


class Kept(NamedTuple):
    """What a store holds for a key after something was to be kept there; `own`: it is what was handed in."""

    action: Action
    own: bool


def read_action(backend: Backend, key: str, label: str) -> Action | None:
    """The result of an action, None when the store has none.

    Raises `IntegrityError` or `UnsafeInput` for a record that is malformed, too large, or of another key.
    """
    data = _read(backend, action_name(key), label)
    if data is None:
        return None
    action = decode_action(data, f"{label}: {action_name(key)}")
    if action.key != key:
        raise IntegrityError(f"{label}: {action_name(key)}: it is the result of another action", "remove it from the store")
    return action


def keep_action(backend: Backend, action: Action, label: str) -> Kept:
    """Keep a result unless there is another one of the same action, which stays; a broken one is replaced."""
    try:
        there = read_action(backend, action.key, label)
    except (IntegrityError, UnsafeInput):
        there = None
    if there is not None and there.outs != action.outs:
        return Kept(there, False)
    if there is None:
        write_action(backend, action)
    return Kept(action, True)


def write_action(backend: Backend, action: Action) -> None:
    """Write a result; what it names must be durable by now."""
    backend.write(action_name(action.key), encode_action(action))


def read_request(backend: Backend, key: str, label: str) -> Asked:
    """A request; its bytes prove the action. Raises `NotFound`, `IntegrityError`, `UnsafeInput`."""
    name = request_name(key)
    data = _read(backend, name, label)
    if data is None:
        raise NotFound(f"{label} holds no request of the action {key}", "make it: dvcx exec-action --request STAGE --remote NAME")
    if seal(action_part(data)).hex() != key:
        raise IntegrityError(f"{label}: {name}: its key is not the digest of its bytes", "remove it, and make the request again")
    return decode_asked(data, f"{label}: {name}")


def write_request(backend: Backend, asked: Asked) -> str:
    """Write a request; its key. Terms may be others than those of an earlier one."""
    data = encode_asked(asked)
    key = seal(action_part(data)).hex()
    backend.write(request_name(key), data)
    return key


def _read(backend: Backend, name: str, label: str) -> bytes | None:
    """The bytes of a record of at most `MAX_ACTION` bytes, None when it is absent; what is longer is refused on the way."""
    try:
        return b"".join(backend.stream(name, MAX_ACTION))
    except NotFound:
        return None
