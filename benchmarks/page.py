"""How quick the page of the service is in Chromium, for docs/workbench.md.

    python benchmarks/page.py MODEL.onnx > benchmarks/page.csv

First the page is loaded, each time by a browser without a cache. Then 10,000 results and as many calibration scores
are put into it, and the threshold is dragged to 300 places: from the event of the pointer to the end of the frame that
shows its result. Requests are counted all the while.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from playwright.sync_api import Browser, Page

from browser import open_browser, running_service

LOADS, RESULTS, MOVES = 10, 10_000, 300

_FILL = """async (count) => {
  const { change, state } = await import("/page/store.js");
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const draw = () => 3 + random() + random() + random() ** 8 * 4;
  const calibration = Array.from({ length: count }, draw).sort((a, b) => a - b);
  const model = { ...state.models[0], threshold: calibration[Math.floor(0.99 * count)], false_alarm_rate: 0.01,
                  classes: null, calibration: { scores: calibration, count } };
  const canvas = new OffscreenCanvas(64, 64);
  canvas.getContext("2d").fillRect(8, 8, 30, 30);
  const blob = await canvas.convertToBlob();
  const images = Array.from({ length: count }, (_, key) => {
    const score = draw();
    const result = { score, p_value: random(), threshold: model.threshold, verdict: "normal", width: 64, height: 64,
                     voices: [], regions: [] };
    const file = new File([blob], "a.png");
    return { key: key + 1, name: `image-${key}.png`, file, results: { [model.name]: result } };
  });
  change({ models: [model], model: model.name, images, revision: state.revision + 1 });
}"""

_DRAG = """async (moves) => {
  const box = document.querySelector(".histogram");
  const { left, top, width } = box.getBoundingClientRect();
  const frame = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  }));
  const times = [];
  for (let move = 0; move < moves; move += 1) {
    await frame();
    const x = left + width * (0.05 + 0.9 * ((move * 37) % moves) / moves);
    const start = performance.now();
    box.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: top + 9, buttons: 1, bubbles: true }));
    await frame();
    times.push(performance.now() - start);
  }
  return times;
}"""

_FIRST_PAINT = """() => performance.getEntriesByName("first-contentful-paint")[0].startTime"""
_BYTES = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""


def load(browser: Browser, address: str) -> tuple[float, float, int]:
    """Milliseconds to the first paint and to the view, and bytes until then."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".drop")
    shown = page.evaluate("() => performance.now()")
    row = page.evaluate(_FIRST_PAINT), shown, page.evaluate(_BYTES)
    context.close()
    return row


def drag(page: Page, address: str) -> tuple[list[float], int]:
    """Milliseconds of each move of the threshold, and requests during all of them."""
    page.goto(address)
    page.wait_for_selector(".drop")
    page.evaluate(_FILL, RESULTS)
    page.evaluate("location.hash = 'decide'")
    page.wait_for_selector(".histogram canvas")
    page.wait_for_timeout(1000)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    return page.evaluate(_DRAG, MOVES), len(requests)


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(sys.argv[1], folder)
        with running_service(Path(folder)) as address, open_browser() as browser:
            loads = [load(browser, address) for _ in range(LOADS)]
            times, requests = drag(browser.new_page(), address)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["what", "unit", "count", "median", "p95", "highest"])
    for what, unit, values in (
        ("first contentful paint", "ms", [row[0] for row in loads]),
        ("first view is there", "ms", [row[1] for row in loads]),
        ("first load", "bytes", [row[2] for row in loads]),
        (f"threshold moved among {RESULTS} results", "ms", times),
    ):
        last = statistics.quantiles(values, n=20, method="inclusive")[-1]
        table.writerow([what, unit, len(values), *(f"{n:.1f}" for n in (statistics.median(values), last, max(values)))])
    table.writerow(["requests while the threshold moved", "", MOVES, requests, requests, requests])


if __name__ == "__main__":
    main()
