"""A page in which a model runs by itself: its scores are those of the command, and it reaches nothing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

import oddsight
from browser import NODE, missing, needs_browser, needs_service, open_browser, running_service
from cli_files import run
from oddsight.errors import OddsightError
from oddsight.serve.standalone import find_runtime
from textures import texture
from web_pages import Page as Html

ROOT = Path(__file__).parents[2]
REAL = ROOT / "examples" / "landsat-clouds" / "images"
RUNTIME = NODE / "onnxruntime-web"
UNKNOWN = 8  # Images that the model does not learn from: its own scores would tie with those of calibration

if not missing():
    from playwright.sync_api import Browser, Page, expect

    expect.set_options(timeout=120_000)

needs_runtime = pytest.mark.skipif(not RUNTIME.is_dir(), reason="run 'npm ci' in tests/node")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ground.onnx"
    normal = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(REAL.iterdir())[UNKNOWN:]]
    oddsight.fit(normal, method="patchcore", size=96, false_alarm_rate=0.2).save(path)
    return path


@pytest.fixture(scope="module")
def written(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "ground.html"
    done = run("report", model, "--standalone", "-o", path, "--runtime", RUNTIME)
    assert done.code == 0, done.err
    return path


def test_a_missing_runtime_is_one_sentence(tmp_path):
    with pytest.raises(OddsightError, match="npm pack onnxruntime-web"):
        find_runtime(tmp_path)


def test_only_standalone_is_offered(model, tmp_path):
    done = run("report", model, "-o", tmp_path / "page.html", "--runtime", tmp_path)
    assert done.code == 2
    assert "--standalone" in done.err


@pytest.mark.slow
@needs_runtime
def test_the_page_names_no_other_place(written):
    page = Html(written.read_text())
    names = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert names == []
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "http" not in policy


@needs_runtime
@pytest.mark.slow
def test_the_same_model_gives_the_same_page(model, written, tmp_path):
    assert run("report", model, "--standalone", "-o", tmp_path / "again.html", "--runtime", RUNTIME).code == 0
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(browser, written) -> Page:
    """The page, opened as a file, on a computer that is offline."""
    opened = browser.new_context(offline=True).new_page()
    opened.set_default_timeout(240_000)
    opened.goto(written.as_uri())
    opened.wait_for_selector(".drop")
    return opened


@pytest.mark.slow
@needs_browser
@needs_runtime
def test_real_images_get_the_scores_of_the_command(page, model, tmp_path):
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    score_real_images(page, model, tmp_path)
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


def score_real_images(page: Page, model: Path, folder: Path) -> None:
    """Drop images that the model does not know, and compare what the page exports with what the command says."""
    files = sorted(REAL.iterdir())[:UNKNOWN]
    for number, file in enumerate(files[:3]):
        Image.open(file).convert("RGB").save(folder / f"jpeg-{number}.jpg", quality=90)
        files.append(folder / f"jpeg-{number}.jpg")
    page.set_input_files("input[aria-label=Images]", files)
    page.wait_for_selector(".card")
    page.wait_for_selector(".meter", state="detached")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    said = {line["path"]: line for line in map(json.loads, Path(download.value.path()).read_text().splitlines())}
    loaded = oddsight.load(model)
    for file in files:
        result = loaded.predict(file)
        assert said[file.name]["score"] == pytest.approx(result.score, rel=1e-5)
        assert said[file.name]["p_value"] == pytest.approx(result.p_value, rel=1e-9)
        assert said[file.name]["verdict"] == result.verdict
        assert said[file.name]["nearest"] == result.nearest


@pytest.mark.slow
@needs_service
@needs_browser
@needs_runtime
def test_the_page_of_the_service_scores_by_itself(browser, model, tmp_path):
    """What goes to the service are requests for the model and its parts, none of which has a body."""
    sent: list[str] = []
    complaints: list[str] = []
    with running_service(model.parent, tmp_path / "workspace", "--runtime", RUNTIME) as address:
        page = browser.new_page(base_url=address)
        page.set_default_timeout(240_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto("/")
        page.get_by_label("Score in this browser").check()
        page.reload()  # the choice is kept
        expect(page.get_by_label("Score in this browser")).to_be_checked()
        page.on("request", lambda request: sent.append(f"{request.method} {request.post_data}"))
        score_real_images(page, model, tmp_path)
        assert set(sent) == {"GET None"}
        assert page.request.get("/api/history").json()["items"] == []
        page.get_by_role("button", name="Clear").click()
        page.get_by_label("Score in this browser").uncheck()
        page.set_input_files("input[aria-label=Images]", sorted(REAL.iterdir())[:2])
        page.wait_for_selector(".card")
        page.wait_for_selector(".meter", state="detached")
        assert len(page.request.get("/api/history").json()["items"]) == 2
    assert complaints == []


@needs_service
@pytest.mark.slow
def test_without_the_runtime_nothing_is_offered(model):
    with running_service(model.parent) as address:
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{address}page/runtime/ort.wasm.bundle.min.mjs")
        assert json.load(urlopen(f"{address}api/status"))["browser"] is False


def with_alpha(pixels: np.ndarray) -> Image.Image:
    alpha = np.random.default_rng(0).integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))


FORMS = {
    "rgb": Image.fromarray,
    "grey": lambda pixels: Image.fromarray(pixels).convert("L"),
    "palette": lambda pixels: Image.fromarray(pixels).quantize(32),
    "transparent": with_alpha,
    "bits": lambda pixels: Image.fromarray(pixels).convert("1"),
}


@pytest.mark.slow
@needs_browser
@needs_runtime
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [{}, {"gamma": True}])
def test_png_pixels_are_those_of_pillow(page, form, chunk):
    from PIL.PngImagePlugin import PngInfo

    file, info = io.BytesIO(), PngInfo()
    if chunk:
        info.add(b"gAMA", (100_000).to_bytes(4, "big"))  # which would change colours if it were applied
    FORMS[form](texture(5, 70, 50)).save(file, "PNG", pnginfo=info)
    values = page.evaluate(
        """async (text) => { const { decodeRgb } = await import("page/decode.js");
        const file = new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]);
        const { width, height, pixels } = await decodeRgb(file); return { width, height, pixels: [...pixels] }; }""",
        base64.b64encode(file.getvalue()).decode(),
    )
    expected = oddsight.data.images.as_image(Image.open(io.BytesIO(file.getvalue())))
    found = np.array(values["pixels"], np.uint8).reshape(values["height"], values["width"], 3)
    assert np.array_equal(found, expected)


@pytest.mark.slow
@needs_browser
@needs_runtime
def test_what_a_browser_reads_otherwise_is_refused(page, tmp_path):
    Image.fromarray(np.full((40, 40), 4000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(texture(1, 40, 40)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    page.set_input_files("input[aria-label=Images]", [tmp_path / "deep.png", tmp_path / "cmyk.jpg"])
    page.get_by_role("button", name="Not scored 2").wait_for()
    assert page.get_by_role("button", name="Try again").count() == 0
