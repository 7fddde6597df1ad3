"""The page of the service as a person uses it, in Chromium: by mouse, by keyboard alone, and in both themes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import binomtest

import oddsight
from browser import NODE, missing, needs_browser, needs_service, open_browser, running_service
from oddsight.model.events import Event
from oddsight.watch.zone_files import read_zones, write_zones
from oddsight.watch.zones import Zone, Zones
from textures import texture

if not missing():
    from playwright.sync_api import Browser, Page, expect

    expect.set_options(timeout=120_000)

pytestmark = [pytest.mark.slow, needs_browser, needs_service]

BROKEN = 2
LONG = 240_000  # Milliseconds: machines may be busy


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """60 images, of which every fifth has a blot and two are broken."""
    folder = tmp_path_factory.mktemp("dropped")
    for number in range(60):
        Image.fromarray(texture(1000 + number, 64, 64, blot=number % 5 == 0)).save(folder / f"{number:03}.png")
    for number in (7, 33):
        path = folder / f"{number:03}.png"
        path.write_bytes(path.read_bytes()[:900])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two models, with small copies of normal images."""
    folder = tmp_path_factory.mktemp("models")
    normal = [texture(number, 64, 64) for number in range(60)]
    oddsight.fit(normal, method="patchcore", size=64, false_alarm_rate=0.05).save(folder / "cloth.onnx")
    oddsight.fit(normal, method="knn", size=64, false_alarm_rate=0.05).save(folder / "cloth-knn.onnx")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(models, tmp_path_factory) -> Iterator[str]:
    with running_service(models, tmp_path_factory.mktemp("workspace")) as address:
        yield address


@pytest.fixture
def page(browser, service) -> Iterator[Page]:
    """A first visit; fails if the page complains, or asks anything of another host."""
    complaints: list[str] = []
    context = browser.new_context(base_url=service, viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(LONG)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: None if at_home(request.url, service) else complaints.append(request.url))
    opened.goto(service)
    opened.wait_for_selector(".drop")
    opened.select_option(".model select", "cloth")  # other tests train models
    yield opened
    context.close()
    assert complaints == []


def at_home(url: str, service: str) -> bool:
    return url.startswith((service, "blob:", "data:"))


def drop(page: Page, files: list[Path]) -> None:
    """Drop files on the page and wait until they are scored."""
    page.set_input_files("input[aria-label=Images]", files)
    page.wait_for_selector(".card")
    page.wait_for_selector(".meter", state="detached")


def show(page: Page, view: str) -> None:
    page.get_by_role("link", name=view, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(view)


def figure(page: Page, name: str) -> str:
    return page.locator(f"[data-figure={name}]").inner_text()


def test_dropped_images_get_what_the_command_says(page, images, models):
    drop(page, images)
    expect(page.get_by_role("button", name=re.compile("^Not scored"))).to_have_text(f"Not scored {BROKEN}")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^All"))).to_have_text(f"All {len(images)}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    model = oddsight.load(models / "cloth.onnx")
    said = {line["path"]: line for line in lines}
    assert sum("error" in line for line in lines) == BROKEN
    for path in images[::6]:
        if "error" not in said[path.name]:
            result = model.predict(path)
            assert said[path.name]["score"] == result.score
            assert (said[path.name]["p_value"], said[path.name]["verdict"]) == (result.p_value, result.verdict)


def test_images_that_the_service_did_not_answer_are_scored_again(browser, service, images):
    context = browser.new_context(base_url=service)
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto(service)
    page.wait_for_selector(".drop")
    page.select_option(".model select", "cloth")
    page.route("**/*:predict?*", lambda route: route.abort())
    drop(page, images[:4])
    expect(page.get_by_role("button", name="Not scored 4")).to_be_visible()
    page.unroute("**/*:predict?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name=re.compile("^(Not scored|Try again)"))).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^All"))).to_have_text("All 4")
    context.close()


