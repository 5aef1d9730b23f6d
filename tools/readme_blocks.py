"""Run the shell blocks of a Markdown file that stand below `<!-- run -->`, in order, in one empty folder.

    python tools/readme_blocks.py README.md [--slow]

`<!-- slow -->` marks blocks that take minutes; they run with `--slow` only. The first failure ends it, exit status 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^<!-- (?P<mark>[\w .-]+) -->\n+```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block below a marking comment; ``line`` is that of the comment, from 1."""

    mark: str
    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """Every marked block, in order."""
    return [
        Block(found["mark"], found["language"], found["text"], markdown.count("\n", 0, found.start()) + 1)
        for found in BLOCK.finditer(markdown)
    ]


def write_files(found: list[Block], folder: Path) -> list[str]:
    """Write the blocks marked `file NAME` into ``folder``; their names."""
    named = [(block.mark.removeprefix("file "), block.text) for block in found if block.mark.startswith("file ")]
    for name, text in named:
        (folder / name).write_text(text)
    return [name for name, _ in named]


def run(path: Path, slow: bool) -> int:
    """Run what is marked; the exit status."""
    found = blocks(path.read_text())
    wanted = [block for block in found if block.mark == "run" or (slow and block.mark == "slow")]
    # the commands of the environment this tool runs in, whatever else is on the path
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONSAFEPATH", None)  # a reader's shell does not set it, and finds the file just written
    with tempfile.TemporaryDirectory() as folder:
        write_files(found, Path(folder))
        for block in wanted:
            print(f"{path}:{block.line}: {block.text.strip().splitlines()[0]}", flush=True)
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=environment)
            if done.returncode:
                print(f"{path}:{block.line}: exit status {done.returncode}", file=sys.stderr)
                return 1
    print(f"{path}: {len(wanted)} blocks ran")
    return 0


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), "--slow" in sys.argv[2:]))
