"""The page in a real browser: the handle by mouse, touch and keyboard, the views, and no errors on the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segadapt.report import write_report
from tests.browsing import launched
from tests.report.making import write_run

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())
    page.wait_for_selector("#agreement b")
    yield page
    assert problems == []
    page.close()


def cut(page: Any) -> float:
    """Where the boundary is, in percent of the width, read from the pictures themselves."""
    clips = page.evaluate("['left', 'right'].map(id => getComputedStyle(document.getElementById(id)).clipPath)")
    right = float(clips[1].removeprefix("inset(").removesuffix(")").split()[-1].removesuffix("%"))
    handle, frame = page.locator("#handle").bounding_box(), page.locator("#frame").bounding_box()
    middle = handle["x"] + handle["width"] / 2 - frame["x"]
    assert 100 * middle / frame["width"] == pytest.approx(right, abs=0.3)
    return right


def test_dragging_with_the_mouse(page: Any) -> None:
    assert cut(page) == pytest.approx(50)
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=4)
    assert cut(page) == pytest.approx(80, abs=1)
    page.mouse.move(box["x"] + 2 * box["width"], y)
    assert cut(page) == pytest.approx(100)
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.up()
    page.mouse.move(x, y)
    assert cut(page) == pytest.approx(20, abs=1)
    assert page.get_attribute("#handle", "aria-valuenow") == "20"


def test_keys(page: Any) -> None:
    page.focus("#handle")
    for key, expected in (("ArrowLeft", 48), ("ArrowRight", 50), ("Shift+ArrowRight", 60), ("End", 100), ("Home", 0)):
        page.keyboard.press(key)
        assert cut(page) == pytest.approx(expected)
    assert page.get_attribute("#handle", "aria-valuetext") == "0% Source only, 100% CBST"


def test_touch(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 420, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("#agreement b")
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    assert cut(page) == pytest.approx(25, abs=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    context.close()


def test_views_pictures_and_opacity(page: Any) -> None:
    assert page.locator("#agreement").inner_text().endswith("CBST 100.0%")
    shown = page.get_attribute("#left", "src")
    page.click("[data-view=mistakes]")
    page.wait_for_function("shown => document.getElementById('left').src !== shown", arg=shown)
    assert page.get_attribute("#left", "src").startswith("data:image/png")
    page.click("[data-view=truth]")
    assert page.locator("#left-tag").inner_text() == "Truth"
    assert not page.locator("#handle").is_visible()
    page.click("[data-view=image]")
    assert not page.locator("#left").is_visible()
    page.click("[data-view=label]")
    assert page.locator("#left").is_visible()
    before = page.get_attribute("#base", "src")
    page.click("#thumbs button:nth-child(2)")
    assert page.get_attribute("#base", "src") != before
    page.fill("#opacity", "20")
    assert page.evaluate("getComputedStyle(document.getElementById('right')).opacity") == "0.2"
    assert page.locator("#opacity-value").inner_text() == "20%"


def test_rounds_and_sorting(page: Any) -> None:
    assert page.locator(".round:visible h3").inner_text() == "CBST, round 1"
    page.click("[data-rounds] button:nth-child(2)")
    assert page.locator(".round:visible h3").inner_text() == "CBST, round 2"
    pictures = page.locator(".round:visible img")
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") > 0 for i in range(pictures.count()))
    page.select_option("#sort", "order")
    assert page.locator(".classes tbody th").all_inner_texts()[0] == "road"
    page.select_option("#sort", "gain")
    assert page.locator(".classes tbody th").all_inner_texts()[0] == "sky & <b>cloud</b>"


def test_picking_classes_of_the_features(page: Any) -> None:
    """A pressed class stays, the others fade, in every panel; pressed again all are back."""
    pytest.importorskip("sklearn")

    def strengths() -> list[str]:
        page.wait_for_timeout(400)
        paths = page.locator("#features .scatter path")
        return [paths.nth(i).evaluate("p => getComputedStyle(p).strokeOpacity") for i in range(paths.count())]

    assert strengths() == ["0.8"] * 4
    page.click("#features button[data-class='1']")
    assert strengths() == ["0.07", "0.8", "0.07", "0.8"]
    assert page.get_attribute("#features button[data-class='1']", "aria-pressed") == "true"
    page.click("#features button[data-class='0']")
    assert strengths() == ["0.8"] * 4
    for number in (0, 1):
        page.click(f"#features button[data-class='{number}']")
    assert page.locator("#features .picked").count() == 0
    boxes = [page.locator("#features .scatter").nth(i).bounding_box() for i in range(2)]
    assert all(box["width"] == pytest.approx(box["height"], abs=1) and box["width"] > 200 for box in boxes)
    assert boxes[0]["y"] == boxes[1]["y"]


def test_maps_of_prototypes_are_seen(page: Any) -> None:
    pictures = page.locator("#prototypes img")
    assert pictures.count() == 6
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") > 0 for i in range(6))
    bars = page.locator("#prototypes .stack")
    assert bars.count() == 2
    whole = bars.nth(0).bounding_box()["width"]
    parts = [bars.nth(0).locator("rect").nth(k).evaluate("r => r.getBBox().width") for k in range(2)]
    assert parts == pytest.approx([0.75 * whole, 0.25 * whole], rel=0.02)


def test_a_narrow_page_does_not_scroll_sideways(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    heads = page.locator("#curves figcaption")
    assert all(heads.nth(i).bounding_box()["height"] < 90 for i in range(heads.count()))
    page.close()


def test_a_class_is_shown_without_its_colour(page: Any) -> None:
    """Pixels of the class become transparent, those of others stay; the share of right pixels does not change."""
    shown = """() => createImageBitmap(document.getElementById("right")).then((image) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, image.width, image.height).data, found = {};
        for (let i = 0; i < data.length; i += 4) {
            const color = data[i + 3] < 128 ? "none" : data.slice(i, i + 3).join(",");
            found[color] = (found[color] || 0) + 1;
        }
        return found;
    })"""
    before, said = page.evaluate(shown), page.text_content("#agreement")
    color = next(c for c in before if c != "none")
    source = page.get_attribute("#right", "src")
    page.click(f'#class-legend button[data-color="{color}"]')
    page.wait_for_function("(old) => document.getElementById('right').src !== old", arg=source)
    page.wait_for_function("() => document.getElementById('right').complete")
    after = page.evaluate(shown)
    assert after.pop("none") == before.get("none", 0) + before.pop(color)
    before.pop("none", None)
    assert after == before
    assert page.text_content("#agreement") == said
    page.click(f'#class-legend button[data-color="{color}"]')
    page.wait_for_function("(old) => document.getElementById('right').src === old", arg=source)