def test_files_are_dropped_by_mouse(page, images):
    data = page.evaluate_handle(
        """(files) => { const data = new DataTransfer();
        for (const [name, text] of files) data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))],
          name, { type: "image/png" })); return data; }""",
        [[path.name, encoded(path)] for path in images[:3]],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": data})
    expect(page.locator(".card")).to_have_count(3)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_the_gallery_is_sorted_and_holds_only_what_is_in_view(page, images):
    drop(page, [path for path in images if path.stem not in ("007", "033")])
    shown = [float(text.split()[-1]) for text in page.locator(".card .says").all_inner_texts()]
    assert shown == sorted(shown)
    assert 0 < len(shown) < len(images) - BROKEN
    page.focus(".gallery")
    page.keyboard.press("End")
    last = page.locator('.card[aria-selected="true"]')
    expect(last).to_have_attribute("aria-posinset", str(len(images) - BROKEN))
    expect(page.get_by_role("complementary", name="Image")).to_contain_text("p-value")


def test_a_threshold_is_dragged_without_any_request(page, images):
    drop(page, images)
    show(page, "Decide")
    before, box = figure(page, "flagged"), page.locator(".histogram").bounding_box()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.mouse.move(box["x"] + 200, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 15, box["y"] + 40, steps=8)
    page.mouse.up()
    assert int(figure(page, "flagged")) > int(before)
    flips = int(figure(page, "flips").split()[0])
    assert flips == int(figure(page, "flagged")) - int(before)
    assert requests == []


def test_a_threshold_is_saved_and_outlives_a_restart(browser, models, images, tmp_path):
    with running_service(models, tmp_path / "workspace") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".drop")
        show(page, "Decide")
        page.get_by_role("slider").focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        rate = figure(page, "rate")
        page.get_by_role("button", name="Save as a new version").click()
        page.get_by_text("Saved as a new version").wait_for()
    with running_service(models, tmp_path / "workspace") as address:
        page.goto(address)
        page.wait_for_selector(".drop")
        show(page, "Decide")
        assert figure(page, "rate") == rate
        assert rate in page.locator(".model").inner_text()
        page.close()


def test_training_by_keyboard_alone(page, images, tmp_path):
    """Tab, arrows, Enter and Space only; the file dialogue is the system's."""
    press_until(page, "Tab", lambda: named(page) == "Train")
    page.keyboard.press("Enter")
    with page.expect_file_chooser() as chooser:
        press_until(page, "Tab", lambda: named(page) == "Choose images")
        page.keyboard.press("Enter")
    chooser.value.set_files([path for path in images if int(path.stem) % 5])
    expect(page.get_by_text("images checked")).to_be_visible()
    expect(page.get_by_text("not read, and left out")).to_be_visible()
    press_until(page, "Tab", lambda: focused(page, "type") == "text")
    page.keyboard.type("by-keys")
    press_until(page, "Tab", lambda: focused(page, "type") == "radio")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    press_until(page, "Tab", lambda: (named(page), focused(page, "tagName")) == ("Train", "BUTTON"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="by-keys is ready")).to_be_visible()
    press_until(page, "Tab", lambda: named(page) == "Look at images with it")
    page.keyboard.press("Enter")
    assert page.locator(".model select").input_value() == "by-keys"


def press_until(page: Page, key: str, reached) -> None:
    for _ in range(80):
        if reached():
            return
        page.keyboard.press(key)
    raise AssertionError(f"the keyboard does not get there; it is at {named(page)!r}")


def named(page: Page) -> str:
    return (focused(page, "innerText") or "").strip()


def focused(page: Page, name: str) -> str | None:
    return page.evaluate("name => document.activeElement[name] ?? null", name)


def test_200_images_and_a_folder_are_looked_at(page, tmp_path):
    """Two of them are broken; each is an error of its own, with its name."""
    for number in range(200):
        Image.fromarray(texture(number, 32, 32, blot=number % 20 == 0)).save(tmp_path / f"part-{number:03}.png")
    (tmp_path / "part-050.png").write_bytes((tmp_path / "part-050.png").read_bytes()[:300])
    (tmp_path / "part-111.png").write_bytes(b"not an image at all")
    (tmp_path / "line 2" / "today").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(texture(500 + number, 32, 32)).save(tmp_path / "line 2" / "today" / f"{number}.png")
    drop(page, sorted(tmp_path.glob("*.png")))
    page.set_input_files("input[aria-label=Folder]", tmp_path / "line 2")
    expect(page.get_by_role("button", name=re.compile("^All"))).to_have_text("All 205")
    page.get_by_role("button", name="Not scored 2").click()
    errors = page.locator(".card")
    expect(errors).to_have_count(2)
    assert sorted(errors.locator(".name").all_inner_texts()) == ["part-050.png", "part-111.png"]
    errors.filter(has_text="part-111.png").click()
    expect(page.get_by_role("complementary", name="Image").locator(".bad")).to_contain_text("not an image")
    page.get_by_role("button", name=re.compile("^All")).click()
    page.locator("label", has_text="Order").locator("select").select_option("name")
    expect(page.locator(".card .name").first).to_have_attribute("title", "line 2/today/0.png")
    assert page.locator(".card").count() < 205
    show(page, "Decide")
    slider = page.get_by_role("slider")
    before, flagged = float(slider.get_attribute("aria-valuenow")), int(figure(page, "flagged"))
    slider.focus()
    for _ in range(4):
        page.keyboard.press("PageDown")
    assert float(slider.get_attribute("aria-valuenow")) < before
    assert int(figure(page, "flagged")) > flagged
    assert page.get_by_text(f"of 203 images here, up from {flagged}").is_visible()


