"""Templates of plots: Vega-Lite specifications with anchors, and how anchors are filled. Only plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dvcx.core.spelling import did_you_mean
from dvcx.errors import UsageError, display

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
DEFAULT = "linear"
WIDTH, HEIGHT = 480, 320

# What DVC's templates call the same anchors is understood as well.
_ANCHOR = re.compile(r"<(?:DVCX|DVC_METRIC)_([A-Z_]+)>")


_DASHES = {"symbolType": "stroke", "symbolStrokeColor": "#444", "symbolStrokeWidth": 2, "symbolSize": 400}


class _Absent:
    """Fills an anchor so that the key, or the item of a list, that holds it goes."""


ABSENT: Final = _Absent()


def fill(template: Any, values: Mapping[str, Any], where: str) -> Any:
    """`template` with every anchor replaced. A text that is one anchor becomes any value, inside a text its text.

    Raises `UsageError` for an anchor that `values` does not have.
    """
    if isinstance(template, dict):
        pairs = ((key, fill(value, values, where)) for key, value in template.items())
        return {key: value for key, value in pairs if value is not ABSENT}
    if isinstance(template, list):
        return [value for value in (fill(item, values, where) for item in template) if value is not ABSENT]
    if not isinstance(template, str) or "<DVC" not in template:
        return template
    found = _ANCHOR.fullmatch(template)
    if found:
        return _value(found, values, where)
    return _ANCHOR.sub(lambda match: _text(_value(match, values, where)), template)


def _value(found: re.Match[str], values: Mapping[str, Any], where: str) -> Any:
    if found[1] not in values:
        known = ", ".join(f"<DVCX_{name}>" for name in values)
        hint = did_you_mean(found[1], list(values)) or f"there are: {known}"
        raise UsageError(f"{where}: unknown anchor '{display(found[0])}'", hint)
    return values[found[1]]


def _text(value: Any) -> str:
    return "" if value is ABSENT else str(value)


def anchors(
    *,
    points: list[dict[str, Any]],
    counts: list[dict[str, Any]],
    title: str,
    labels: tuple[str, str],
    types: tuple[str, str],
    revisions: Iterable[str],
    series: Iterable[str],
) -> dict[str, Any]:
    """What the anchors stand for in one plot. `types` are Vega-Lite's for x and y: quantitative or nominal.

    Points have the fields `x`, `y`, `rev` and `series`; counts are points counted by all four, with `count` and `share`.
    """
    revisions, series = list(revisions), list(series)
    by_rev = {"field": "rev", "type": "nominal", "title": "revision", "scale": {"domain": revisions}, "sort": revisions}
    by_series = {"field": "series", "type": "nominal", "title": None, "scale": {"domain": series}, "sort": series}
    many, several = len(series) > 1, len(revisions) > 1
    tooltip = [
        {"field": "x", "title": labels[0], "type": types[0]},
        {"field": "y", "title": labels[1], "type": types[1]},
        {"field": "rev", "title": "revision", "type": "nominal"},
        *([{"field": "series", "type": "nominal"}] if many else []),
    ]
    return {
        "DATA": points,
        "COUNTS": counts,
        "TITLE": title,
        "X": "x",
        "Y": "y",
        "X_LABEL": labels[0],
        "Y_LABEL": labels[1],
        "X_TYPE": types[0],
        "Y_TYPE": types[1],
        "COLOR": by_rev if several or not many else by_series,
        "STROKE_DASH": {**by_series, "legend": _DASHES} if several and many else ABSENT,
        "SHAPE": by_series if several and many else ABSENT,
        "TOOLTIP": tooltip,
        "COLUMN": {"field": "series", "type": "nominal", "title": None, "sort": series} if many else ABSENT,
        "ROW": {"field": "series", "type": "nominal", "title": None, "sort": series} if many else ABSENT,
        "GROUP_BY": ["rev", "series"],
        "GROUP_BY_X": ["rev", "series", "x"],
        "GROUP_BY_Y": ["rev", "series", "y"],
        "PIVOT_FIELD": "datum.rev + '::' + datum.series",
        "REVISIONS": revisions,
        "PLOT_WIDTH": WIDTH,
        "PLOT_HEIGHT": HEIGHT,
        "ZOOM_AND_PAN": {"name": "zoom", "select": "interval", "bind": "scales"},
    }


# The templates. Names of encodings and marks: https://vega.github.io/vega-lite/docs/


def _anchor(name: str) -> str:
    return f"<DVCX_{name}>"


def _field(name: str, **more: Any) -> dict[str, Any]:
    """An encoding of x or y."""
    return {"field": _anchor(name), "type": _anchor(f"{name}_TYPE"), "title": _anchor(f"{name}_LABEL"), **more}


def _template(data: str = "DATA", /, **more: Any) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "title": _anchor("TITLE"),
        "data": {"values": _anchor(data)},
        **more,
    }


_SIZE: dict[str, Any] = {"width": _anchor("PLOT_WIDTH"), "height": _anchor("PLOT_HEIGHT")}
_FREE = {"zero": False}
_LINE: dict[str, Any] = {
    "x": _field("X"),
    "y": _field("Y", scale=_FREE),
    "color": _anchor("COLOR"),
    "strokeDash": _anchor("STROKE_DASH"),
}
_ZOOM: dict[str, Any] = {"params": [_anchor("ZOOM_AND_PAN")]}


def _scatter(jitter: bool) -> dict[str, Any]:
    if not jitter:
        x, y = _field("X", scale=_FREE), _field("Y", scale=_FREE)
        encoding = {"x": x, "y": y, "color": _anchor("COLOR"), "shape": _anchor("SHAPE"), "tooltip": _anchor("TOOLTIP")}
        return _template(**_SIZE, **_ZOOM, mark={"type": "point", "filled": True, "opacity": 0.7}, encoding=encoding)
    encoding = {
        "x": {"field": _anchor("X"), "type": "nominal", "title": _anchor("X_LABEL")},
        "y": {"field": _anchor("Y"), "type": "nominal", "title": _anchor("Y_LABEL"), "sort": "descending"},
        "xOffset": {"field": "jitter_x", "type": "quantitative"},
        "yOffset": {"field": "jitter_y", "type": "quantitative"},
        "color": _anchor("COLOR"),
        "tooltip": _anchor("TOOLTIP"),
    }
    spread = [{"calculate": "random()", "as": f"jitter_{axis}"} for axis in "xy"]
    return _template(**_SIZE, transform=spread, mark={"type": "point", "filled": True, "opacity": 0.7}, encoding=encoding)


def _smooth() -> dict[str, Any]:
    loess = {"loess": "y", "on": "x", "groupby": ["rev", "series"], "bandwidth": {"signal": "smooth"}}
    slider = {"name": "smooth", "value": 0.3, "bind": {"input": "range", "min": 0.05, "max": 1, "step": 0.05}}
    return _template(
        **_SIZE,
        params=[slider],
        encoding=_LINE,
        layer=[
            {"transform": [loess], "mark": {"type": "line"}},
            {"mark": {"type": "line", "strokeOpacity": 0.25}},
        ],
    )


def _confusion(shade: str, form: str, dark: str) -> dict[str, Any]:
    cell = {
        "x": {"field": _anchor("X"), "type": "nominal", "title": _anchor("X_LABEL"), "sort": None, "axis": {"labelAngle": -45}},
        "y": {"field": _anchor("Y"), "type": "nominal", "title": _anchor("Y_LABEL"), "sort": None},
    }
    number = {"field": shade, "type": "quantitative", "format": form}
    told = [*({"field": _anchor(name), "title": _anchor(f"{name}_LABEL"), "type": "nominal"} for name in "XY")]
    color = {"field": shade, "type": "quantitative", "title": shade, "scale": {"domainMin": 0}}
    on_dark = {"condition": {"test": dark, "value": "white"}, "value": "black"}
    return _template(
        "COUNTS",
        facet={"column": {"field": "rev", "type": "nominal", "title": None, "sort": _anchor("REVISIONS")}, "row": _anchor("ROW")},
        spec={
            "width": HEIGHT,
            "height": HEIGHT,
            "encoding": cell,
            "layer": [
                {"mark": "rect", "encoding": {"color": color, "tooltip": [*told, number]}},
                {"mark": "text", "encoding": {"text": number, "color": on_dark}},
            ],
        },
    )


def _bars(**order: Any) -> dict[str, Any]:
    return _template(
        **_SIZE,
        mark={"type": "bar"},
        encoding={
            "x": {"field": _anchor("X"), "type": "quantitative", "title": _anchor("X_LABEL")},
            "y": {"field": _anchor("Y"), "type": "nominal", "title": _anchor("Y_LABEL"), **order},
            "yOffset": {"field": "rev", "sort": _anchor("REVISIONS")},
            "color": _anchor("COLOR"),
            "column": _anchor("COLUMN"),
            "tooltip": _anchor("TOOLTIP"),
        },
    )


TEMPLATES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": (
        "lines with points, to zoom into",
        _template(
            **_SIZE,
            encoding={"x": _LINE["x"], "y": _LINE["y"], "color": _LINE["color"], "tooltip": _anchor("TOOLTIP")},
            # Points of the mark itself would make the symbols of the legend of dashes transparent.
            layer=[
                {**_ZOOM, "mark": "line", "encoding": {"strokeDash": _LINE["strokeDash"]}},
                {"mark": {"type": "point", "filled": True, "size": 20, "opacity": 1}},
            ],
        ),
    ),
    "simple": ("lines", _template(**_SIZE, mark={"type": "line"}, encoding=_LINE)),
    "smooth": ("lines, smoothed (loess) as a slider says", _smooth()),
    "scatter": ("points", _scatter(False)),
    "scatter_jitter": ("points of categories, spread so that all are seen", _scatter(True)),
    "confusion": ("a confusion matrix of counts", _confusion("count", "d", "datum.dark")),
    "confusion_normalized": ("a confusion matrix of shares in each y", _confusion("share", ".2f", "datum.share > 0.5")),
    "bar_horizontal": ("bars: x is the number, y the name", _bars()),
    "bar_horizontal_sorted": ("bars, the longest first", _bars(sort="-x")),
}
"""Name -> what it draws, and the Vega-Lite specification with anchors."""
