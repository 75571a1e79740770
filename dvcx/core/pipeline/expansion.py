"""Expansion: a dvcx.yaml with templates, `foreach` and `matrix` becomes one with plain stages, each place remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Any, NamedTuple

from dvcx.core.documents import Document, Mark
from dvcx.core.globs import WILDCARD, fixed_part
from dvcx.core.paths import join, parent, relative, resolve
from dvcx.core.pipeline.checking import Place, check_keys, expect, field, kind, refused
from dvcx.core.pipeline.merging import Carry, Read, with_default, with_vars
from dvcx.core.pipeline.templating import (
    LOCAL,
    FileItem,
    FileText,
    Found,
    Problem,
    Scope,
    Style,
    below,
    fill,
    parse,
    templated,
    to_text,
)
from dvcx.errors import Conflict, DvcxError, UnsafeInput, UsageError, display

PARAMS_FILE = "params.yaml"
MAX_STAGES = 12_000
MAX_VALUES = 500_000
MAX_TEXT = 8 << 20
# Values that were carried from one scope into another.
MAX_CARRIED = 8_000_000
_MAX_NAME = 200
# Keys at the top whose values may hold templates.
_TOP = ("params", "metrics", "plots", "artifacts", "datasets")

Used = dict[str, dict[str, None]]


class Expanded(NamedTuple):
    """The document with plain stages, and for each stage the parameters (file, keys) that templates put into it.

    `maps` are the names of stages that are made for files, each with the wildcard that names those.
    `kept` are all containers that have marks: those go by identity, which is only theirs while they live.
    """

    document: Document
    used: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]
    kept: tuple[Any, ...]
    maps: tuple[tuple[str, str], ...]


def needed(document: Document) -> bool:
    """Whether there is anything to expand in a document."""
    top = document.value
    if not isinstance(top, dict) or "vars" in top:
        return isinstance(top, dict)
    stages = top.get("stages")
    bodies = list(stages.values()) if isinstance(stages, dict) else []
    if any(isinstance(body, dict) and not body.keys().isdisjoint(("vars", "foreach", "do", "matrix")) for body in bodies):
        return True
    todo: list[Any] = [top]
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            if id(value) not in seen:
                seen.add(id(value))
                todo += value
                todo += value.values() if isinstance(value, dict) else ()
        elif isinstance(value, str) and templated(value):
            return True
    return False


def expand(document: Document, file: str, read: Read, style: Style, known: tuple[str, ...]) -> Expanded:
    """The dvcx.yaml at `file` with every template filled. `known` are the keys a stage may have.

    Values come from params.yaml beside it and from `vars`; `read` gives those of a file. Raises `UsageError` for what
    cannot be filled, `Conflict` for two stages of one name and `UnsafeInput` for a result too large; all with the place.
    """
    return _Expansion(document, file, read, style, known).run()


class _Expansion:
    """One expansion: what it reads from, and what it has written so far. New containers share the marks of the old ones."""

    def __init__(self, document: Document, file: str, read: Read, style: Style, known: tuple[str, ...]) -> None:
        self.document = document
        self.base = parent(file)
        self.read = read
        self.style = style
        self.known = known
        self.marks: dict[int, Mapping[Any, Mark]] = {}
        self.kept: list[Any] = []
        self.values = self.text = self.carried = 0
        self.used: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
        self.maps: list[tuple[str, str]] = []

    def run(self) -> Expanded:
        top = self.document.value
        scope = with_default(Scope(), join(self.base, PARAMS_FILE), self.read)
        carry = self.carrier(("vars",))
        scope = with_vars(self.document, ("vars",), top.get("vars"), scope, self.base, self.read, carry)
        new = {key: value for key, value in top.items() if key != "vars"}
        self.mapping(new, top)
        for key in _TOP:
            if key in new:
                new[key] = self.fill((key,), new[key], scope, {}, whole=True).value
        if isinstance(new.get("stages"), dict):
            new["stages"] = self.stages(new["stages"], scope)
        return Expanded(Document(new, self.document.file, self.marks), self.used, tuple(self.kept), tuple(self.maps))

    def stages(self, stages: dict[str, Any], scope: Scope) -> dict[str, Any]:
        new: dict[str, Any] = {}
        marks: dict[Any, Mark] = {}
        self.mapping(new, None)
        self.marks[id(new)] = marks
        old_marks = self.document.marks.get(id(stages), {})
        for name, body in stages.items():
            for made, stage in self.of(("stages", name), name, body, scope):
                new[made] = stage
                if name in old_marks:
                    marks[made] = old_marks[name]
                if len(new) > MAX_STAGES:
                    raise self.too_many(("stages", name))
        return new

    def of(self, at: Place, name: str, body: Any, scope: Scope) -> Iterator[tuple[str, Any]]:
        """The stages, by name, that stand under `name`."""
        if not isinstance(body, dict) or not {"foreach", "do", "matrix"} & body.keys():
            yield name, self.stage(at, name, body, scope, ())
            return
        if "foreach" in body or "do" in body:
            expect(self.document, at, body, dict)
            check_keys(self.document, at, body, ("foreach", "do"))
            for key, other in (("foreach", "do"), ("do", "foreach")):
                if key not in body:
                    hint = "foreach: [a, b] and do: {cmd: …} go together"
                    raise refused(self.document, at, f" has '{other}' but no '{key}'", hint, value=False)
            template, place = body["do"], (*at, "do")
            expect(self.document, place, template, dict)
            items = self.items((*at, "foreach"), body["foreach"], scope, template)
        else:
            template, place = {key: value for key, value in body.items() if key != "matrix"}, at
            self.mapping(template, body)
            items = self.combinations((*at, "matrix"), body["matrix"], scope)
        allowed = tuple(key for key in self.known if key not in ("foreach", "do", "matrix"))
        check_keys(self.document, place, template, allowed)
        self.check((*place,), template)
        made: dict[str, Any] = {}
        for key, names in items:
            full = f"{name}@{key}"
            if full in made and not _equal(made[full], names):
                problem = f": two stages would be named '{display(full[:_MAX_NAME])}'"
                raise refused(self.document, at, problem, "give the items other values", value=False, kind=Conflict)
            made[full] = names
        for full, names in made.items():
            if len(full) > _MAX_NAME or not full.isprintable():
                hint = "use a mapping: its keys are the names, its values what ${item} stands for"
                raise refused(self.document, at, f": '{display(full[:80])}…' cannot name a stage", hint, value=False)
            self.carry(at, len(scope.values))
            inner = Scope(
                {**scope.values, **{key: found.value for key, found in names.items()}},
                {**scope.origins, **{key: found.trace for key, found in names.items()}},
                scope.loaded,
                tuple(names),
            )
            yield full, self.with_file(self.stage(place, full, template, inner, allowed), names)

    def with_file(self, stage: Any, names: Mapping[str, Found]) -> Any:
        """A stage of a map depends on its item, whether it says so or not."""
        item = names["item"].value
        if isinstance(item, FileItem):
            deps = stage.get("deps")
            if deps is None or (isinstance(deps, list) and item["path"] not in deps):
                stage["deps"] = self.mapping([*(deps or ()), str(item["path"])], deps)
        return stage

    def files(self, at: Place, written: str, template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Found]]]:
        """The items of a map: the files that match a wildcard, each with its path as seen from the stage's wdir."""
        where = f"{self.document.where(*at, value=True)}: {field(at)}"
        wdir = template.get("wdir", ".")
        if not isinstance(wdir, str) or templated(wdir):
            raise refused(self.document, at, " takes no wdir that is a template", "write the directory itself", value=False)
        pattern, base = resolve(self.base, written, where), resolve(self.base, wdir, where)
        begins = fixed_part(pattern)
        self.maps.append((str(at[1]), pattern))
        found = self.read(f"{WILDCARD}{pattern}") or {}
        for path in found.get("files", ()):
            key = path[len(begins) + 1 :] if begins else path
            yield key, {"item": Found(FileItem(relative(path, base)), LOCAL), "key": Found(FileText(key), LOCAL)}

    def items(
        self, at: Place, written: Any, scope: Scope, template: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, Found]]]:
        """What `foreach` goes through: the end of the stage's name, and the values of `item` and `key`."""
        found = self.fill(at, written, scope, {}, whole=True)
        value, trace = found
        if isinstance(value, str) and value.startswith(WILDCARD):
            yield from self.files(at, value.removeprefix(WILDCARD), template)
        elif isinstance(value, dict):
            for key in value:
                yield to_text(key), {"item": Found(value[key], below(trace, key)), "key": Found(key, LOCAL)}
        elif isinstance(value, list):
            several = any(isinstance(item, dict | list) for item in value)
            for number, item in enumerate(value):
                yield str(number) if several else to_text(item), {"item": Found(item, below(trace, number))}
        else:
            raise refused(
                self.document, at, f" must be a list or a mapping, not {kind(value)}", "for example: foreach: [small, large]"
            )

    def combinations(self, at: Place, written: Any, scope: Scope) -> Iterator[tuple[str, dict[str, Found]]]:
        """What `matrix` goes through: every combination of one value of each of its lists."""
        expect(self.document, at, written, dict)
        found = self.fill(at, written, scope, {}, whole=True)
        axes: list[list[tuple[str, Any, Any]]] = []
        for name, values in found.value.items():
            trace = below(found.trace, name)
            if isinstance(values, dict):
                values, trace = list(values), LOCAL
            if not isinstance(values, list):
                raise refused(self.document, (*at, name), f" must be a list, not {kind(values)}", f"for example: {name}: [a, b]")
            axes.append([(_fragment(name, number, value), value, below(trace, number)) for number, value in enumerate(values)])
        if prod(len(axis) for axis in axes) > MAX_STAGES:
            raise self.too_many(at)
        for chosen in product(*axes):
            key = "-".join(fragment for fragment, _, _ in chosen)
            values = {name: value for name, (_, value, _) in zip(found.value, chosen, strict=True)}
            traces = {name: trace for name, (_, _, trace) in zip(found.value, chosen, strict=True)}
            yield key, {"item": Found(values, traces), "key": Found(key, LOCAL)}

    def stage(self, at: Place, name: str, body: Any, scope: Scope, generated: tuple[str, ...]) -> Any:
        """One stage's mapping with its own `vars` read and its templates filled."""
        if not isinstance(body, dict):
            return body
        used: Used = {}
        if "vars" in body:
            wdir = self.fill((*at, "wdir"), body["wdir"], scope, {}, whole=False).value if "wdir" in body else "."
            expect(self.document, (*at, "wdir"), wdir, str)
            base = resolve(self.base, wdir, f"{self.document.where(*at, 'wdir', value=True)}: {field((*at, 'wdir'))}")
            carry = self.carrier((*at, "vars"))
            scope = with_vars(self.document, (*at, "vars"), body["vars"], scope, base, self.read, carry, name=f"{name}.vars")
        new = self.mapping({key: value for key, value in body.items() if key != "vars"}, body)
        for key, value in new.items():
            new[key] = self.fill((*at, key), value, scope, used, whole=False, command=key == "cmd", named=name).value
        if used:
            self.used[name] = tuple((file, tuple(keys)) for file, keys in used.items())
        return new

    def mapping(self, new: Any, old: Any) -> Any:
        """A new container that stands where `old` does."""
        self.kept.append(new)
        self.marks[id(new)] = self.marks.get(id(old)) or self.document.marks.get(id(old), {})
        return new

    def fill(
        self, at: Place, value: Any, scope: Scope, used: Used, *, whole: bool, command: bool = False, named: str = ""
    ) -> Found:
        """A value with every template in it filled, and where what is in it comes from."""
        self.count(at, value)
        if isinstance(value, str):
            if not templated(value):
                return Found(value, LOCAL)
            try:
                found = fill(scope, value, used, command=self.style if command else None, whole=whole)
            except Problem as problem:
                raise self.error(at, problem, named) from None
            self.count(at, found.value, deep=True)
            return found
        if isinstance(value, dict):
            new: dict[str, Any] = self.mapping({}, value)
            traces: dict[str, Any] = {}
            marks = dict(self.marks[id(new)])
            for key, child in value.items():
                name = self.key((*at, key), key, scope, used, named) if templated(key) else key
                if name in new:
                    twice = f": '{display(name[:80])}' is listed twice"
                    raise refused(self.document, (*at, key), twice, "remove one of the two", value=False)
                new[name], traces[name] = self.fill((*at, key), child, scope, used, whole=whole, command=command, named=named)
                if name != key and key in marks:
                    marks[name] = marks[key]
            if marks.keys() != self.marks[id(new)].keys():
                self.marks[id(new)] = marks
            return Found(new, traces)
        if isinstance(value, list):
            found_items = [
                self.fill((*at, number), child, scope, used, whole=whole, command=command, named=named)
                for number, child in enumerate(value)
            ]
            items = self.mapping([found.value for found in found_items], value)
            return Found(items, [found.trace for found in found_items])
        return Found(value, LOCAL)

    def key(self, at: Place, key: str, scope: Scope, used: Used, named: str) -> str:
        try:
            return to_text(fill(scope, key, used, command=None, whole=False).value)
        except Problem as problem:
            raise self.error(at, problem, named, value=False) from None

    def too_many(self, at: Place) -> DvcxError:
        problem = f": more than {MAX_STAGES:,} stages"
        return refused(self.document, at, problem, "let one stage do the work of several", kind=UnsafeInput)

    def check(self, at: Place, value: Any) -> None:
        """Refuse templates in `value` that cannot be read, even where no stage comes of them."""
        todo: list[tuple[Place, Any]] = [(at, value)]
        while todo:
            place, value = todo.pop()
            inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            todo += [((*place, key), child) for key, child in inner]
            if isinstance(value, str) and templated(value):
                try:
                    parse(value)
                except Problem as problem:
                    raise self.error(place, problem, "") from None

    def error(self, at: Place, problem: Problem, named: str, *, value: bool = True) -> DvcxError:
        whose = f"stage '{display(named[:_MAX_NAME])}': " if "@" in named else ""
        where = self.document.where(*at, value=value)
        return UsageError(f"{where}: {whose}{field(at)}: {display(problem.message)}", display(problem.hint))

    def carrier(self, at: Place) -> Carry:
        """What counts the values that are joined: fifty times the work of those that are only copied."""
        return lambda count: self.carry(at, 50 * count)

    def carry(self, at: Place, count: int) -> None:
        self.carried += count
        if self.carried > MAX_CARRIED:
            raise self.too_much(at)

    def too_much(self, at: Place) -> DvcxError:
        hint = "let fewer stages come of it, or keep the values in a file that the stage reads"
        return refused(self.document, at, ": too much comes of the templates up to here", hint, kind=UnsafeInput)

    def count(self, at: Place, value: Any, *, deep: bool = False) -> None:
        """Count what was written, so that a small file cannot become gigabytes."""
        todo = [value]
        while todo:
            value = todo.pop()
            self.values += 1
            if isinstance(value, str):
                self.text += len(value)
            elif deep and isinstance(value, dict | list):
                todo += value.values() if isinstance(value, dict) else value
            if self.values > MAX_VALUES or self.text > MAX_TEXT:
                raise self.too_much(at)


def _fragment(name: str, number: int, value: Any) -> str:
    return f"{name}{number}" if isinstance(value, dict | list) else to_text(value)


def _equal(one: Mapping[str, Found], other: Mapping[str, Found]) -> bool:
    return all(type(one[key].value) is type(other[key].value) and one[key].value == other[key].value for key in one)
