"""Parameters in a Python file: its literal assignments, read from the syntax tree. Nothing in the file is ever run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dvcx.errors import IntegrityError, UnsafeInput, display
from dvcx.io.yaml.reading import HINT, MAX_DEPTH, decode

if TYPE_CHECKING:
    import ast

# Python's parser takes over a second for more.
MAX_BYTES = 256 << 10


def load_python(data: bytes, where: str) -> dict[str, Any]:
    """The parameters in the Python file `where`: `lr = 0.1`, those of classes below their names, those of `self` in `__init__`.

    What is no literal (a call, a name) is passed over, as are functions and blocks. Raises `IntegrityError` for what is
    no Python and `UnsafeInput` for what is too large or too deep.
    """
    import ast

    if len(data) > MAX_BYTES:
        raise UnsafeInput(f"{display(where)}: larger than {MAX_BYTES >> 10} KiB", "keep so many values in JSON or YAML")
    text = decode(data, where).text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        return _values(tree.body, own=False)
    except SyntaxError as error:
        place = f":{error.lineno}:{error.offset or 1}" if error.lineno else ""
        raise IntegrityError(f"{display(where)}{place}: broken Python: {display(str(error.msg)[:200])}", HINT) from None
    except (RecursionError, MemoryError):
        raise UnsafeInput(f"{display(where)}: nested deeper than {MAX_DEPTH} levels", HINT) from None
    except ValueError as error:
        raise IntegrityError(f"{display(where)}: broken Python: {display(str(error)[:200])}", HINT) from None


def _values(body: list[ast.stmt], *, own: bool) -> dict[str, Any]:
    """The literal assignments of a block; with `own` those to attributes of `self`."""
    import ast

    found: dict[str, Any] = {}
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            found[statement.name] = _values(statement.body, own=False)
        elif isinstance(statement, ast.FunctionDef):
            if statement.name == "__init__":
                found.update(_values(statement.body, own=True))
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            found.update(_assigned(statement, own=own))
    return found


def _assigned(statement: ast.Assign | ast.AnnAssign, *, own: bool) -> Iterator[tuple[str, Any]]:
    import ast

    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if len(targets) != 1 or statement.value is None:
        return
    target, name = targets[0], ""
    if isinstance(target, ast.Name) and not own:
        name = target.id
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        name = target.attr
    if not name:
        return
    try:
        yield name, _plain(ast.literal_eval(statement.value))
    except (ValueError, TypeError):
        return


def _plain(value: Any) -> Any:
    """A literal as plain data: keys are text, tuples and sets are lists. Raises `ValueError` for bytes and the like."""
    if isinstance(value, dict):
        return {_key(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, set):
        return sorted((_plain(child) for child in value), key=lambda item: (str(type(item)), item))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
