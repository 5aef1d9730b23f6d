"""The page's list of silent bugs names tests that exist, and every one that tests/training/test_incidents.py has."""

from __future__ import annotations

import re
from pathlib import Path

TEST = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def table(root: Path) -> list[list[str]]:
    """What went wrong, where, and the tests, by line."""
    page = (root / "docs" / "training.md").read_text().partition("## Silent bugs and the test for each")[2]
    lines = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_test_named_for_a_silent_bug_exists(root: Path) -> None:
    there = {name for file in root.glob("tests/**/test_*.py") for name in DEFINED.findall(file.read_text())}
    found = table(root)
    assert len(found) > 20
    for what, _, tests in found:
        named = TEST.findall(tests)
        assert named and set(named) <= there, what


def test_every_incident_that_is_played_is_on_the_page(root: Path) -> None:
    played = set(DEFINED.findall((root / "tests" / "training" / "test_incidents.py").read_text()))
    assert played <= {name for _, _, tests in table(root) for name in TEST.findall(tests)}
