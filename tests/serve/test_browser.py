"""The page in a real browser: files are dropped and chosen, pictures seen, results downloaded; nothing comes from
elsewhere, and the console stays empty."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segadapt.serve import Limits, Server
from tests.browsing import launched
from tests.evaluation.tiny import GreyLevels
from tests.serve.making import HEIGHT, SPACE, WIDTH, get, picture, png, served, serving

DROP = """([target, files]) => {
    const transfer = new DataTransfer();
    for (const [name, content] of files) {
        transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
    }
    for (const kind of ["dragenter", "drop"]) {
        document.querySelector(target).dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true }));
    }
}"""
DROP_FOLDER = """() => {
    const file = (name, path) => ({ isFile: true, name, fullPath: path, file: (done) => done(new File([], name)) });
    const folder = (name, some) => ({ isDirectory: true, name, createReader: () => {
        const parts = [some.slice(0, 1), some.slice(1), []]; // a reader gives a few at a time
        return { readEntries: (done) => done(parts.shift()) };
    } });
    const deep = folder("deep", [file("b.png", "/shots/deep/b.png")]);
    const shots = folder("shots", [file("a.txt", "/shots/a.txt"), file(".x.png", "/shots/.x.png"), deep]);
    const event = new Event("drop", { bubbles: true });
    event.dataTransfer = { items: [{ webkitGetAsEntry: () => shots, getAsFile: () => null }] };
    document.body.dispatchEvent(event);
}"""
"""A browser lets no script drop a folder, so its parts are stand-ins."""
COLOURS = """(id) => {
    const shown = document.getElementById(id), found = {};
    const context = new OffscreenCanvas(shown.width, shown.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(shown, 0, 0);
    const data = context.getImageData(0, 0, shown.width, shown.height).data;
    for (let i = 0; i < data.length; i += 4) {
        const color = data[i + 3] ? data.slice(i, i + 3).join(",") : "none";
        found[color] = (found[color] || 0) + 1;
    }
    return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(Limits(upload=1 << 20, results=6)) as server:
        yield server


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    yield from opened(browser, server, {"width": 1280, "height": 900})


def opened(browser: Any, server: Server, size: dict[str, int], **more: Any) -> Iterator[Any]:
    """Open the page; what it asks for elsewhere and what it complains of fails the test."""
    context = browser.new_context(viewport=size, accept_downloads=True, **more)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    inside = (server.address, f"blob:{server.address}", "data:")
    page.on("request", lambda request: None if request.url.startswith(inside) else problems.append(request.url))
    page.goto(server.address)
    page.get_by_role("heading", name="toy/cbst").wait_for()
    yield page
    refused = "status of 422"  # the browser's own word on an image that was refused, which the page shows
    assert [line for line in problems if refused not in line] == []
    context.close()


def drop(page: Any, **files: bytes) -> None:
    page.evaluate(DROP, ["#drop", [[name, base64.b64encode(content).decode()] for name, content in files.items()]])


def painted(page: Any, labels: np.ndarray) -> dict[str, int]:
    """Return the colours that a prediction is painted in, and the pixels of each."""
    values, counts = np.unique(labels, return_counts=True)
    colours = {k: ",".join(map(str, SPACE.colors[k])) for k in range(len(SPACE))}
    return {colours[int(k)]: int(n) for k, n in zip(values, counts, strict=True)}


def predictions(server: Server, content: bytes) -> list[np.ndarray]:
    image = np.array(Image.open(io.BytesIO(content)))
    return [
        m.predictor.predicted(m.predictor.prepared(image), image.shape[:2]).fetched().labels
        for m in server.served.models
    ]


def test_an_image_is_dropped_and_seen(page: Any, server: Server) -> None:
    content = png(picture(5))
    before, after = predictions(server, content)
    assert page.locator("#lede .badge").inner_text() == "recommended"
    drop(page, **{"<img src=x onerror=alert(1)>.png": content})
    page.get_by_text("1 image", exact=True).wait_for()
    page.locator("#amounts-body tr").first.wait_for()
    assert page.evaluate(COLOURS, "left") == painted(page, before)
    assert page.evaluate(COLOURS, "right") == painted(page, after)
    assert page.evaluate("document.getElementById('base').naturalWidth") == WIDTH
    assert page.locator("#thumbs button").get_attribute("title") == "<img src=x onerror=alert(1)>.png"
    assert page.locator("#differing").inner_text() == f"{100 * (before != after).mean():.1f}%"

    names = page.locator("#amounts-body button").all_inner_texts()
    assert set(names) == {SPACE.names[k] for k in np.unique(np.stack([before, after]))}  # as text, not as markup
    row = page.locator("#amounts-body tr", has_text="dark").locator("td.n").all_inner_texts()
    assert row[:2] == [f"{100 * (label == 0).mean():.1f}%" for label in (before, after)]

    page.get_by_role("button", name="dark", exact=True).click()  # without its colour, and with it again
    colours = page.evaluate(COLOURS, "left")
    assert colours == {
        **{c: n for c, n in painted(page, before).items() if c != "10,20,200"},
        "none": (before == 0).sum(),
    }
    page.get_by_role("button", name="dark", exact=True).click()

    page.click("[data-view=difference]")
    assert page.evaluate(COLOURS, "right") == {**painted(page, after[before != after]), "none": (before == after).sum()}
    flow = page.locator("#flows button").first
    flow.click()
    assert flow.get_attribute("aria-pressed") == "true"
    share = float(flow.inner_text().split()[-1].rstrip("%")) / 100
    assert page.evaluate(COLOURS, "left").get("none") == pytest.approx(
        (1 - share) * before.size, abs=before.size / 1000
    )
    page.click("[data-view=confidence]")
    assert page.locator("#scale").is_visible()
    page.click("[data-view=image]")
    assert not page.locator("#left").is_visible()


def test_a_pixel_is_read_by_mouse_and_keys(page: Any, server: Server) -> None:
    content = png(picture(5))
    before, after = predictions(server, content)
    drop(page, **{"a.png": content})
    page.locator("#amounts-body tr").first.wait_for()
    box = page.locator("#base").bounding_box()
    x, y = 20, 9
    page.mouse.move(box["x"] + (x + 0.5) * box["width"] / WIDTH, box["y"] + (y + 0.5) * box["height"] / HEIGHT)
    said = page.locator("#readout").inner_text().split("\n")
    assert said[0] == f"x {x}, y {y}"
    assert said[1].startswith(f"Source only: {SPACE.names[before[y, x]]} ")
    assert said[2].startswith(f"CBST: {SPACE.names[after[y, x]]} ")
    page.focus("#readout")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("#readout").inner_text().startswith(f"x {x + 2}, y {y + 2}")
    assert page.locator("#cross").is_visible()
    page.focus("#handle")
    page.keyboard.press("End")
    assert page.get_attribute("#handle", "aria-valuetext") == "100% Source only, 0% CBST"
    page.click("[data-layout=side]")
    left, right = (page.locator(f"#{side}").bounding_box() for side in ("left", "right"))
    assert (left["y"], left["width"]) == (right["y"], right["width"])
    assert right["x"] >= left["x"] + left["width"]


def test_a_folder_runs_and_everything_is_downloaded(page: Any, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a2.png", "a10.png", "deep/b.png")):
        (folder / name).write_bytes(png(picture(number)))
    (folder / "damaged.png").write_bytes(png()[:-20])
    (folder / "notes.txt").write_text("no image")
    page.set_input_files("#folder", folder)
    page.get_by_text("3 images").wait_for()
    said = page.locator("#problems li").all_inner_texts()
    assert said[0] == "1 file of the folder is no image and was left out"
    assert said[1].startswith("shots/damaged.png is cut off")
    titles = [page.locator("#thumbs button").nth(i).get_attribute("title") for i in range(4)]
    assert titles == ["shots/a2.png", "shots/a10.png", "shots/damaged.png", "shots/deep/b.png"]
    assert page.evaluate("[...document.querySelectorAll('#thumbs img')].every((image) => image.naturalWidth > 0)")
    page.select_option("#order", "differing")
    shares = [int(text.rstrip("%")) for text in page.locator("#thumbs em").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    page.locator("#thumbs button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#thumbs button").nth(1).get_attribute("aria-pressed") == "true"

    with page.expect_download() as waited:
        page.locator("#downloads a").nth(4).click()
    file = waited.value
    base = page.locator("#thumbs button").nth(1).get_attribute("title").rsplit("/", 1)[1].removesuffix(".png")
    assert file.suggested_filename == f"{base}_adapted.png"
    address = page.locator("#downloads a").nth(4).get_attribute("href")
    assert Path(file.path()).read_bytes() == get(server, f"/{address}")[2]
    with page.expect_download() as waited:
        page.click("#all")
    archive = zipfile.ZipFile(waited.value.path())
    assert {"source/shots/deep/b.png", "adapted/shots/a2_color.png", "summary.json"} < set(archive.namelist())

    page.set_input_files("#images", [folder / name for name in ("a2.png", "a10.png", "deep/b.png")])
    page.get_by_text("5 images").wait_for()  # six results are kept, and one place is taken by the damaged file
    assert "1 of 3 were not taken" in page.locator("#problems li").last.inner_text()
    page.click("#clear")
    assert page.locator("#thumbs button").count() == page.locator("#problems li").count() == 0
    assert not page.locator("#pictures").is_visible()
    page.evaluate(DROP_FOLDER)
    page.get_by_text("shots/deep/b.png is empty").wait_for()
    assert page.locator("#problems li").first.inner_text() == "2 files of the folder are no images and were left out"
    drop(page, **{"large.png": bytes(2 << 20)})
    page.get_by_text("large.png has 2 MB, and 1 MB are taken").wait_for()


def test_on_a_phone_in_the_dark_with_one_model(browser: Any) -> None:
    with serving(of=served(GreyLevels(3, 20.0))) as server:
        look = {"has_touch": True, "is_mobile": True, "color_scheme": "dark"}
        for page in opened(browser, server, {"width": 390, "height": 800}, **look):
            drop(page, **{"a rather long name of an image, without an end in sight.png": png()})
            page.locator("#amounts-body tr").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            for hidden in ("#handle", "#layout", "[data-view=difference]", "#changes", "#right"):
                assert not page.locator(hidden).is_visible()
            assert page.locator("#downloads a").count() == 3
            page.locator("#frame").scroll_into_view_if_needed()
            box = page.locator("#base").bounding_box()
            page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            assert page.locator("#readout").inner_text().startswith("x 24, y 16")


def test_the_page_says_when_nobody_answers(browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    with serving() as server:
        page.goto(server.address)
        page.get_by_role("heading", name="toy/cbst").wait_for()
    drop(page, **{"a.png": png()})
    page.get_by_text("segadapt does not answer any more").wait_for()
    assert page.locator("#stop").inner_text() == "Go on"
    context.close()
