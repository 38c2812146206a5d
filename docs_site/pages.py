"""Texts of pages that come from other files of the repository: code that pages link to, and boxes of methods."""

from __future__ import annotations

import ast
import posixpath
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from segadapt.methods.catalogue import OWN

ROOT = Path(__file__).resolve().parents[1]
LEXERS = {".py": "python", ".yaml": "yaml", ".sh": "bash"}
"""Languages of files that are shown as pages, up to this many bytes; other files are copied."""
LARGEST = 100_000
FOLDERS = ("benchmarks", "examples")
"""Folders beside ``docs`` whose pages are on the site."""
LINK = re.compile(r"\]\(([^)#\s]+)[^)\s]*\)")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
TABLE_CODE = re.compile(r"^\|.*`.*$", re.MULTILINE)
SETTINGS = re.compile(r"^<!-- begin settings (\w+)", re.MULTILINE)


def pages_elsewhere() -> list[str]:
    """Return the paths of the pages outside ``docs``, but for the README, in whose place the home page is."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    found += [path for path in ROOT.glob("*.md") if path.name != "README.md"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def address(path: str) -> str:
    """Return where a page of the repository lies on the site: without ``docs``, README as the index of its folder."""
    return re.sub(r"(^|/)README\.html$", r"\1index.html", f"{path.removeprefix('docs/').removesuffix('.md')}.html")


def linked() -> list[str]:
    """Return the paths of files outside ``docs`` that pages link to, other than pages."""
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    found = {target for page in [*pages, *pages_elsewhere()] for target in targets(page)}
    outside = (path for path in found if not path.startswith(("docs/", "../")) and not path.endswith(".md"))
    return sorted(path for path in outside if (ROOT / path).is_file())


def targets(page: str) -> Iterator[str]:
    """Yield the paths in the repository that the links of a page lead to."""
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" not in target:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def is_shown(path: str) -> bool:
    """Tell whether a file of the repository becomes a page."""
    return Path(path).suffix in LEXERS and (ROOT / path).stat().st_size <= LARGEST


def code_page(path: str) -> str:
    """Return the page of a file of code; the search leaves it out."""
    name = posixpath.basename(path)
    return f"---\ntitle: {name}\nsearch:\n  exclude: true\n---\n\n# {name}\n\n`{path}`\n\n{fence(path)}\n"


def fence(path: str) -> str:
    """Return a file as a block of code."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
    return f"````{LEXERS[Path(path).suffix]}\n{text}\n````"


def with_bars(text: str) -> str:
    r"""Write ``\|`` in the code of tables as a bar: GitHub wants it escaped there, Python-Markdown shows the escape."""
    return TABLE_CODE.sub(lambda line: re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), line[0]), text)


def with_code(text: str, page: str) -> str:
    """Add to the page of a method its algorithm, before the first section, and its code, behind the last one."""
    if not page.startswith("docs/methods/"):
        return text
    modules = method_modules(text)
    if not modules:
        return text
    boxes = [
        f"`{Path(path).stem}`:\n\n``` {{.text .algorithm}}\n{box}\n```" for path in modules if (box := algorithm(path))
    ]
    if len(boxes) == 1:
        boxes = [boxes[0].partition("\n\n")[2]]
    start = text.index("\n## ")
    algorithms = "\n\n".join(["\n## Algorithm", *boxes]) + "\n" if boxes else ""
    code = "\n\n".join(["\n\n## Code", *(folded(path) for path in modules)])
    return f"{text[:start]}{algorithms}{text[start:].rstrip()}{code}\n"


def method_modules(text: str) -> list[str]:
    """Return the files of the methods whose settings a page has."""
    names = [name for name in SETTINGS.findall(text) if name in OWN]
    places = dict.fromkeys(str(OWN[name].implementation).partition(":")[0] for name in names)
    return [f"src/{place.replace('.', '/')}.py" for place in places]


def folded(path: str) -> str:
    """Return a file as a block that opens when clicked on."""
    return f'??? example "{path}"\n\n{textwrap.indent(fence(path), "    ")}'


def algorithm(path: str) -> str:
    """Return the algorithm box of a method: the first indented part of its docstring."""
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    return boxes_of(docstring.splitlines())


def boxes_of(lines: Sequence[str]) -> str:
    """Return the lines from the first to the last indented one, less their common indentation."""
    indented = [i for i, line in enumerate(lines) if line.startswith("    ")]
    if not indented:
        return ""
    end = indented[0]
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    return textwrap.dedent("\n".join(lines[indented[0] : end])).strip("\n")
