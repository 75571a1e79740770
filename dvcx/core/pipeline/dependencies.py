"""Dependencies that are no plain path: wildcards, import closures, other stages, data sets. What they mean for the graph and
the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dvcx.core.globs import Globs, fixed_part
from dvcx.core.paths import contains, parent, path_problem, resolve
from dvcx.core.pipeline.schema import DATASET, FILE_NAME, PARAMS_FILE, Dataset, Stage, Want, address
from dvcx.core.records import is_record
from dvcx.core.spelling import did_you_mean
from dvcx.errors import Conflict, NotFound, UnsafeInput, display

GLOB, CODE, STAGE, EXTERNAL, SET = "glob", "py", "stage", "external", "dataset"
PASSED_OVER = frozenset({".git", ".dvcx", "__pycache__"})
"""Directories whose files no wildcard names: they change whenever something runs."""


def spec(want: Want) -> str:
    """A dependency as reasons and records name it: `glob:src/**/*.py`."""
    return f"{want.kind}:{want.value}"


def files_wanted(stage: Stage) -> tuple[Want, ...]:
    """Those dependencies of a stage that stand for files nobody listed."""
    return tuple(want for want in stage.wants if want.kind in (GLOB, CODE))


def externals(stage: Stage) -> tuple[Want, ...]:
    """The inputs of a stage that lie outside the project."""
    return tuple(want for want in stage.wants if want.kind == EXTERNAL)


def condition_files(stage: Stage) -> list[str]:
    """The params files that a stage's `when` reads, as paths of the project."""
    if not stage.when:
        return []
    # Few stages have any; the others do not pay for them.
    from dvcx.core.pipeline.conditions import files_of, parse_condition

    found: list[str] = []
    for text in stage.when:
        where = condition_place(stage, text)
        found += [resolve(stage.wdir, file or PARAMS_FILE, where) for file in files_of(parse_condition(text, where))]
    return found


def condition_place(stage: Stage, text: str) -> str:
    """Where a condition is written, for messages."""
    return f"{stage.told(text)}: when"


def settled(stages: Sequence[Stage], datasets: Iterable[Dataset], root: str) -> tuple[Stage, ...]:
    """Stages whose data sets are what `datasets` say, and whose external paths that do lie in the project are plain dependencies.

    `root` is the project's, an absolute path. Raises `NotFound` for a data set nobody lists, `Conflict` for one that is listed
    in different ways, and `UnsafeInput`; all name file and line.
    """
    if not any(want.kind in (EXTERNAL, SET) for stage in stages for want in stage.wants):
        return tuple(stages)
    known: dict[str, list[Dataset]] = {}
    for one in datasets:
        known.setdefault(one.name, []).append(one)
    return tuple(_settled(stage, known, root) for stage in stages)


def link(stages: Sequence[Stage], maps: Iterable[str] = ()) -> tuple[Stage, ...]:
    """Stages whose `stage:` dependencies are the outputs of the stages they name, as `deps`.

    `maps` are addresses that stand for a stage for every file, even when there is no such file yet. Raises `NotFound`, naming
    file and line, for a stage that does not exist.
    """
    if not any(want.kind == STAGE for stage in stages for want in stage.wants):
        return tuple(stages)
    known = {stage.address: stage for stage in stages}
    groups: dict[str, list[Stage]] = {name: [] for name in maps}
    for stage in stages:
        if stage.group:
            groups.setdefault(_group(stage), []).append(stage)
    return tuple(_linked(stage, known, groups) for stage in stages)


