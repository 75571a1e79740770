"""What plots need from files: the scripts shipped with dvcx, templates of the project, and the page where it is written."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from dvcx.core.spelling import did_you_mean
from dvcx.core.vega import TEMPLATES
from dvcx.errors import IntegrityError, NotFound, UsageError, disk_refused, display
from dvcx.io import files

DIRECTORY = ".dvcx/plots"
PAGE = f"{DIRECTORY}/index.html"
MAX_TEMPLATE = 1 << 20

# Where templates lie: dvcx's own place before that of DVC.
_BASES = (".dvcx", ".dvc")
# The version of the page's scripts, as vl-convert calls it.
_VEGA_LITE = "5.21"
_AGAIN = "install dvcx again, from where you had it"

# In the order the page needs them, with the SHA-256 of each official build. Their licences: js/LICENSES.txt.
SCRIPTS = {
    "vega": "463f3db6a40b20e9747b4ed38f37ed0add508838f9141b1cf8366784b07b30c8",
    "vega-lite": "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f",
    "vega-embed": "12d02acfbe3ec59ef9a37dd4822a2e04e2961b5bbb671bbe661d2221715b99da",
}


def scripts() -> list[str]:
    """Vega, Vega-Lite and Vega-Embed, as shipped. Raises `IntegrityError` when the installation is damaged."""
    import gzip
    import hashlib

    found = []
    for name, digest in SCRIPTS.items():
        path = os.path.join(os.path.dirname(__file__), "js", f"{name}.min.js.gz")
        try:
            with open(path, "rb") as file:
                data = gzip.decompress(file.read())
        except (OSError, EOFError) as error:
            raise IntegrityError(f"{name}.min.js.gz of dvcx cannot be read: {error}", _AGAIN) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"{name}.min.js.gz is not as it was shipped with dvcx", _AGAIN)
        found.append(data.decode("utf-8"))
    return found


def image_of(spec: dict[str, object], kind: str, where: str) -> bytes:
    """A Vega-Lite specification as an image of `kind` (svg or png), which needs vl-convert. Nothing is loaded from any URL.

    Raises `UsageError` without that package, and for what cannot be drawn.
    """
    try:
        import vl_convert
    except ImportError:
        hint = "pip install 'dvcx[images]', or: pip install vl-convert-python"
        raise UsageError(f"writing .{kind} needs the package vl-convert-python", hint) from None
    try:
        if kind == "svg":
            return str(vl_convert.vegalite_to_svg(spec, _VEGA_LITE, allowed_base_urls=[])).encode()
        return bytes(vl_convert.vegalite_to_png(spec, _VEGA_LITE, scale=2.0, allowed_base_urls=[]))
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = display((lines[1:] or lines or ["no reason given"])[0][:200])
        raise UsageError(f"{display(where)}: Vega-Lite cannot draw it: {told}", "try another template") from None


def own_templates(root: str) -> list[str]:
    """The names of the project's own templates: `.dvcx/plots/NAME.json`, and in DVC's `.dvc/plots`; sorted."""
    names: set[str] = set()
    for base in _BASES:
        with contextlib.suppress(OSError):
            names.update(os.listdir(os.path.join(root, base, "plots")))
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))


def read_template(root: str, name: str) -> Any:
    """The project's own template `name`: `.dvcx/plots/NAME.json`, else that of `.dvc`, or a path in the project with .json.

    Raises `NotFound`, and `IntegrityError` for what is no JSON.
    """
    import json

    if name.endswith(".json"):
        shown, data = name, files.read_record(root, name, MAX_TEMPLATE)
    elif "/" in name or name.startswith("."):
        hint = "write NAME for .dvcx/plots/NAME.json, or a path: x/NAME.json"
        raise UsageError(f"'{display(name)}' cannot name a template", hint)
    else:
        shown, data = "", None
        for base in (base for base in _BASES if data is None and os.path.isdir(os.path.join(root, base))):
            shown = f"{base}/plots/{name}.json"
            data = files.read_record(os.path.join(root, base), f"plots/{name}.json", MAX_TEMPLATE)
    if data is None:
        hint = did_you_mean(name, [*own_templates(root), *TEMPLATES]) or "dvcx plots templates shows which there are"
        raise NotFound(f"there is no template '{display(name)}'", hint)
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        where = f"{display(shown)}:{error.lineno}:{error.colno}"
        raise IntegrityError(f"{where}: broken JSON: {error.msg}", "repair the template there") from None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{display(shown)}: broken JSON: {display(str(error)[:200])}", "repair the template") from None


def write_page(root: str, path: str, data: bytes) -> str:
    """Write the page (or image) to `path` (absolute), or to its default place, which git is made to ignore; where it is."""
    if path:
        _directory(os.path.dirname(path))
        files.atomic_write(path, data, fsync=False)
        return path
    # Without following links: a repository may hold `.dvcx/plots` as one that leads elsewhere.
    own = os.path.join(root, ".dvcx")
    if not os.path.lexists(os.path.join(own, "plots", ".gitignore")):
        files.write_record(own, "plots/.gitignore", b"/.gitignore\n/index.html\n", fsync=False)
    files.write_record(own, "plots/index.html", data, fsync=False)
    return os.path.join(root, PAGE)


def _directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise disk_refused(error, "making the directory of the page", path) from None
