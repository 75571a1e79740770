"""The page that shows plots: one HTML file that works without a network, and lets nothing in the data run.

Every text is escaped. Specifications lie in a data block (`<` written as an escape), pictures in `data:` addresses. The
Content-Security-Policy in the page allows the scripts it was made with, by their digests, and no connection; Vega's
expressions are interpreted, not compiled, so that no script is made from text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dvcx.errors import display


class Picture(NamedTuple):
    """A picture at one revision. `kind` is its media type, "" where there is no picture."""

    rev: str
    kind: str
    data: bytes


class Section(NamedTuple):
    """One plot: a Vega-Lite specification, or pictures side by side. `note` says what is not drawn."""

    name: str
    spec: dict[str, Any] | None
    pictures: Sequence[Picture] = ()
    note: str = ""


_STYLE = """\
:root { color-scheme: light; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
main { display: flex; flex-wrap: wrap; gap: 1.5rem; }
section { border: 1px solid #ddd; border-radius: 6px; padding: 1rem; max-width: 100%; overflow-x: auto; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; }
figure img { max-width: 480px; max-height: 480px; border: 1px solid #eee; }
figcaption, .note, footer { color: #666; font-size: .85rem; } .problem { color: #a00; }
"""

_DRAW = """\
"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
for (const [id, spec] of Object.entries(specs)) {
  const place = document.getElementById(id);
  const options = { mode: "vega-lite", ast: true, actions: { export: true, source: false, compiled: false, editor: false } };
  vegaEmbed(place, spec, options).catch((error) => {
    place.textContent = "This plot cannot be drawn: " + error.message;
    place.className = "problem";
  });
}
"""


def page(title: str, sections: Sequence[Section], problems: Iterable[str], scripts: Sequence[str]) -> str:
    """The whole page. `scripts` are Vega, Vega-Lite and Vega-Embed, in that order; left out where nothing needs them."""
    specs = {f"plot-{number}": one.spec for number, one in enumerate(sections) if one.spec is not None}
    code = [*scripts, _DRAW] if specs else []
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in code) or "'none'"
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}; form-action \'none\'">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>\n{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{_text(title)}</h1>",
        *(f'<p class="problem">{_text(problem)}</p>' for problem in problems),
        "<main>",
        *(_section(number, one) for number, one in enumerate(sections)),
        "</main>",
    ]
    if specs:
        parts.append(f'<script type="application/json" id="specs">{data_block(specs)}</script>')
        parts += [f"<script>{script}</script>" for script in code]
    return "\n".join([*parts, "</body>", "</html>", ""])


def data_block(value: Any) -> str:
    """`value` as JSON that may stand inside a script element: it cannot end it, nor begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(number: int, one: Section) -> str:
    note = f'<p class="note">{_text(one.note)}</p>' if one.note else ""
    if one.spec is not None:
        return f'<section><h2>{_text(one.name)}</h2><div id="plot-{number}"></div>{note}</section>'
    figures = "".join(_figure(one.name, picture) for picture in one.pictures)
    return f'<section><h2>{_text(one.name)}</h2><div class="pictures">{figures}</div>{note}</section>'


def _figure(name: str, picture: Picture) -> str:
    if not picture.kind:
        return f'<figure><p class="problem">not there</p><figcaption>{_text(picture.rev)}</figcaption></figure>'
    source = f"data:{picture.kind};base64,{base64.b64encode(picture.data).decode('ascii')}"
    label = _text(picture.rev)
    return f'<figure><img src="{source}" alt="{_text(name)}, {label}"><figcaption>{label}</figcaption></figure>'


def _text(text: str) -> str:
    return html.escape(display(text))


def _digest(script: str) -> str:
    """The digest of a script as Content-Security-Policy names it (https://www.w3.org/TR/CSP3/#match-element-to-source-list)."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
