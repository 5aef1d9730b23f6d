"""Verdicts counted: what most judges of an attempt say of it, and whether a judge says the same as most.

Nobody looks at the right answer here. Source: SPELL, arXiv 2509.23863.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from sparring.envs.types import Episode, Score, Turn
from sparring.scenarios.registry import rewards

from .outcome import verdict_of
from .rewards import Context, judged

VERDICT = "verdict"


class VoteOptions(BaseModel):
    """``nodes``: whose verdicts count; absent, all verdicts on the attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    nodes: tuple[str, ...] = ()


def voters(episode: Episode, attempt: Turn, nodes: Sequence[str] = ()) -> list[Turn]:
    """The turns that judge ``attempt``, readable or not."""
    return [
        turn
        for turn in episode.descendants(attempt.index)
        if turn.parsed is not None
        and turn.parsed.kind == VERDICT
        and (not nodes or turn.node in nodes)
        and judged(episode, turn) == attempt
    ]


def most(votes: Sequence[bool]) -> bool:
    """Whether more than half of the votes say right.

    >>> most([True, True, False]), most([True, False])
    (True, False)
    """
    return 2 * sum(votes) > len(votes)


class _Votes:
    """Base of rewards that count verdicts."""

    Config = VoteOptions

    def __init__(self, config: VoteOptions | None = None) -> None:
        self.config = config or VoteOptions()

    def _votes(self, episode: Episode, attempt: Turn) -> list[bool]:
        read = map(verdict_of, voters(episode, attempt, self.config.nodes))
        return [vote for vote in read if vote is not None]


@rewards("majority")
class Majority(_Votes):
    """1 if more than half of the readable verdicts on this attempt say right, else 0; invalid when none is readable."""

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> Score:
        """The vote on an attempt; missing where nobody judged it."""
        asked = voters(episode, turn, self.config.nodes)
        if not asked:
            return Score.missing("majority", "votes", "nobody judged it")
        votes = self._votes(episode, turn)
        if not votes:
            return Score.invalid("majority", "votes", f"none of {len(asked)} verdicts is readable")
        return Score.valued("majority", float(most(votes)), "votes", f"{sum(votes)} of {len(votes)} say right")


@rewards("agreement")
class Agreement(_Votes):
    """1 if this verdict is what most verdicts on the same attempt say (its own counts too), else 0."""

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> Score:
        """Agreement of one verdict; one that cannot be read earns 0."""
        attempt = judged(episode, turn)
        if attempt is None:
            return Score.missing("agreement", "votes", "nothing was judged")
        mine, votes = verdict_of(turn), self._votes(episode, attempt)
        if mine is None:
            return Score.valued("agreement", 0.0, "votes", "no verdict")
        if not votes:  # those of other nodes count
            return Score.invalid("agreement", "votes", "no verdict that counts is readable")
        note = f"{sum(votes)} of {len(votes)} say right"
        return Score.valued("agreement", float(mine == most(votes)), "votes", note)
