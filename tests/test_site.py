"""The documentation site: it builds without a warning, links lead somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import logging
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.report.test_browser import ARGUMENTS, BROWSERS
from tests.test_exports import PACKAGES

build = pytest.importorskip("mkdocs.commands.build", reason="the extra 'docs' is not installed")
config = pytest.importorskip("mkdocs.config", reason="the extra 'docs' is not installed")
pytest.importorskip("material", reason="the extra 'docs' is not installed")
pytest.importorskip("mkdocstrings_handlers.python", reason="the extra 'docs' is not installed")

Pages = dict[str, list[tuple[str, dict[str, str]]]]
ROOT = Path(__file__).parents[1]
TAG = re.compile(r"<(\w+)\b([^>]*)>")
ATTRIBUTE = re.compile(r"""\b(href|src|srcset|id|name|data-base)=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make site`` does, less the search and the colours of code; warnings are errors."""
    out = tmp_path_factory.mktemp("site")
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        settings = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=False)
        settings.plugins.pop("material/search")
        settings.mdx_configs["pymdownx.highlight"]["use_pygments"] = False
        build.build(settings)
    logging.getLogger("mkdocs").removeHandler(handler)
    assert said == []
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> Pages:
    """Return the tags of every page with their attributes."""
    return {
        path.relative_to(site).as_posix(): tags(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def tags(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the tags of a page with those of their attributes that name something."""
    return [
        (tag, {name: a or b or c for name, a, b, c in ATTRIBUTE.findall(attributes)})
        for tag, attributes in TAG.findall(text)
    ]


def test_every_link_leads_to_a_file_and_to_a_place_in_it(site: Path, pages: Pages) -> None:
    places = {page: {a[key] for _, a in found for key in ("id", "name") if key in a} for page, found in pages.items()}
    wrong = []
    for page, found in pages.items():
        if page == "404.html":  # its links are absolute: it is shown wherever nothing is
            continue
        for target in {a[key] for _, a in found for key in ("href", "src") if key in a}:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, place = unquote(target.partition("?")[0]).partition("#")
            file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            if not (site / file).is_file() or (place and file in places and place not in places[file]):
                wrong.append(f"{page}: {target}")
    assert wrong == []
    assert len(pages) > 60


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: Pages) -> None:
    outside = [
        f"{page}: {attributes[LOADED[tag]]}"
        for page, found in pages.items()
        for tag, attributes in found
        if tag in LOADED and re.match(r"(?:https?:)?//", attributes.get(LOADED[tag], ""))
    ]
    outside += [
        str(path)
        for path in site.rglob("*.css")
        if re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text())
    ]
    assert outside == []


def test_every_page_of_docs_is_reached_from_the_menu(pages: Pages) -> None:
    menu = {posixpath.normpath(a["href"]) for tag, a in pages["index.html"] if tag == "a" and "href" in a}
    docs = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in docs if re.sub(r"README\.md$", "index.md", page)[:-2] + "html" not in menu] == []


def test_every_public_name_is_on_a_page_of_the_api(pages: Pages) -> None:
    from importlib import import_module

    shown = {
        a["id"] for page, found in pages.items() if page.startswith(("api/", "pieces")) for _, a in found if "id" in a
    }
    names = [f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__]
    assert [name for name in names if name not in shown and not name.endswith("__version__")] == []
    assert len(names) > 150


def test_the_page_of_a_method_has_its_algorithm_and_its_code(site: Path) -> None:
    for page in (site / "methods").glob("*.html"):
        text = page.read_text()
        if page.name != "index.html":
            assert 'id="algorithm"' in text, page.name
            assert 'id="code"' in text, page.name
    text = (site / "methods/cbst.html").read_text()
    assert "for round r = 0 .. R-1" in text.partition('id="settings"')[0]
    assert "CBSTConfig" in text


def test_docstrings_are_shown_without_the_signs_of_another_tool(site: Path) -> None:
    shown = [*(site / "api").glob("*.html"), site / "pieces.html"]
    text = "".join(page.read_text() for page in shown)
    assert not re.search(r":(?:class|func|meth|mod|data|attr):|(?<!:)::\s*</p>|<blockquote>", text)
    assert text.count("&gt;&gt;&gt;") > 100


def test_lists_are_lists(site: Path) -> None:
    """A list right behind a line of text, or set in by fewer than four places, is a list for GitHub alone."""
    wrong = re.compile(r"<p>(?:(?!</p>).)*?\n(?:[-*]|\d{1,2}\.) ", re.DOTALL)
    pages = {
        page.name: re.sub(r"<pre.*?</pre>", "", page.read_text(), flags=re.DOTALL) for page in site.rglob("*.html")
    }
    assert [name for name, text in pages.items() if wrong.search(text)] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with driver.sync_playwright() as run:
        yield run.chromium.launch(executable_path=found, args=ARGUMENTS)


def test_pages_open_from_a_disk_and_fit_a_phone(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(f"error: {error}"))
    for name in ("index", "methods/best", "settings"):
        page.goto((site / f"{name}.html").as_uri(), wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
