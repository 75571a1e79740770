"""What a Python file imports of its own project, and what its code says apart from comments and layout. Nothing is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dvcx.core.paths import join, parent

if TYPE_CHECKING:
    import ast

MAX_FILES = 10_000
"""No program imports so many modules of its own; whoever walks further walks in a circle of links."""

# Fields that say how something was written, not what it is.
_LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_LINE = re.compile(r"^[ \t]*(?:from[ \t]+(\.*)[ \t]*([\w.]*)[ \t]+import[ \t]+\(?([^#\n]*)|import[ \t]+([^#\n;]+))", re.MULTILINE)


class Import(NamedTuple):
    """One import: `module` after `level` dots (0: absolute), and the names taken from it (`*` for all it exports)."""

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


class Code(NamedTuple):
    """A Python file as far as other files can depend on it.

    `text` is canonical: the same for sources that differ in comments, layout, quotes and parentheses alone; "" for what this
    Python cannot parse, which is to be compared by its bytes. `exports` is `__all__`, where it is written out.
    """

    text: str
    imports: tuple[Import, ...]
    exports: tuple[str, ...] = ()


def read_code(source: bytes) -> Code:
    """A Python file from its bytes. What cannot be parsed is searched for import statements line by line."""
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        return Code(canonical_code(tree), tuple(dict.fromkeys(_imports(tree))), _exports(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Code("", tuple(dict.fromkeys(_by_line(source.decode("utf-8", "replace")))))


def canonical_code(tree: ast.AST) -> str:
    """A syntax tree as text without places and layout; docstrings are kept, because programs can read them.

    Only what is there is written, fields by name, so that Pythons whose trees have other optional fields agree.
    """
    import ast

    parts: list[str] = []
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, ast.Constant):
            parts.append(f"={_constant(node.value)}\n")
        elif isinstance(node, ast.AST):
            parts.append(f"({type(node).__name__}\n")
            todo.append(")\n")
            for name in sorted(node._fields, reverse=True):
                value = getattr(node, name, None)
                if isinstance(node, ast.JoinedStr):
                    # Pythons disagree on empty pieces of text in an f-string.
                    value = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
                if name not in _LAYOUT and value is not None and value != []:
                    todo += (value if not isinstance(value, str) else f"={_constant(value)}\n", f".{name}\n")
        elif isinstance(node, list):
            parts.append("[\n")
            todo.append("]\n")
            todo += reversed([f"={_constant(item)}\n" if isinstance(item, str) else item for item in node])
        else:
            parts.append(f"={_constant(node)}\n")
    return "".join(parts)


def closure(start: str, roots: Sequence[str], code: Callable[[str], Code | None]) -> tuple[str, ...]:
    """The project paths of `start` and of every local module it imports, and those import, sorted.

    `roots` are the directories modules are found in, the first that has one wins; `code` reads a file, None where there is
    none. `start` may be a directory: a package that is run with -m. Raises `RecursionError` past `MAX_FILES`.
    """
    known: dict[str, Code | None] = {}

    def get(path: str) -> Code | None:
        if path not in known:
            known[path] = code(path)
        return known[path]

    first = start if get(start) is not None else _first([join(start, "__main__.py"), join(start, "__init__.py")], get)
    if not first:
        return ()
    found: dict[str, None] = {}
    todo = [first]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found[path] = None
        if len(found) > MAX_FILES:
            raise RecursionError
        read = get(path)
        for one in read.imports if read is not None else ():
            todo += [module for module in _resolve(path, one, roots, get) if module not in found]
    return tuple(sorted(found))


def search_roots(script: str, wdir: str, packages: Callable[[str], bool]) -> tuple[str, ...]:
    """Where modules of `script` are looked for: beside it, where its top package lies, the stage's wdir, the project, its src.

    `packages` says whether a directory is a package (has an `__init__.py`).
    """
    above = parent(script)
    top = above
    while top and packages(top):
        top = parent(top)
    return tuple(dict.fromkeys((above, top, wdir, "", "src")))


def dump_code(codes: Mapping[str, Code]) -> list[Any]:
    """Code by any key, as JSON: a memory."""
    return [[key, code.text, code.imports, code.exports] for key, code in codes.items()]


def load_code(rows: Any) -> dict[str, Code]:
    """What `dump_code` gave; raises `ValueError` or `TypeError` for anything else."""
    found = {}
    for key, text, imports, exports in rows:
        taken = tuple(Import(str(module), int(level), tuple(map(str, names))) for module, level, names in imports)
        found[str(key)] = Code(str(text), taken, tuple(map(str, exports)))
    return found


def _constant(value: object) -> str:
    # Very long numbers have no decimal text in Python.
    return f"int {value:x}" if type(value) is int else f"{type(value).__name__} {value!r}"


def _imports(tree: ast.AST) -> Iterator[Import]:
    import ast

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", node.level, tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
                name = first.value.lstrip(".")
                level = len(first.value) - len(name)
                yield Import(name, level) if name or not level else Import("", level)


def _exports(tree: ast.Module) -> tuple[str, ...]:
    import ast

    found: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = getattr(node, "value", None)
            items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
            found += [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return tuple(found)


def _by_line(text: str) -> Iterator[Import]:
    for dots, module, names, plain in _LINE.findall(text):
        if plain:
            for name in plain.split(","):
                word = name.split()[0] if name.split() else ""
                if word.replace(".", "").isidentifier():
                    yield Import(word)
        else:
            taken = [name.split()[0] for name in names.strip(" ()\t\r\\").split(",") if name.split()]
            yield Import(module, len(dots), tuple(name for name in taken if name == "*" or name.isidentifier()))


def _resolve(path: str, one: Import, roots: Sequence[str], get: Callable[[str], Code | None]) -> list[str]:
    """The local files an import in the file `path` runs: packages on the way, the module, and modules among the names."""
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in one.module.split(".")) and one.module:
        return []
    if one.level:
        base: str | None = parent(path)
        for _ in range(one.level - 1):
            base = parent(base) if base else None
        if base is None:
            return []
        return [*_packages(base, get), *_walk(base, one, get)]
    for root in roots:
        found = _walk(root, one, get)
        if found:
            return found
    return []


def _packages(directory: str, get: Callable[[str], Code | None]) -> list[str]:
    """The `__init__.py` of a package and of those around it."""
    found = []
    while directory and get(join(directory, "__init__.py")) is not None:
        found.append(join(directory, "__init__.py"))
        directory = parent(directory)
    return found


def _walk(root: str, one: Import, get: Callable[[str], Code | None]) -> list[str]:
    """The files of `one` as seen from the directory `root`. A directory without `__init__.py` is a namespace package."""
    found: list[str] = []
    here = root
    for step in one.module.split(".") if one.module else ():
        here = join(here, step)
        file = _module(here, get)
        if file:
            found.append(file)
        if file == f"{here}.py":
            return found
    wanted: Iterable[str] = one.names
    if "*" in one.names:
        package = get(join(here, "__init__.py"))
        wanted = package.exports if package is not None else ()
    for name in wanted:
        file = _module(join(here, name), get)
        if file:
            found.append(file)
    return found


def _module(path: str, get: Callable[[str], Code | None]) -> str:
    return _first([join(path, "__init__.py"), f"{path}.py"], get)


def _first(paths: Iterable[str], get: Callable[[str], Code | None]) -> str:
    return next((path for path in paths if get(path) is not None), "")