def test_a_model_is_evaluated(page, images):
    before = sets(page)
    show(page, "Evaluate")
    readable = [path for path in images if path.stem not in ("007", "033")]
    page.set_input_files("input[aria-label=Images]", [path for path in images if int(path.stem) % 5])
    expect(page.get_by_role("heading", name="Now drop anomalous images here")).to_be_visible()
    page.set_input_files("input[aria-label=Images]", [path for path in images if int(path.stem) % 5 == 0])
    heading = page.get_by_role("heading", name="cloth detects")
    heading.wait_for()
    assert heading.inner_text().endswith("of 12 anomalous images")
    facts = page.locator(".facts").inner_text()
    assert f"of {len(readable) - 12} images" in facts
    assert "with 95% confidence" in facts
    page.get_by_text("2 not read").click()
    assert page.locator(".names li").first.inner_text().startswith("007.png")
    expect(page.frame_locator("iframe.report").locator("h1")).to_contain_text("cloth")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the report").first.click()
    assert Path(download.value.path()).read_text().startswith("<!DOCTYPE html>")
    expect(page.locator("tbody tr")).to_have_count(1)
    wait_until(page, lambda: sets(page) <= before)
    page.get_by_role("button", name="Evaluate again").click()
    expect(page.get_by_role("heading", name="First, drop normal images here")).to_be_visible()


def test_images_of_a_training_that_is_given_up_are_removed(page, images):
    before = sets(page)
    show(page, "Train")
    page.set_input_files("input[aria-label=Images]", images[1:5])
    page.get_by_role("button", name="Other images").click()
    expect(page.get_by_role("heading", name="Drop normal images here")).to_be_visible()
    wait_until(page, lambda: sets(page) <= before)


def sets(page: Page) -> set[str]:
    """Names of the sets of images that the service keeps."""
    return {one["upload"] for one in page.request.get("/api/uploads").json()["uploads"]}


