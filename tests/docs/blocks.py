"""Pages, their fenced blocks, and the marks that stand before a block.

A mark is a comment on the line or lines before a block:

- ``<!-- example: file NAME -->``: the block is also written to NAME in the folder of the page; Python is imported.
- ``<!-- example: continues -->``: the Python goes on where the last block stopped.
- ``<!-- example: arguments A B -->``: what ``sys.argv`` of the Python holds.
- ``<!-- not run: REASON -->`` and ``<!-- not run: REASON: BEGINNING OF A LINE -->``: nothing of the block, or no line
  that begins so, is run; its words are checked all the same. REASON is one of :data:`REASONS`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
REASONS = ("installs packages", "takes hours", "needs a GPU", "changes the machine")
"""Why something is not run. Whoever adds one has looked for a way to run it on tiny data."""
SHELL = ("", "bash", "sh", "shell", "console")
CHECKED = ("python", "yaml", "toml", "json", "text", *SHELL)
"""Languages of blocks; ``text`` is output, a formula or a drawing."""
EXAMPLES = ("file", "continues", "arguments")

_FENCED = re.compile(r"((?:^ *<!--[^\n]*-->\n)*)^( *)```([^\n]*)\n(.*?)^\2```[ ]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (example|not run): (.*?) *-->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: its page.
        line: number of its first line in the page.
        language: what stands behind the opening fence.
        text: its lines, without the indentation of the list that it stands in.
        example: kind of the mark ``example`` and what follows it; empty without one.
        not_run: reason of each mark ``not run``, and the beginning of the lines that it is about; empty for all.
    """

    page: Path
    line: int
    language: str
    text: str
    example: tuple[str, str] = ("", "")
    not_run: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{name_of(self.page)}, line {self.line}"

    def lines(self) -> list[str]:
        """Return the lines of a shell block, those joined that a backslash continues."""
        return [line for line in self.text.replace("\\\n", "").splitlines() if line.strip()]

    def is_marked(self, line: str) -> bool:
        """Return whether a mark says that a line is not run."""
        return any(line.strip().startswith(start) for _, start in self.not_run)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page, of some languages or of all."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCED.finditer(text):
        marks, indent, language, body = match.groups()
        example, not_run = ("", ""), []
        for kind, said in _MARK.findall(marks):
            first, _, rest = said.partition(" " if kind == "example" else ": ")
            if kind == "example":
                example = (first, rest)
            else:
                not_run.append((first, rest))
        line = text.count("\n", 0, match.start(4)) + 1
        words = textwrap.dedent(body) if indent else body
        found.append(Block(page, line, language.strip(), words, example, tuple(not_run)))
    return [block for block in found if not languages or block.language in languages]


def problems_of(block: Block) -> list[str]:
    """Return what is wrong with the language and the marks of a block."""
    found = []
    if block.language not in CHECKED:
        found.append(f"no language '{block.language}' is known here; it is one of {', '.join(CHECKED[:-5])}, or bash")
    if block.language == "text":
        commands = [line for line in block.lines() if re.match(r"\s*(segadapt|torchrun|make|pip|python3?) \S", line)]
        found += [f"'{line}' is a command in a block of text; leave out 'text'" for line in commands]
    if block.example[0] and (block.example[0] not in EXAMPLES or block.language in SHELL):
        found.append(f"no mark 'example: {block.example[0]}' is known; there are: {', '.join(EXAMPLES)}")
    for reason, start in block.not_run:
        if reason not in REASONS:
            found.append(f"'{reason}' is no reason for 'not run'; there are: {', '.join(REASONS)}")
        if block.language not in SHELL:
            found.append("only commands may be marked 'not run'")
        if not any(line.strip().startswith(start) for line in block.lines()):
            found.append(f"no line begins with '{start}', which a mark 'not run' names")
    return [f"{block.where}: {text}" for text in found]
