"""How far the scores of a page that runs a model by itself are from those of the command, for docs/workbench.md.

    python benchmarks/standalone.py RUNTIME MODEL.onnx IMAGES... > benchmarks/standalone.csv

RUNTIME is the folder of the npm package ``onnxruntime-web``. The page is opened as a file, in a browser that is
offline.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from browser import open_browser
from oddsight.model.model import load
from oddsight.serve.standalone import write_standalone


def scores_in_page(page_file: Path, images: list[Path]) -> list[float]:
    """What the page says of images, in order."""
    with open_browser() as browser:
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(1_800_000)
        page.goto(page_file.as_uri())
        page.wait_for_selector(".drop")
        page.set_input_files("input[aria-label=Images]", images)
        page.wait_for_selector(".card")
        page.wait_for_selector(".meter", state="detached")
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        lines = map(json.loads, Path(download.value.path()).read_text().splitlines())
        said = {line["path"]: line["score"] for line in lines}
    return [said[image.name] for image in images]


def main() -> None:
    """Write the table."""
    runtime, model, *images = map(Path, sys.argv[1:])
    loaded = load(model)
    with tempfile.TemporaryDirectory() as folder:
        page_file = Path(folder) / "page.html"
        write_standalone(model, page_file, runtime)
        size = page_file.stat().st_size
        scores = scores_in_page(page_file, images)
    differences = [abs(score / loaded.predict(image).score - 1) for image, score in zip(images, scores, strict=True)]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        ["model", "method", "model_bytes", "page_bytes", "images", "median_difference", "highest_difference"]
    )
    method, middle, highest = loaded.metadata.method.name, statistics.median(differences), max(differences)
    table.writerow([model.stem, method, model.stat().st_size, size, len(images), f"{middle:.1e}", f"{highest:.1e}"])


if __name__ == "__main__":
    main()