def wait_until(page: Page, reached: Callable[[], bool]) -> None:
    """Wait for something that the page does in the background."""
    for _ in range(LONG // 100):
        if reached():
            return
        page.wait_for_timeout(100)
    raise AssertionError("the page did not do it in time")


def test_the_whole_way_by_keyboard_alone(browser, images, tmp_path):
    """From an empty folder: drop, train, threshold, feedback and export; only the file dialogue is the system's."""
    (tmp_path / "models").mkdir()
    normal = [path for path in images if int(path.stem) % 5]
    with running_service(tmp_path / "models", tmp_path / "workspace") as address:
        page = browser.new_page()
        page.set_default_timeout(LONG)
        page.goto(address)
        page.get_by_role("heading", name="No model yet").wait_for()
        press(page, "Train a model")
        choose_files(page, "Choose images", normal[:20])
        expect(page.get_by_text("images checked")).to_be_visible()
        press_until(page, "Tab", lambda: focused(page, "type") == "text")
        page.keyboard.type("cloth")
        press_until(page, "Tab", lambda: focused(page, "type") == "radio")
        for _ in range(4):  # to knn, which is quick
            page.keyboard.press("ArrowDown")
        press(page, "Train", "BUTTON")
        expect(page.get_by_role("heading", name="cloth is ready")).to_be_visible()
        press(page, "Look at images with it")

        choose_files(page, "Choose images", normal[20:30] + images[::5])
        page.wait_for_selector(".card")
        page.wait_for_selector(".meter", state="detached")
        press_until(page, "Tab", lambda: page.evaluate("document.activeElement.className === 'gallery'"))
        page.keyboard.press("Home")
        press_until(page, "Tab", lambda: named(page).startswith(("Missed", "False alarm")))
        page.keyboard.press("Enter")
        expect(page.get_by_text(re.compile("^You said:"))).to_be_visible()

        press(page, "Decide")
        press_until(page, "Tab", lambda: focused(page, "role") == "slider")
        page.keyboard.press("ArrowLeft")
        rate = figure(page, "rate")
        press(page, "Save as a new version")
        page.get_by_text("Saved as a new version").wait_for()

        press(page, "Look")
        with page.expect_download() as download:
            press(page, "Export")
        lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        saved = page.request.get(f"{address}api/models/cloth").json()
        trail = page.request.get(f"{address}api/feedback").json()["items"]
        page.close()
    scored = [line for line in lines if "error" not in line]
    assert (len(lines), len(scored)) == (22, 21)
    assert all(line["anomalous"] == (line["score"] > saved["threshold"]) for line in scored)
    assert len(saved["versions"]) == 2
    assert float(rate.rstrip("%")) == pytest.approx(100 * saved["false_alarm_rate"], abs=0.6)
    assert len(trail) == 1


def press(page: Page, name: str, tag: str | None = None) -> None:
    """Go to a control by its name, and press it."""
    press_until(page, "Tab", lambda: named(page) == name and tag in (None, focused(page, "tagName")))
    page.keyboard.press("Enter")


def choose_files(page: Page, name: str, files: list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, name)
    chooser.value.set_files(files)


def test_teaching_and_its_trail(page, images):
    drop(page, images[:40])
    show(page, "Teach")
    asked = page.locator("section", has=page.get_by_role("heading", name="Is this normal?"))
    asked.get_by_role("button", name="Draw 10 images").click()
    asked.get_by_role("button", name=re.compile(": Normal$")).first.wait_for()
    for left in reversed(range(asked.locator("li").count())):
        asked.get_by_role("button", name=re.compile(": Normal$")).first.click()
        expect(asked.locator("li")).to_have_count(left)
    trail = page.locator("section", has=page.get_by_role("heading", name="What was said"))
    expect(trail.get_by_role("button", name="Undo").first).to_be_visible()
    count = trail.get_by_role("button", name="Undo").count()
    trail.get_by_role("button", name="Undo").first.click()
    expect(trail.get_by_text("undone")).to_be_visible()
    assert count > 1
    asked.get_by_role("button", name=re.compile(": Normal$")).first.click()
    page.get_by_role("button", name="See what would change").click()
    expect(page.locator(".preview")).to_contain_text("→ 10 images")
    expect(page.get_by_role("button", name="Save as a new version")).to_be_visible()


def test_two_models_are_compared(page, images):
    drop(page, images)
    show(page, "Compare")
    page.get_by_label("Other model").select_option("cloth-knn")  # other tests train models
    page.get_by_role("button", name=re.compile("^Score")).click()
    expect(page.get_by_role("heading", name=re.compile("^They differ on"))).to_be_visible()
    cells = [int(text) for text in page.locator(".cross td").all_inner_texts()]
    assert sum(cells) == len(images) - BROKEN
    given = float(re.search(r"p ([0-9.e-]+)\. It says", page.locator(".panel").first.inner_text()).group(1))
    assert given == pytest.approx(mcnemar_of(cells[1], cells[2]), abs=0.006)
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images]
    order = {"models": ["cloth", "cloth-knn"], "contents": contents}
    said = page.request.post("/api/compare", data=order).json()
    assert [said["only_first"], said["only_second"]] == cells[1:3]
    assert given == pytest.approx(said["p_value"], abs=0.006)


def mcnemar_of(only_first: int, only_second: int) -> float:
    flips = only_first + only_second
    return float(binomtest(only_first, flips).pvalue) if flips else 1.0


