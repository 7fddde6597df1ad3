"""One HTML file in which a model runs by itself: the page of the service, ONNX Runtime Web, and the model.

It opens by a double click and asks nothing of any network: its own Content-Security-Policy forbids every connection, so
an image that is dropped on it cannot leave the computer. ONNX Runtime Web (MIT, 14 MB) is no part of Oddsight: it is
read from a folder that holds the npm package ``onnxruntime-web``.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import posixpath
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from oddsight.data.collection import unpacked
from oddsight.errors import OddsightError
from oddsight.model.model import Model
from oddsight.runtime.files import write_bytes
from oddsight.serve.models import ServedModel

_PAGE = files("oddsight.serve") / "page"
_START = ("standalone.js", "decide.js")
"""Modules from which all others that are needed are found by their imports."""

_IMPORT = re.compile(r'(\bfrom ?|\bimport\()"(\.[^"]+)"')
_SCRIPT, _WASM = RUNTIME = ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm")
"""Files of ONNX Runtime Web that a page needs."""


def write_standalone(model: Path, path: str | os.PathLike[str], runtime: Path) -> None:
    """Write the HTML file, all at once or not at all.

    Args:
        model: The model file; the small copies of normal images beside it go into the page, too.
        path: The file to write.
        runtime: The folder of the npm package ``onnxruntime-web``, or one that it was unpacked or installed in.

    Raises:
        OddsightError: The model cannot run in a browser, the runtime is not there, or the file cannot be written.
    """
    package = find_runtime(runtime)
    content = Model.load(model)
    conversion = content.metadata.conversion
    if conversion is not None and conversion.to == "openvino":
        raise OddsightError(f"{model}: a model for OpenVINO does not run in a browser: use the one it was made of")
    digest = hashlib.sha256(content.to_bytes()).hexdigest()
    served = ServedModel(model.stem, digest, model, model.stat().st_mtime, digest, content)
    texts = {
        "about": _json({"version": version("oddsight"), **served.outputs_json()}),
        "normals": _json(_small_copies(served)),
        "icon": "data:image/svg+xml;base64," + _base64(_read("icon.svg")),
        "licences": _read("vendor/LICENSES.txt").decode(),
        "worker": _packed(_read("worker.js")),
        "ort-script": "data:text/javascript;base64," + _base64(_in(package, _SCRIPT)),
        "ort-wasm": _packed(_in(package, _WASM)),
        "model": _packed(content.to_bytes()),
    }
    write_bytes(path, _fill(served, texts).encode())


def find_runtime(folder: Path) -> Path:
    """The folder of ONNX Runtime Web: this one, or where npm and tar put it inside.

    Raises:
        OddsightError: It is not there.
    """
    for place in (folder, folder / "package", folder / "node_modules" / "onnxruntime-web"):
        if (place / _SCRIPT).is_file() and (place / _WASM).is_file():
            return place
    raise OddsightError(
        f"--runtime {folder}: there is no {_SCRIPT} in it: run 'npm pack onnxruntime-web', unpack the file and name "
        "its folder"
    )


def _fill(served: ServedModel, texts: dict[str, str]) -> str:
    """The page, whose policy allows its own scripts and styles by their digests, and no connection."""
    style = _read("style.css").decode()
    modules = json.dumps({"imports": _modules()})
    start = 'import "page/standalone.js";'
    allowed = " ".join(f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'" for text in (modules, start))
    looks = f"'sha256-{_base64(hashlib.sha256(style.encode()).digest())}'"
    policy = (
        f"default-src 'none'; script-src {allowed} data: blob: 'wasm-unsafe-eval'; style-src {looks}; "
        "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    template = Environment(loader=PackageLoader("oddsight.serve", ""), autoescape=True).get_template(
        "standalone.html.jinja"
    )
    return template.render(
        model=served,
        policy=Markup(policy),  # noqa: S704 - made here
        style=Markup(style),  # noqa: S704 - of this package
        modules=Markup(modules),  # noqa: S704 - base64
        start=Markup(start),  # noqa: S704
        texts={name: Markup(text) for name, text in texts.items()},  # noqa: S704 - base64, or without any '<'
    )


def _modules() -> dict[str, str]:
    """The modules of the page as data addresses, by names that an import map takes in place of paths."""
    waiting, found = list(_START), dict[str, str]()
    while waiting:
        name = waiting.pop()
        if f"page/{name}" in found:
            continue
        folder = posixpath.dirname(name)
        text = _read(name).decode()

        def rename(match: re.Match[str], folder: str = folder) -> str:
            return f'{match[1]}"page/{posixpath.normpath(posixpath.join(folder, match[2]))}"'

        for match in _IMPORT.finditer(text):
            if match[1].startswith("from"):
                waiting.append(posixpath.normpath(posixpath.join(folder, match[2])))
        found[f"page/{name}"] = "data:text/javascript;base64," + _base64(_IMPORT.sub(rename, text).encode())
    return found


def _small_copies(served: ServedModel) -> dict[str, str]:
    """Small copies of normal images by their names, as JPEG in base64."""
    explanation = served.model.metadata.explanation
    if served.normals is None or explanation is None:
        return {}
    copies = {name: served.small_copy(name, quality=80) for name in unpacked(explanation.normals)}
    return {name: _base64(copy) for name, copy in copies.items() if copy is not None}


def _read(name: str) -> bytes:
    return (_PAGE / name).read_bytes()


def _in(package: Path, name: str) -> bytes:
    try:
        return (package / name).read_bytes()
    except OSError as error:
        raise OddsightError(f"{package / name}: cannot be read: {error.strerror}") from None


def _packed(content: bytes) -> str:
    """Compressed, in base64; the same content gives the same text."""
    return _base64(gzip.compress(content, 9, mtime=0))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _json(content: object) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")
