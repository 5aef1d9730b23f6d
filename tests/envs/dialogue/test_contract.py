"""With a role as partner the contract is kept as with a scripted one, which is checked elsewhere."""

from __future__ import annotations

import pytest

from sparring.envs.check import inspect_environment
from sparring.envs.dialogue.env import MODES, DialogueEnvironment

HIDDEN = "secrets stay hidden"  # here the partner's seat reads its own secrets; test_hidden.py looks seat by seat


@pytest.mark.parametrize("mode", MODES)
def test_a_dialogue_of_two_roles_keeps_the_contract(mode: str) -> None:
    report = inspect_environment(DialogueEnvironment({"mode": mode, "partner": "role"}), tasks=3)
    assert {finding.name: finding.detail for finding in report.broken if finding.name != HIDDEN} == {}
    found = {finding.name: finding.kept for finding in report.findings}
    assert found["snapshot and restore"] and found["any text is taken"] and found["episodes end"]
    assert found["oracle earns the full mark"] is (None if mode == "negotiate" else True)