def test_a_model_that_somebody_else_replaces_scores_all_images_anew(page, images, models):
    def bring(name):
        page.request.put("/api/models/shared", data=(models / f"{name}.onnx").read_bytes())

    bring("cloth")
    page.reload()
    page.select_option(".model select", "shared")
    drop(page, images[:4])
    bring("cloth-knn")
    drop(page, images[4:5])
    expect(page.locator(".model .soft")).to_contain_text("knn")
    page.wait_for_selector(".meter", state="detached")
    expect(page.locator(".card .says").filter(has_text=re.compile(r"\d"))).to_have_count(5)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    model = oddsight.load(models / "cloth-knn.onnx")
    assert {line["path"]: line["score"] for line in lines} == {
        path.name: model.predict(path).score for path in images[:5]
    }


def test_history_and_an_empty_watch(page, images):
    drop(page, images[:5])
    show(page, "History")
    expect(page.locator(".chart canvas").first).to_be_visible()
    page.get_by_role("button", name="all", exact=True).click()
    expect(page.locator(".results tbody tr").first).to_be_visible()
    show(page, "Watch")
    expect(page.get_by_role("heading", name="Nothing is being watched")).to_be_visible()


def test_events_are_live_and_zones_are_moved_by_keys(browser, models, tmp_path):
    place = tmp_path / "workspace" / "watch" / "gate"
    (place / "frames").mkdir(parents=True)
    Image.fromarray(texture(3, 160, 90)).save(place / "frames" / "1.jpg")
    event = Event("1", "anomaly", "new", "gate", None, 12.0, None, 12.5, 30, 4.2, 0.01)
    (place / "events.jsonl").write_text(json.dumps(event.to_json()) + "\n")
    zone = Zone("gate", ((0.1, 0.3), (0.6, 0.3), (0.6, 0.9), (0.1, 0.9)), alarms_per_hour=0.5)
    write_zones(place / "zones.json", Zones([zone]))
    with running_service(models, tmp_path / "workspace") as address:
        page = browser.new_page()
        page.set_default_timeout(LONG)
        page.goto(f"{address}#watch")
        expect(page.locator(".events li")).to_contain_text("goes on")
        page.locator(".frame img").wait_for()
        with (place / "events.jsonl").open("a") as file:
            file.write(json.dumps(replace(event, state="end", end=20.0).to_json()) + "\n")
        expect(page.locator(".events li")).to_contain_text("for 8 s")
        expect(page.locator(".events li")).to_have_count(1)
        page.get_by_role("button", name="Corner 1 of gate: 10% across, 30% down").focus()
        for key in ("ArrowRight", "Shift+ArrowDown", "Insert"):
            page.keyboard.press(key)
        page.get_by_role("button", name="Add a zone").click()
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_text("Zones saved").wait_for()
        page.close()
    first, second = read_zones(place / "zones.json")
    assert first.polygon[0] == (0.11, 0.35)
    assert len(first.polygon) == 5
    assert first.alarms_per_hour == 0.5
    assert len(second.polygon) == 4


@pytest.mark.skipif(not (NODE / "axe-core").is_dir(), reason="run 'npm ci' in tests/node")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_issue(browser, service, images, theme):
    context = browser.new_context(color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto(service)
    page.wait_for_selector(".drop")
    page.add_script_tag(path=NODE / "axe-core" / "axe.min.js")
    found = audit(page, "first visit")
    drop(page, images)
    page.focus(".gallery")
    page.get_by_role("complementary", name="Image").get_by_text("p-value").wait_for()
    found += audit(page, "Look")
    for view in ("Decide", "Train", "Evaluate", "Teach", "Compare", "History", "Watch"):
        show(page, view)
        page.wait_for_timeout(1500)
        found += audit(page, view)
    context.close()
    assert found == []


def audit(page: Page, view: str) -> list[str]:
    issues = page.evaluate("async () => (await axe.run()).violations")
    serious = [issue for issue in issues if issue["impact"] in ("serious", "critical")]
    return [f"{view}: {issue['help']}: {node['html'][:200]}" for issue in serious for node in issue["nodes"]]


@pytest.mark.parametrize("view", ["look", "decide", "train", "evaluate", "teach", "compare", "history", "watch"])
def test_nothing_is_wider_than_a_phone(browser, service, images, view):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto(service)
    page.wait_for_selector(".drop")
    drop(page, images[:8])
    page.evaluate("view => { location.hash = view; }", view)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_theme_is_switched_and_kept(browser, service):
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.goto(service)
    page.get_by_role("button", name="Use the dark theme").click()
    page.reload()
    page.wait_for_selector(".drop")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    context.close()
