"""What a verifier's score, or a judge's verdict, says of an attempt: right, wrong, or nothing."""

from __future__ import annotations

import math

from sparring.envs.types import Score, Turn, Validity

RIGHT_AT = 0.5  # a graded verifier counts as right from here on
VERIFIER = "verifier"
VERDICTS = {"right": True, "wrong": False}


def outcome(score: Score | None) -> bool | None:
    """Whether a verifier's score means right; ``None`` when there is no valued score, or it is no finite number."""
    if score is None or score.validity is not Validity.VALUED or score.value is None or not math.isfinite(score.value):
        return None
    return score.value >= RIGHT_AT


def verdict_of(turn: Turn) -> bool | None:
    """Whether the turn's verdict is right; ``None`` unless it gives one that can be read."""
    found = turn.parsed
    return VERDICTS.get(str(found.value)) if found is not None and found.kind == "verdict" and found.ok else None
