"""What a shell block calls: bash reads it, with functions in place of the programs, which write down their words.

So loops, pipes, quotes, patterns and variables are what bash makes of them, and nothing of a page is started by it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = r"(?:^|[\s|;/])(?:segadapt|torchrun|python3?|pip|make|git|mkdocs|pre-commit)\s"
"""Where a line calls a program."""
PROGRAMS = (
    "segadapt",
    "torchrun",
    "python",
    "python3",
    "pip",
    "make",
    "git",
    "mkdocs",
    "pre-commit",
    ".venv/bin/pre-commit",
)
"""Programs whose calls are looked at; of all others but :data:`TOOLS` a block is refused."""
TOOLS = ("cat", "cp", "find", "head", "ls", "mkdir", "mktemp", "mv", "sort", "touch")
"""Programs that run."""
SLURM = {
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "2",
}

_BEFORE = """
note() {
  local given=
  if [[ " $* " = *" - "* ]]; then given=$(mktemp "$CALLS.XXXXXX"); cat > "$given"; fi
  printf '%s\\0' "$PWD" "$given" "$#" "$@" >> "$CALLS"
}
scontrol() { echo node1; echo node2; }
srun() { while [ "${1#-}" != "$1" ]; do shift; done; "$@"; }
sbatch() { while [ "${1#-}" != "$1" ]; do shift; done; [ -f "$1" ]; }
source() { :; }
command_not_found_handle() { echo "no rule says how '$1' is tested" >&2; return 127; }
set -eo pipefail
"""


@dataclass(frozen=True)
class Call:
    """A call of a program.

    Attributes:
        words: program and arguments.
        folder: where it was called.
        given: file of what it was given on its standard input; empty for nothing.
    """

    words: tuple[str, ...]
    folder: Path
    given: str = ""


def calls_of(script: str, folder: Path, turns: int = 2) -> list[Call]:
    """Return the calls of a script in their order; of a loop those of the first turns.

    Args:
        script: lines for bash.
        folder: where it runs, and its home.
        turns: how many calls that differ in their numbers alone are returned.

    Raises:
        AssertionError: bash refuses the script, or a program is called of which nothing is known.
    """
    place = folder / ".calls"
    shutil.rmtree(place, ignore_errors=True)
    (place / "bin").mkdir(parents=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is not on this machine"
        (place / "bin" / tool).symlink_to(found)
    functions = "\n".join(f'{name}() {{ note {name} "$@"; }}' for name in PROGRAMS)
    environment = {"PATH": str(place / "bin"), "HOME": str(folder), "CALLS": str(place / "calls"), **SLURM}
    bash = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", f"{functions}\n{_BEFORE}\n{script}"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert bash.returncode == 0, f"bash ends with {bash.returncode}: {bash.stderr.strip()}"
    calls = place / "calls"
    return _first_turns(_read(calls.read_bytes() if calls.exists() else b""), turns)


def _read(written: bytes) -> list[Call]:
    """Return the calls that functions wrote down."""
    words, calls = [os.fsdecode(word) for word in written.split(b"\0")[:-1]], []
    while words:
        folder, given, count = words[0], words[1], int(words[2])
        calls.append(Call(tuple(words[3 : 3 + count]), Path(folder), given))
        words = words[3 + count :]
    return calls


def _first_turns(calls: Sequence[Call], turns: int) -> list[Call]:
    """Return calls without those of which as many were seen before, numbers aside."""
    seen: dict[tuple[str, ...], int] = {}
    kept = []
    for call in calls:
        key = tuple("".join(c for c in word if not c.isdigit()) for word in call.words)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= turns:
            kept.append(call)
    return kept
