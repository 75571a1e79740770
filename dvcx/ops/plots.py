"""plots: draw data and pictures of the workspace and of revisions into one page, or as Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core import plots as core
from dvcx.core import vega
from dvcx.core.paths import contains, several
from dvcx.core.plots import Changes, Definition, Line, Series
from dvcx.core.spelling import did_you_mean
from dvcx.errors import DvcxError, NotFound, UsageError, display
from dvcx.ops.revisions import BROKEN, WORKSPACE, Found, Problem, View, Views, missing, revisions

if TYPE_CHECKING:
    from dvcx.core.page import Picture
    from dvcx.project import Project

DATA_LIMIT = 64 << 20
IMAGE_LIMIT = 16 << 20
IMAGES_LIMIT = 128 << 20
IMAGE_KINDS = ("svg", "png")
NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Image:
    """A picture of a plot at one revision; `size` in bytes."""

    rev: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: data as a Vega-Lite specification (`spec`, empty for pictures), or pictures. `note`: what is not drawn."""

    name: str
    template: str
    spec: dict[str, object]
    images: tuple[Image, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Plotted:
    """All plots that were drawn, of `revisions`; `page` is the HTML file written, "" for none."""

    revisions: tuple[str, ...]
    plots: tuple[Plot, ...]
    problems: tuple[Problem, ...]
    page: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template: its name, what it draws, and whether it is the project's own; `spec` is the JSON with its anchors."""

    name: str
    about: str
    own: bool
    spec: dict[str, object]


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates there are."""

    items: tuple[Template, ...]


class Drawing(NamedTuple):
    """A plot with its data: lines, or pictures, at each revision."""

    definition: Definition
    lines: tuple[Line, ...]
    pictures: tuple[tuple[str, Picture], ...]


def plots_show(
    project: Project,
    targets: Sequence[str] = (),
    *,
    rev: Sequence[str] = (),
    changes: Changes = NO_CHANGES,
    page: bool = True,
    out: str = "",
    remote: str = "",
) -> Plotted:
    """Draw every plot that is declared, or `targets` (names of plots, files, directories), of the workspace or of revisions.

    With `page` an HTML file is written to `out` (an absolute path; `.dvcx/plots/index.html` without), unless there is nothing
    to draw; an `out` that ends with .svg or .png gets the one plot that is drawn, or is called as a target is. What is missing
    or broken is a problem of the result; a target that is nowhere raises `NotFound`.
    """
    drawings, problems, names = collect(project, targets, rev=rev, changes=changes, remote=remote)
    return _plotted(project, targets, drawings, problems, names, page, out)


def plots_diff(
    project: Project,
    revs: Sequence[str] = (),
    *,
    targets: Sequence[str] = (),
    changes: Changes = NO_CHANGES,
    page: bool = True,
    out: str = "",
    remote: str = "",
) -> Plotted:
    """Draw plots of several revisions over one another: HEAD and the workspace, one and the workspace, or those named.

    All else is as `plots_show` has it; an unknown revision raises `NotFound`.
    """
    drawings, problems, names = collect(project, targets, rev=compared(revs), changes=changes, remote=remote)
    return _plotted(project, targets, drawings, problems, names, page, out)


def compared(revs: Sequence[str]) -> tuple[str, ...]:
    """The revisions to draw over one another: fewer than two with the workspace, none with HEAD too."""
    chosen = several(revs)
    return chosen if len(chosen) >= 2 else ("", *(chosen or ("HEAD",)))


def plots_templates(project: Project, name: str = "") -> Templates:
    """The templates that come with dvcx and the project's own, or the one called `name`, else `NotFound`."""
    from dvcx.io.plots import own_templates

    own = own_templates(project.root)
    names = [name] if name else list(dict.fromkeys([*own, *vega.TEMPLATES]))
    return Templates(tuple(_template(project, one) for one in names))


def collect(
    project: Project,
    targets: Sequence[str] = (),
    *,
    rev: Sequence[str] = (),
    changes: Changes = NO_CHANGES,
    remote: str = "",
) -> tuple[list[Drawing], list[Problem], tuple[str, ...]]:
    """The data of plots, what could not be read, and the names of the revisions."""
    targets = several(targets)
    if changes.template:
        _template(project, changes.template)
    with Views(project, remote) as views:
        problems: list[Problem] = []
        opened = list(views.all(revisions(project, several(rev)), problems))
        declared = _declared(opened)
        definitions = [_changed(one, changes) for one in _expanded(_chosen(declared, targets), opened)]
        read = [_read(view, definitions, problems) for view in opened]
    drawings = [_drawing(one, opened, read, problems) for one in definitions]
    drawn = [drawing for drawing in drawings if drawing.lines or drawing.pictures]
    _check_drawn(targets, list(declared), drawings, drawn, problems)
    return drawn, _once(problems), tuple(view.rev or WORKSPACE for view in opened)


# What to draw


def _declared(views: Sequence[View]) -> dict[str, Definition]:
    """The plots that any of the views declares, by name, as the first of them does."""
    declared: dict[str, Definition] = {}
    for view in views:
        for one in core.defined(view.tracked.pipelines):
            declared.setdefault(one.name, one)
    return declared


def _chosen(declared: Mapping[str, Definition], targets: Sequence[str]) -> list[Definition]:
    """The plots that targets mean; a target that is none is a file to draw."""
    if not targets:
        return list(declared.values())
    chosen: dict[str, Definition] = {}
    for target in targets:
        found = {name: one for name, one in declared.items() if _means(target, one)}
        chosen.update(found or {target: Definition(target, (Series(target),))})
    return list(chosen.values())


def _means(target: str, one: Definition) -> bool:
    """Whether a target is a plot: by its name (that of a plot in a subdirectory also without its file), or by its files."""
    return target in (one.name, one.name.rpartition(":")[2]) or any(contains(target, file) for file in one.files)


def _expanded(definitions: Iterable[Definition], views: Sequence[View]) -> list[Definition]:
    """Definitions in which a directory has become a plot for each of its files."""
    found: dict[str, Definition] = {}
    definitions = list(definitions)
    for one in definitions:
        below = _below(one, views)
        if not below:
            found.setdefault(one.name, one)
        nearer = [other.name for other in definitions if other.name != one.name and contains(one.name, other.name)]
        for path in (path for path in below if not any(contains(name, path) for name in nearer)):
            series = tuple(item._replace(file=path) for item in one.series)
            found.setdefault(path, one._replace(name=path, series=series, title=""))
    return list(found.values())


def _below(one: Definition, views: Sequence[View]) -> list[str]:
    if len(one.files) != 1 or core.extension(one.files[0]) in (*core.DATA, *core.IMAGES):
        return []
    names = {name for view in views for name in _listed(view, one.files[0])}
    return sorted(name for name in names if core.extension(name) in (*core.DATA, *core.IMAGES))


def _listed(view: View, path: str) -> list[str]:
    try:
        return view.below(path) or []
    except DvcxError:
        # It is read as a file then, and the error told.
        return []


def _changed(one: Definition, changes: Changes) -> Definition:
    return one if one.is_image else core.changed(one, changes)


# Data


def _read(view: View, definitions: Sequence[Definition], problems: list[Problem]) -> dict[str, bytes]:
    """The bytes of every file of plots at a view."""
    files = [file for one in definitions for file in one.files]
    pictures = [file for file in files if core.extension(file) in core.IMAGES]
    found = {**view.read(pictures, IMAGE_LIMIT), **view.read([file for file in files if file not in pictures], DATA_LIMIT)}
    return {path: data for path, data in found.items() if _is_there(view, path, data, problems) and isinstance(data, bytes)}


def _is_there(view: View, path: str, data: Found, problems: list[Problem]) -> bool:
    if data is None:
        problems.append(missing(view, path))
    elif isinstance(data, DvcxError):
        problems.append(Problem(view.rev, path, BROKEN, data.message, data.hint))
    return isinstance(data, bytes)


def _drawing(
    one: Definition, views: Sequence[View], read: Sequence[dict[str, bytes]], problems: list[Problem]
) -> Drawing:
    if one.is_image:
        return Drawing(one, (), tuple(_pictures(one, views, read)))
    lines: list[Line] = []
    for view, found in zip(views, read, strict=True):
        tables: dict[str, core.Table] = {}
        for series in one.series:
            if series.file not in found or (series.x_file and series.x_file not in found):
                continue
            where = f"{view.rev}:{series.file}" if view.rev else series.file
            try:
                for file in (series.file, series.x_file):
                    if file and file not in tables:
                        tables[file] = _table(found[file], f"{view.rev}:{file}" if view.rev else file, one.header)
                over = tables.get(series.x_file)
                lines.append(core.line(view.rev or WORKSPACE, series, tables[series.file], where, over))
            except DvcxError as error:
                problems.append(Problem(view.rev, series.file, BROKEN, error.message, error.hint))
    return Drawing(one, tuple(lines), ())


def _pictures(one: Definition, views: Sequence[View], read: Sequence[dict[str, bytes]]) -> list[tuple[str, Picture]]:
    from dvcx.core.page import Picture

    [file] = one.files
    kind = core.IMAGES[core.extension(file)]
    if not any(file in found for found in read):
        return []
    pairs = [(view.rev or WORKSPACE, found.get(file)) for view, found in zip(views, read, strict=True)]
    return [(file, Picture(rev, "" if data is None else kind, data or b"")) for rev, data in pairs]


def _table(data: bytes, where: str, header: bool) -> core.Table:
    from dvcx.io import tables

    kind = core.extension(where)
    if kind not in core.DATA:
        hint = f"data is in files that end with {', '.join(core.DATA)}"
        raise UsageError(f"{display(where)}: it holds no data to draw", hint)
    if kind in ("csv", "tsv"):
        names, rows = tables.read_table(data, where, header=header)
        return core.Table(core.Rows(names, rows), True)
    if kind == "json":
        return core.table_of(tables.read_json(data, where), where)
    from dvcx.io.yaml import load_values

    return core.table_of(load_values(data, where), where)


def _check_drawn(
    targets: Sequence[str],
    declared: list[str],
    drawings: Sequence[Drawing],
    drawn: Sequence[Drawing],
    problems: Sequence[Problem],
) -> None:
    told = {problem.path for problem in problems if problem.kind == BROKEN}
    for target in targets:
        own = [one for one in drawings if _means(target, one.definition)]
        if not any(one in drawn or set(one.definition.files) & told for one in own):
            raise NotFound(
                f"{display(target)} is no plot, and no file at any of the revisions asked for",
                did_you_mean(target, declared) or "name a plot of dvcx.yaml, or a file's path in the project",
            )


def _once(problems: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


# Drawing


def _plotted(
    project: Project,
    targets: Sequence[str],
    drawings: Sequence[Drawing],
    problems: list[Problem],
    names: tuple[str, ...],
    page: bool,
    out: str,
) -> Plotted:
    plots = []
    total = 0
    for drawing in drawings:
        size = sum(len(picture.data) for _, picture in drawing.pictures)
        total += size
        try:
            if size and total > IMAGES_LIMIT:
                raise NotFound(f"more than {IMAGES_LIMIT >> 20} MiB of pictures: this one is left out", "name fewer plots")
            plots.append((_plot(project, drawing), drawing))
        except DvcxError as error:
            name = drawing.definition.name
            message = error.message if name in error.message else f"{display(name)}: {error.message}"
            problems.append(Problem("", name, BROKEN, message, error.hint))
    written = ""
    if plots and core.extension(out) in IMAGE_KINDS:
        written = _image(project, [plot for plot, _ in plots], several(targets), out)
    elif plots and page:
        written = _page(project, plots, problems, names, out)
    return Plotted(names, tuple(plot for plot, _ in plots), tuple(problems), written)


def _plot(project: Project, drawing: Drawing) -> Plot:
    one = drawing.definition
    if drawing.pictures:
        images = tuple(Image(picture.rev, path, len(picture.data)) for path, picture in drawing.pictures if picture.kind)
        return Plot(one.name, "", {}, images, "")
    name = one.template or vega.DEFAULT
    template = _template(project, name)
    spec, note = core.spec(one, drawing.lines, template.spec, name, whole=template.own)
    return Plot(one.name, name, spec, (), note)


def _template(project: Project, name: str) -> Template:
    """A template: the project's own comes before one of that name that is shipped."""
    from dvcx.io import plots as io

    if name in vega.TEMPLATES and name not in io.own_templates(project.root):
        about, spec = vega.TEMPLATES[name]
        return Template(name, about, False, spec)
    spec = io.read_template(project.root, name)
    if not isinstance(spec, dict):
        spec = {"<not an object>": True}
    return Template(name, "the project's own", True, spec)


def _image(project: Project, plots: Sequence[Plot], targets: Sequence[str], out: str) -> str:
    from dvcx.io.plots import image_of, write_page

    # A file's name also means the plots that read it.
    plots = [plot for plot in plots if plot.name in targets] or plots
    if len(plots) != 1:
        names = ", ".join(display(plot.name) for plot in plots[:10])
        raise UsageError(f"an image holds one plot, and there are {len(plots)}", f"name the one to draw: {names}")
    [plot] = plots
    if plot.images:
        raise UsageError(f"{display(plot.name)} is a picture already", f"copy it: cp {display(plot.images[0].path)}")
    return write_page(project.root, out, image_of(plot.spec, core.extension(out), plot.name))


def _page(
    project: Project, plots: Sequence[tuple[Plot, Drawing]], problems: Iterable[Problem], names: Sequence[str], out: str
) -> str:
    from dvcx.core.page import Section, page
    from dvcx.io.plots import scripts, write_page

    sections = [
        Section(plot.name, None if plot.images else plot.spec, [picture for _, picture in drawing.pictures], plot.note)
        for plot, drawing in plots
    ]
    code = scripts() if any(section.spec is not None for section in sections) else []
    title = f"Plots of {', '.join('the workspace' if name == WORKSPACE else name for name in names)}"
    text = page(title, sections, [problem.message for problem in problems], code)
    return write_page(project.root, out, text.encode())
