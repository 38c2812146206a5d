"""Blocks are found and read as written; marks are few, known and needed; commands are read as bash reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, REASONS, SHELL, blocks, name_of, problems_of
from tests.docs.commands import placed, problem_of, prove
from tests.docs.shell import PROGRAM, calls_of

MARKED_AT_MOST = 10
"""Lines that are not run. Whoever adds one raises this number, and says in the same change why nothing else will do."""

PAGE = """
# A page

<!-- not run: takes hours: segadapt bench -->
<!-- not run: installs packages: pip -->
```
pip install "segadapt[geo]"
segadapt bench study a.yaml \\
  --out x
segadapt recipes
```

1. In a list:

   <!-- example: file my_part.py -->
   ```python
   if True:
       x = 1
   ```
"""


def lines_with_calls(page: Path) -> list[tuple[bool, str]]:
    """Return the lines of a page's shell blocks that call a program, and whether each is run."""
    found = [(block, line) for block in blocks(page, *SHELL) for line in block.lines()]
    return [(not block.is_marked(line), line) for block, line in found if re.search(PROGRAM, line)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_found_and_of_a_known_kind(page: Path) -> None:
    fences = re.findall(r"^ *(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
    found = blocks(page)
    assert len(fences) == 2 * len(found), f"{name_of(page)} has a block that is not closed, or opens in another way"
    assert [problem for block in found for problem in problems_of(block)] == []


def test_nearly_everything_is_run() -> None:
    """Today 109 lines and 13 blocks of Python are run, and 9 lines are marked."""
    lines = [run for page in PAGES for run, _ in lines_with_calls(page)]
    assert lines.count(True) >= 105
    assert lines.count(False) <= MARKED_AT_MOST
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 13


def test_blocks_and_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    shell, code = blocks(page)
    assert (shell.line, shell.language, shell.lines()[1].split()) == (
        7, "", ["segadapt", "bench", "study", "a.yaml", "--out", "x"],
    )  # fmt: skip
    assert [shell.is_marked(line) for line in shell.lines()] == [True, True, False]
    assert (code.language, code.text, code.example) == ("python", "if True:\n    x = 1\n", ("file", "my_part.py"))
    assert problems_of(shell) == problems_of(code) == []
    assert blocks(page, "python") == [code]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("<!-- not run: is slow -->\n```\nsegadapt demo\n```\n", f"no reason.*{REASONS[0]}"),
        ("<!-- not run: takes hours: segadapt adopt -->\n```\nsegadapt demo\n```\n", "no line begins with 'segadapt a"),
        ("<!-- not run: takes hours -->\n```python\nx = 1\n```\n", "only commands"),
        ("<!-- example: maybe x -->\n```python\nx = 1\n```\n", "no mark 'example: maybe'"),
        ("```ruby\nx = 1\n```\n", "no language 'ruby'"),
        ("```text\nsegadapt demo --out x\n```\n", "is a command in a block of text"),
    ],
)
def test_wrong_marks_are_refused(tmp_path: Path, words: str, answer: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(words)
    (block,) = blocks(page)
    assert re.search(answer, problems_of(block)[0])


def test_bash_reads_the_commands(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    script = """
    export HERE=x
    for k in 1 2 3 4; do segadapt adapt toy/cbst 'data.labelled={images: 20}' --out "runs/$HERE$k"  # none
    done
    cat list.txt | segadapt predict RUN - --out y
    srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_NNODES" -m segadapt methods
    """
    calls = calls_of(script, tmp_path)
    assert [call.words[-1] for call in calls] == ["runs/x1", "runs/x2", "y", "methods"]
    assert calls[0].words[3] == "data.labelled={images: 20}"
    assert Path(calls[2].given).read_text() == "a.jpg\n"
    assert calls[3].words[:3] == ("torchrun", "--nnodes", "2")
    with pytest.raises(AssertionError, match="no rule says how 'magick' is tested"):
        calls_of("magick a.tif b.png", tmp_path)


def test_wrong_commands_are_found() -> None:
    assert "no command 'adopt'" in problem_of(["adopt", "toy/cbst"])
    assert "no command 'tables'" in problem_of(["bench", "tables", "x"])
    assert "'adapt' has no option '--methd'" in problem_of(["adapt", "--methd", "cbst"])
    assert problem_of(["adapt", "toy/cbst", "--root", "a=b"]) == ""
    for words, answer in (
        ("segadapt adapt toy/cbts", "toy/cbst"),
        ("segadapt bench study benchmarks/studies.yaml --out x", "no study file"),
        ("torchrun -m segadapt adapt toy/cbst adapt.portoin=1", "portion"),
        ("make tabels", "tabels"),
        ("python -m benchmarks.untrained x --nul", "has no option"),
        ("pip install segadapt[gis]", "no extra 'gis'"),
        ("mkfs x", "no rule"),
    ):
        with pytest.raises(AssertionError, match=re.escape(answer)):
            prove(words.split())
    prove(["pip", "install", "segadapt[geo,export]"])


def test_data_of_a_user_become_tiny_ones(tmp_path: Path) -> None:
    words = ["adapt", "toy/cbst", "--root", "camvid=FOLDER", "--root", "toy=demo/toy", "--out=/runs/x"]
    camvid = f"camvid={tmp_path}/data/camvid"
    assert placed(words, tmp_path) == [*words[:3], camvid, *words[4:6], "--out=runs/x"]
    assert placed(["bench", "fuzz", "--inputs", "10000"], tmp_path)[-1] == "--inputs=12"
