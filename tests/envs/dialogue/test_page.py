"""The scenarios on docs/dialogue.md load as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparring.agents import dialogue
from sparring.scenarios.load import from_resolved
from sparring.scenarios.yaml_text import parse

PAGE = Path(__file__).parents[3] / "docs" / "dialogue.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_a_scenario_on_the_page_loads(block: str) -> None:
    assert dialogue.advice is not None
    scenario = from_resolved(parse(block, "page").value)
    assert scenario.environment.kind == "dialogue"


def test_the_page_shows_a_scripted_partner_a_role_and_a_judge() -> None:
    assert len(BLOCKS) == 3
