"""The documentation site: it builds without a warning, links lead somewhere, nothing is loaded from elsewhere.

Everything is asked of one build in one test, since several would make each test process build the site.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs_site.pages import algorithm, with_bars

from tests.browsing import started, system_browser
from tests.test_exports import PACKAGES

build = pytest.importorskip("mkdocs.commands.build", reason="the extra 'docs' is not installed")
config = pytest.importorskip("mkdocs.config", reason="the extra 'docs' is not installed")
pytest.importorskip("material", reason="the extra 'docs' is not installed")
pytest.importorskip("mkdocstrings_handlers.python", reason="the extra 'docs' is not installed")

Pages = dict[str, list[tuple[str, dict[str, str]]]]
ROOT = Path(__file__).parents[1]
TAG = re.compile(r"<(\w+)\b([^>]*)>")
ATTRIBUTE = re.compile(r"""\b(href|src|srcset|id|name)=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "link": "href"}
OUTSIDE = re.compile(r"(?:https?:)?//")
SPHINX = re.compile(r":(?:class|func|meth|mod|data|attr):|(?<!:)::\s*</p>|<blockquote>")
NO_LIST = re.compile(r"<p>(?:(?!</p>).)*?\n(?:[-*]|\d{1,2}\.) ", re.DOTALL)
PHONE = 390


def test_the_site_is_whole(tmp_path: Path) -> None:
    assert warnings_of_building(tmp_path) == []
    texts = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    pages = {page: tags(text) for page, text in texts.items()}
    assert len(pages) > 60
    problems = {
        "links that lead nowhere": list(broken_links(tmp_path, pages)),
        "loaded from elsewhere": list(outside(tmp_path, pages)),
        "pages that the menu lacks": list(missing_pages(pages)),
        "public names that no page has": list(missing_names(pages)),
        "methods without algorithm or code": [
            page
            for page in pages
            if page.startswith("methods/") and page != "methods/index.html"
            if not all(f'id="{part}"' in texts[page] for part in ("algorithm", "settings", "code"))
        ],
        "signs of another tool": [
            page for page, text in texts.items() if page.startswith(("api/", "pieces")) and SPHINX.search(text)
        ],
        "escapes that are shown": [page for page, text in texts.items() if re.search(r"<td><code>[^<]*\\\|", text)],
        "lists for GitHub alone": [
            page for page, text in texts.items() if NO_LIST.search(re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL))
        ],
        "in a browser": list(browser_problems(tmp_path)),
    }
    assert {what: found for what, found in problems.items() if found} == {}
    assert "for round r = 0 .. R-1" in texts["methods/cbst.html"].partition('id="settings"')[0]
    assert texts["pieces.html"].count("&gt;&gt;&gt;") > 100


def warnings_of_building(out: Path) -> list[str]:
    """Build the site as ``make site`` does, less the search and the colours of code, and return what it warns of."""
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
    return said


def tags(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the tags of a page with those of their attributes that name something."""
    return [
        (tag, {name: a or b or c for name, a, b, c in ATTRIBUTE.findall(attributes)})
        for tag, attributes in TAG.findall(text)
    ]


def broken_links(site: Path, pages: Pages) -> Iterator[str]:
    """Yield links to files that are not there, and to places that a page does not have."""
    places = {page: {a[key] for _, a in found for key in ("id", "name") if key in a} for page, found in pages.items()}
    for page, found in pages.items():
        if page == "404.html":  # its links are absolute: it is shown wherever nothing is
            continue
        for target in {a[key] for _, a in found for key in ("href", "src") if key in a}:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, place = unquote(target.partition("?")[0]).partition("#")
            file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            if not (site / file).is_file() or (place and file in places and place not in places[file]):
                yield f"{page}: {target}"


def outside(site: Path, pages: Pages) -> Iterator[str]:
    """Yield what pages and style sheets load from other places."""
    for page, found in pages.items():
        loads = [attributes.get(LOADED[tag], "") for tag, attributes in found if tag in LOADED]
        yield from (f"{page}: {address}" for address in loads if OUTSIDE.match(address))
    for path in site.rglob("*.css"):
        if re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text("utf-8")):
            yield path.name


def missing_pages(pages: Pages) -> Iterator[str]:
    """Yield pages of ``docs`` to which the menu of the first page does not lead."""
    menu = {posixpath.normpath(a["href"]) for tag, a in pages["index.html"] if tag == "a" and "href" in a}
    for path in (ROOT / "docs").rglob("*.md"):
        page = re.sub(r"README\.md$", "index.md", path.relative_to(ROOT / "docs").as_posix())
        if f"{page[:-3]}.html" not in menu:
            yield page


def missing_names(pages: Pages) -> Iterator[str]:
    """Yield public names that the pages of the API do not have."""
    shown = {
        a["id"] for page, found in pages.items() if page.startswith(("api/", "pieces")) for _, a in found if "id" in a
    }
    for package in PACKAGES:
        names = (f"{package}.{name}" for name in import_module(package).__all__ if name != "__version__")
        yield from (name for name in names if name not in shown)


def browser_problems(site: Path) -> Iterator[str]:
    """Open pages from the disk on a phone, where there is a browser; yield errors, requests and pages too wide."""
    path = system_browser()
    if path is None:
        return
    with started(path) as browser:
        page = browser.new_page(viewport={"width": PHONE, "height": 800})
        said: list[str] = []
        page.on("request", lambda request: said.append(request.url))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        for name in ("index", "methods/best", "settings"):
            page.goto((site / f"{name}.html").as_uri(), wait_until="load")
            if page.evaluate("document.documentElement.scrollWidth") > PHONE:
                yield f"{name} is wider than a phone"
        assert len(said) > 10
        yield from (one for one in said if not one.startswith(("file:", "data:")))


def test_docstrings_are_rewritten_for_markdown() -> None:
    from docs_site.docstrings import rewritten

    text = rewritten("See :func:`~a.b` of::\n\n    code\n\nExample:\n    >>> 1\n    1")
    assert text == "See `a.b` of:\n\n    code\n\nExamples:\n    >>> 1\n    1"
    assert rewritten("Add.\n\n>>> 1 + 1\n2") == "Add.\n\nExamples:\n    >>> 1 + 1\n    2"


def test_bars_in_the_code_of_tables_lose_their_escape() -> None:
    assert with_bars("| `a \\| b` | c \\| d |\n`e \\| f`") == "| `a | b` | c \\| d |\n`e \\| f`"


def test_the_algorithm_of_a_method_is_the_box_of_its_docstring() -> None:
    lines = algorithm("src/segadapt/methods/cbst.py").splitlines()
    assert lines[0].startswith("Input: source images x_s")
    assert lines[1] == "for round r = 0 .. R-1"
    assert lines[-1].strip().startswith("with crops centred on rare classes")
    assert algorithm("src/segadapt/methods/__init__.py") == ""
