"""Hooks of MkDocs: the site has the folders of the repository, so that a link that works there works here.

MkDocs knows one folder of pages. Here every file has the path that it has in the repository (``docs/speed.md``,
``benchmarks/step.md``), to which links between files are relative; only its address on the site differs. Code and data
that pages link to, pages of the API, and the algorithm and code of the methods are added (:mod:`docs_site.pages`).
"""

from __future__ import annotations

from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from docs_site import api, pages


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Give files of ``docs`` their paths in the repository, and add what is made or lies elsewhere."""
    own = [file for file in files if file.src_dir == config.docs_dir]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    docs = [placed(config, f"docs/{file.src_uri}", file.dest_uri) for file in own]
    return Files([*theme, *docs, *elsewhere(config), *generated(config)])


def placed(config: MkDocsConfig, path: str, address: str) -> File:
    """Return a file of the repository with its address on the site."""
    return File(path, str(pages.ROOT), config.site_dir, use_directory_urls=False, dest_uri=address)


def elsewhere(config: MkDocsConfig) -> Iterator[File]:
    """Yield the files outside ``docs`` that the site shows: pages, code that is linked, and data as they are."""
    yield placed(config, "docs_site/site.css", "stylesheets/site.css")
    for path in pages.pages_elsewhere():
        yield placed(config, path, pages.address(path))
    for path in pages.linked():
        if pages.is_shown(path):
            code = CodeFile(path, None, config.site_dir, use_directory_urls=False, dest_uri=f"{path}.html")
            code.content_string = pages.code_page(path)
            code.inclusion = InclusionLevel.NOT_IN_NAV
            yield code
        else:
            yield placed(config, path, path)


def generated(config: MkDocsConfig) -> Iterator[File]:
    """Yield the pages of the API."""
    for path, text in api.pages().items():
        file = File.generated(config, path, content=text)
        file.dest_uri = pages.address(path)
        yield file


class CodeFile(File):
    """A file of code that becomes a page."""

    def is_documentation_page(self) -> bool:
        """Say that MkDocs shall render it."""
        return True


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put algorithm and code on the page of a method, the pieces on theirs, and mend bars in tables."""
    path, text = page.file.src_uri, pages.with_bars(markdown)
    return api.with_pieces(text) if path == "docs/pieces.md" else pages.with_code(text, path)
