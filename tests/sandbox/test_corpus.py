"""76 isolation attacks, 8 artefacts, 6 leaks: none works on any tier, as this user or an ordinary one."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from sparring.envs.code.sandbox import AUTO, Limits, Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from attacks import ATTACKS  # siblings of this test, not of the package
from leaks import ARTEFACTS, LEAKS
from running import run_corpus

# that a file exists, its size and dates: Landlock has no right for it, and imports need the call
TOLERATED = {"landlock": {"stat_secret_metadata"}}


def _assert_safe(settings: dict[str, object], ordinary: bool = False) -> None:
    found = run_corpus(settings, ordinary)
    assert set(found["worked"]) <= TOLERATED.get(found["tier"], set()), found["worked"]
    assert found["tried"] == 90 and found["controls"] >= 9
    assert not ordinary or found["user"] != 0


def test_the_corpus_holds_the_attacks_it_is_known_for() -> None:
    groups = Counter(attack.group for attack in ATTACKS.values())
    assert groups == {"read": 18, "write": 12, "net": 8, "resource": 20, "others": 11, "kernel": 7}
    assert (len(ARTEFACTS), len(LEAKS)) == (8, 6)


def test_no_attack_works_on_the_tier_that_is_chosen_here() -> None:
    _assert_safe({"tier": "auto"})


@pytest.mark.slow  # several seconds each
@pytest.mark.parametrize("ordinary", [False, True], ids=["me", "ordinary"])
@pytest.mark.parametrize("tier", AUTO)
def test_no_attack_works_on_any_tier(tier: str, ordinary: bool) -> None:
    if ordinary and os.geteuid() != 0:
        pytest.skip("this user is an ordinary one already")
    _assert_safe({"tier": tier}, ordinary)


@pytest.mark.slow  # several seconds each
@pytest.mark.parametrize("tier", AUTO)
def test_no_attack_works_in_a_live_child(tier: str) -> None:
    _assert_safe({"tier": tier, "live": True})


@pytest.mark.parametrize("name", [name for name in LEAKS if name not in ("file_left", "earlier_result_channel")])
def test_leaks_are_seen_where_two_programs_share_a_process(sandbox: Sandbox, name: str) -> None:
    first, second = LEAKS[name]
    said = "import os, sys, ctypes\nlibc = ctypes.CDLL(None)\ndef proof(): os.write(1, b'proof')\nSCRATCH = TAG = 'x'"
    with sandbox.open(said, limits=Limits(wall_s=5)) as live:
        live.run(first)
        assert "proof" in live.run(second).stdout
