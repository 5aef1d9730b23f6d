"""Rewards that compare two attempts at one task: does judging by this rubric prefer the one that is right?"""

from __future__ import annotations

from sparring.envs.types import Episode, Rubric, Score, Turn
from sparring.scenarios.registry import rewards

from .beside import Pair, pair
from .rewards import Context, answers, judged, unheard, verdicts
from .rubric import mark

NAME = "consistency"
MARGIN = "margin"


@rewards(NAME)
def consistency(episode: Episode, turn: Turn, context: Context) -> tuple[Score, ...]:
    """1 if judging by this rubric reproduces the preference label, else 0 with the reason in the note.

    The pair is the attempt the rubric's turn stands below and the next one beside it of the other outcome, the right
    one being preferred. The label is reproduced when the preferred one earns the larger share of the points, by rules
    and judges, over criteria checked on both; a tie is no preference. Judges that failed make it invalid. Also gives
    ``margin``: share of the preferred less share of the rejected.
    Source: OpenRubrics, arXiv 2510.07743
    """
    found = _pair(episode, turn)
    if found is None:
        return (Score.missing(NAME, "attempts", "no right and wrong attempt to compare"),)
    written = episode.rubrics.get(turn.index)
    if written is None:
        problem = turn.parsed.problem if turn.parsed is not None else "not parsed"
        return (Score.valued(NAME, 0.0, "parser", problem or "no rubric"),)
    failure = next((why for attempt in found if (why := unheard(episode, attempt, written, context))), "")
    if failure:
        return (Score.invalid(NAME, "judge", failure),)
    preferred, rejected = shares(episode, found, written, context)
    if preferred is None or rejected is None:
        return (Score.valued(NAME, 0.0, "rubric", "nothing could be checked"),)
    told = f"{preferred:.4g} against {rejected:.4g}"
    why = "" if preferred > rejected else "ties: " if preferred == rejected else "prefers the rejected answer: "
    margin = Score.valued(MARGIN, preferred - rejected, "rubric", told)
    return (Score.valued(NAME, float(preferred > rejected), "rubric", f"{why}{told}"), margin)


def shares(episode: Episode, two: Pair, written: Rubric, context: Context) -> tuple[float | None, float | None]:
    """What the preferred and the rejected attempt earn of the points, over criteria that were checked on both."""
    given = [answers(episode, attempt, written, context) for attempt in two]
    both = given[0].keys() & given[1].keys()
    marked = [
        mark(written, attempt.said, {index: told for index, told in one.items() if index in both})
        for attempt, one in zip(two, given, strict=True)
    ]
    return marked[0].share, marked[1].share


def _pair(episode: Episode, turn: Turn) -> Pair | None:
    attempt = judged(episode, turn)
    return None if attempt is None else pair(episode.turns, attempt, turn.index, verdicts(episode))