def needs(stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """The addresses a stage names as dependencies, with or without outputs; groups stand for all their stages."""
    found = []
    for want in stage.wants:
        if want.kind == STAGE:
            if want.value in stages:
                found.append(want.value)
            else:
                found += [name for name, other in stages.items() if other.group and _group(other) == want.value]
    return found


def reads_output(want: Want, path: str) -> bool:
    """Whether the wildcard of `want` takes in the output `path` of another stage, or something in it.

    A wildcard that begins with `**` names outputs that match it, but does not look into directories that stages write.
    """
    globs = Globs([want.value])
    return globs.names(path) or (globs.leads(path) and not want.value.startswith("**"))


def near(pattern: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Those `paths` that lie in, or around, the directory a wildcard begins in: no others can matter to it."""
    begins = fixed_part(pattern)
    return tuple(path for path in paths if contains(begins, path) or contains(path, begins))


def not_read(stage: Stage, want: Want, outputs: Iterable[str]) -> tuple[str, ...]:
    """Those `outputs` (of all stages) that a stage's wildcard passes over: its own, and directories it does not look into."""
    own = {out.path for out in stage.outs}
    return tuple(sorted(path for path in near(want.value, outputs) if path in own or not reads_output(want, path)))


def may_match(path: str) -> bool:
    """Whether a wildcard may name the file `path`: files that dvcx writes and what is in `PASSED_OVER` it never does."""
    return not is_record(path) and path.rpartition("/")[2] != ".gitignore" and PASSED_OVER.isdisjoint(path.split("/"))


def _group(stage: Stage) -> str:
    return address(stage.file, stage.group)


def _linked(stage: Stage, known: Mapping[str, Stage], groups: Mapping[str, Sequence[Stage]]) -> Stage:
    deps = dict.fromkeys(stage.deps)
    optional = dict.fromkeys(stage.optional)
    for want in stage.wants:
        if want.kind != STAGE:
            continue
        meant = [known[want.value]] if want.value in known else groups.get(want.value)
        if meant is None and not want.optional:
            name = want.value if stage.file == FILE_NAME else want.value.removeprefix(f"{stage.file}:")
            raise NotFound(
                f"{stage.told(want.value)}: there is no stage '{display(name)}' to depend on",
                did_you_mean(want.value, [*known, *groups]) or "dvcx stage list shows them all",
            )
        for other in meant or ():
            for out in other.outs:
                deps.setdefault(out.path)
                if want.optional and out.path not in stage.deps:
                    optional.setdefault(out.path)
    return stage._replace(deps=tuple(deps), optional=tuple(optional))


def _settled(stage: Stage, known: Mapping[str, Sequence[Dataset]], root: str) -> Stage:
    import posixpath

    from dvcx.core.pipeline.externals import is_url

    own, outs, read, files, wanted, when = stage.places.split("|") if stage.places else [""] * 6
    places = wanted.split(" ") if wanted else [""] * len(stage.wants)
    deps = dict(zip(stage.deps, read.split(" ") if read else [""] * len(stage.deps), strict=True))
    wants, optional = dict[Want, str](), dict.fromkeys(stage.optional)
    for want, place in zip(stage.wants, places, strict=True):
        meant = _of_dataset(stage, want, known) if want.kind == SET else want
        path = posixpath.normpath(posixpath.join(root, meant.value))
        if meant.kind != EXTERNAL or meant.pinned or is_url(meant.value) or not contains(root, path):
            wants.setdefault(meant, place)
            continue
        name = path[len(root) + 1 :]
        problem = path_problem(name)
        if problem:
            shown = display(meant.value)
            raise UnsafeInput(f"{stage.told(want.value)}: unsafe path '{shown}': {problem}", "name a file of the project")
        deps.setdefault(name, place)
        if want.optional:
            optional[name] = None
    groups = (own, outs, " ".join(deps.values()), files, " ".join(wants.values()), when)
    return stage._replace(
        deps=tuple(deps), wants=tuple(wants), optional=tuple(optional), places="|".join(groups) if stage.places else ""
    )


def _of_dataset(stage: Stage, want: Want, known: Mapping[str, Sequence[Dataset]]) -> Want:
    """The input that a data set is: of type url what lies there; of the others, all that is known is what their entry says."""
    import json

    from dvcx.core.pipeline.externals import address_of, pin

    listed, told = known.get(want.value), stage.told(want.value)
    if not listed:
        hint = did_you_mean(want.value, known) or "list it under datasets, in a dvcx.yaml of the project"
        raise NotFound(f"{told}: there is no data set '{display(want.value[:80])}'", hint)
    first = next((one for one in listed if one.file == (stage.source or stage.file)), listed[0])
    if other := next((one for one in listed if one.properties != first.properties), None):
        both = display(f"{first.file} and {other.file}")
        raise Conflict(f"{told}: {both} list different data sets '{display(want.value[:80])}'", "rename one of the two")
    body = json.loads(first.properties)
    told = f"{told}: the data set '{display(want.value[:80])}'"
    if first.type == "url":
        address = address_of(body["url"], parent(first.file), told) or resolve(parent(first.file), body["url"], told)
        return Want(EXTERNAL, address, want.optional)
    return Want(EXTERNAL, f"{DATASET}{want.value}", want.optional, pinned=pin(body, told))
