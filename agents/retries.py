"""Rewards of a second attempt: what became of the first one. The two are turns of one role on one branch."""

from __future__ import annotations

from difflib import SequenceMatcher

from sparring.envs.types import Episode, Score, Turn, Validity
from sparring.scenarios.registry import rewards

from .conditions import VERIFIER, outcome
from .rewards import Context, value_of


def attempt_before(episode: Episode, turn: Turn) -> Turn | None:
    """The newest turn of the same role above this one that the environment scored."""
    above = (before for before in episode.ancestors(turn.parent) if before.author == turn.author)
    return next((before for before in above if episode.score(before.index, VERIFIER) is not None), None)


@rewards("progress")
def progress(episode: Episode, turn: Turn, context: Context) -> Score:
    """verifier of this attempt - verifier of the role's attempt before it; missing for a first attempt.

    With a weight alpha beside the verifier's it is the bonus of SCoRe (arXiv 2409.12917): a retry that spoils a right
    answer loses what one that corrects a wrong one gains.
    """
    both = _both("progress", episode, turn)
    if isinstance(both, Score):
        return both
    before, after = (value_of(score) for score in both)
    if before is None or after is None:
        return Score.invalid("progress", VERIFIER, "no valued score before or after")
    return Score.valued("progress", after - before, VERIFIER, f"{before:.4g} -> {after:.4g}")


@rewards("corrected")
def corrected(episode: Episode, turn: Turn, context: Context) -> Score:
    """1 if this attempt is right and the role's attempt before it was wrong, else 0; missing for a first attempt."""
    return _turned("corrected", episode, turn, now=True)


@rewards("spoiled")
def spoiled(episode: Episode, turn: Turn, context: Context) -> Score:
    """1 if this attempt is wrong and the role's attempt before it was right, else 0; missing for a first attempt."""
    return _turned("spoiled", episode, turn, now=False)


@rewards("edits")
def edits(episode: Episode, turn: Turn, context: Context) -> Score:
    """1 - 2 x matching tokens / tokens of this attempt and the role's before it: 0 for a copy; missing for a first."""
    before = attempt_before(episode, turn)
    if before is None:
        return Score.missing("edits", "text", "a first attempt")
    alike = SequenceMatcher(None, before.token_ids, turn.token_ids, autojunk=False).ratio()
    return Score.valued("edits", 1.0 - alike, "text", f"against turn {before.index}")


def _turned(name: str, episode: Episode, turn: Turn, now: bool) -> Score:
    both = _both(name, episode, turn)
    if isinstance(both, Score):
        return both
    before, after = (outcome(score) for score in both)
    if before is None or after is None:
        return Score.invalid(name, VERIFIER, "no valued score before or after")
    return Score.valued(name, float(after is now and before is not now), VERIFIER)


def _both(name: str, episode: Episode, turn: Turn) -> Score | tuple[Score, Score]:
    """The verifier's scores of the attempt before and of this one; a missing score where there are not both."""
    before = attempt_before(episode, turn)
    first = None if before is None else episode.score(before.index, VERIFIER)
    second = episode.score(turn.index, VERIFIER)
    if first is None:
        return Score.missing(name, VERIFIER, "a first attempt")
    if second is None or second.validity is Validity.MISSING:
        return Score.missing(name, VERIFIER, "not acted out")
    return first, second
