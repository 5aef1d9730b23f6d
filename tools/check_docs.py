"""Check the pages: links lead somewhere, commands are described, pieces of scenarios load, generated pages are fresh.

    python tools/check_docs.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # also under PYTHONSAFEPATH, which leaves this folder out

import part_pages
from readme_blocks import blocks

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FRAGMENT = "fragment"  # the mark above a piece of a scenario: <!-- fragment -->
SMALLEST: dict[str, Any] = {
    "name": "fragment",
    "environment": "code",
    "roles": {"solver": {"prompt": "brief/solver", "reward": ["verifier"]}},
    "graph": "solve",
}
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
    from sparring.training.cli import HOMES

    return sorted(HOMES)


def undescribed(text: str) -> list[str]:
    """A line for every command that ``text`` does not show as `sparring NAME`."""
    return [
        f"sparring {name} is on no page" for name in commands() if not re.search(rf"sparring {re.escape(name)}\b", text)
    ]


def fragments(page: Path) -> list[str]:
    """A line for every piece of a scenario on ``page`` that does not load once it is merged into the smallest one."""
    from sparring.scenarios.errors import ScenarioError
    from sparring.scenarios.load import from_resolved
    from sparring.scenarios.yaml_text import parse

    lines = []
    for block in blocks(page.read_text()):
        if block.mark != FRAGMENT:
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        try:
            from_resolved(merged(SMALLEST, parse(block.text, where).value))
        except ScenarioError as error:
            lines += [f"{where}: {line}" for line in str(error).splitlines()]
    return lines


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on it, mappings in mappings."""
    found = dict(base)
    for key, value in over.items():
        held = found.get(key)
        found[key] = merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return found


def stale() -> list[str]:
    """A line when the page of parts is not what the code says."""
    fresh = part_pages.PAGE.exists() and part_pages.PAGE.read_text() == part_pages.page()
    return [] if fresh else [f"{part_pages.PAGE.relative_to(ROOT)} is stale: python tools/part_pages.py writes it anew"]


def problems() -> list[str]:
    """Everything found wrong, a line each."""
    found = [line for page in pages() for check in (dead_links, fragments) for line in check(page)]
    return found + stale() + undescribed("\n".join(page.read_text() for page in pages()))


if __name__ == "__main__":
    found = problems()
    print("\n".join(found) or f"{len(pages())} pages: links lead somewhere, fragments load, every command is described")
    sys.exit(1 if found else 0)
