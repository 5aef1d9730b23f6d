"""Check the pages: every relative link and anchor leads somewhere, and every command of the program is described.

    python tools/check_docs.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """The Markdown people read: at the top and in docs/."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(markdown: str) -> set[str]:
    """The anchors a page's headings get: lower case, punctuation dropped, spaces to hyphens."""
    texts = (found["text"] for found in HEADING.finditer(FENCE.sub("", markdown)))
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in texts}


def dead_links(page: Path) -> list[str]:
    """A line for every relative link of ``page`` that leads nowhere."""
    lines = []
    for found in LINK.finditer(FENCE.sub("", page.read_text())):
        target, _, anchor = found["target"].partition("#")
        if ":" in target:  # another site
            continue
        there = page.parent / target if target else page
        if not there.exists():
            lines.append(f"{page.relative_to(ROOT)}: {found['target']} does not exist")
        elif anchor and anchor not in anchors(there.read_text()):
            lines.append(f"{page.relative_to(ROOT)}: {found['target']}: no such heading")
    return lines


def commands() -> list[str]:
    """The names of the program's commands."""
    import typer.main

    from sparring.training.cli import app

    group = typer.main.get_command(app)
    return sorted(getattr(group, "commands", {}))


def undescribed(text: str) -> list[str]:
    """A line for every command that ``text`` does not show as `sparring NAME`."""
    return [
        f"sparring {name} is on no page" for name in commands() if not re.search(rf"sparring {re.escape(name)}\b", text)
    ]


def problems() -> list[str]:
    """Everything found wrong, a line each."""
    found = [line for page in pages() for line in dead_links(page)]
    return found + undescribed("\n".join(page.read_text() for page in pages()))


if __name__ == "__main__":
    found = problems()
    print("\n".join(found) or f"{len(pages())} pages: links lead somewhere, every command is described")
    sys.exit(1 if found else 0)
