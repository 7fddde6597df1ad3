"""Copy the JavaScript libraries of the page from ``tests/node/node_modules`` into the package, with their licences.

    cd tests/node && npm ci --ignore-scripts && cd ../.. && python scripts/vendor_page.py

Browsers know no bare names of modules: ``from "preact"`` becomes ``from "./preact.js"``. Nothing else is changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tests" / "node" / "node_modules"
VENDOR = ROOT / "src" / "oddsight" / "serve" / "page" / "vendor"

FILES = {
    "preact.js": "preact/dist/preact.module.js",
    "hooks.js": "preact/hooks/dist/hooks.module.js",
    "htm.js": "htm/dist/htm.module.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
}


def vendored(source: str) -> str:
    """What a file becomes in the package."""
    text = (SOURCE / source).read_text(encoding="utf-8")
    text = re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "\n", text)
    return text.replace('from"preact"', 'from"./preact.js"')


def licences() -> str:
    """The licences of all of them, one after another."""
    names = sorted({source.split("/")[0] for source in FILES.values()})
    parts = []
    for name in names:
        about = json.loads((SOURCE / name / "package.json").read_text(encoding="utf-8"))
        licence = (SOURCE / name / "LICENSE").read_text(encoding="utf-8").strip()
        parts.append(f"{name} {about['version']} ({about['license']})\n\n{licence}\n")
    return f"\n{'-' * 80}\n\n".join(parts)


def main() -> None:
    """Copy."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, source in FILES.items():
        (VENDOR / name).write_text(vendored(source), encoding="utf-8")
    (VENDOR / "LICENSES.txt").write_text(licences(), encoding="utf-8")


if __name__ == "__main__":
    main()
