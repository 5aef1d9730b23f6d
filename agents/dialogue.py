"""The reward of a consultation: advice measured by the task's own rubric, by rules and by judges."""

from __future__ import annotations

from sparring.envs.types import Episode, Score, Turn, Validity
from sparring.scenarios.registry import rewards

from .conditions import VERIFIER
from .rewards import Context, unreadable
from .roles import tagged
from .rubric import make_rubric, mark, parse_rubric


@rewards("advice")
def advice(episode: Episode, turn: Turn, context: Context) -> Score:
    """sum(points * met) / sum(points) over the task's own rubric, by rule or by the judges below; 0 under a veto.

    Only a last word is measured. What no rule checks counts where a judge, who sees ``criteria``, has said so. Invalid
    where judges were asked and nothing they said can be read.
    """
    task = episode.task(turn.task)
    said = tagged(turn.said, "answer")
    if task is None or said is None or episode.score(turn.index, VERIFIER) is None:
        return Score.missing("advice", "rubric", "no last word of a consultation")
    rubric = make_rubric(parse_rubric("\n".join(task.secret.get("rubric", ()))), None, "task")
    if rubric is None:
        return Score.missing("advice", "rubric", "the task has no rubric")
    judges = [below for below in episode.descendants(turn.index) if _judges(below, context)]
    answers: dict[int, list[bool]] = {}
    for below in judges:
        for number, met in (below.parsed.value if below.parsed is not None and below.parsed.ok else {}).items():
            answers.setdefault(int(number) - 1, []).append(met)
    marked = mark(rubric, said, answers)
    lost = unreadable(judges) if any(criterion.checker == "judge" for criterion in rubric.criteria) else ""
    if lost:
        return Score("advice", None, Validity.INVALID, "judge", lost, marked.rows)
    if marked.share is None:
        return Score("advice", None, Validity.MISSING, "rubric", "no criterion was checked", marked.rows)
    return Score.valued("advice", marked.share, "rubric", f"{len(judges)} judges", marked.rows)


def _judges(turn: Turn, context: Context) -> bool:
    """Whether this turn answers the criteria of the task's rubric."""
    role = context.roles.get(turn.author)
    return turn.parsed is not None and turn.parsed.kind == "marks" and role is not None and "criteria" in role.sees
