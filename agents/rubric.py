"""Rubrics: from text to criteria, from criteria and a text to a share of the points.

One criterion per line (``envs.criteria``): ``POINTS text``, with ``principle:`` or another kind before the text where
it is said, or ``veto: text``. A registered rule checks it, else a judge must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sparring.envs.criteria import RUBRIC, written
from sparring.envs.types import Criterion, CriterionKind, CriterionScore, Parsed, Rubric, Task, Validity

from .rules import rule_for

MAX_LINES = 12
MIN_POINTS, MAX_POINTS = 0.5, 10.0
MAX_CRITERION = 200  # characters


def parse_rubric(text: str) -> Parsed:
    """Criteria as a list of plain mappings (the fields of ``Criterion``). Lines of other shapes are passed over.

    The problem says so when there are more than 12 lines that are not blank, or none of them is a criterion. Never
    raises.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        return Parsed("rubric", None, f"{len(lines)} lines; at most {MAX_LINES} are read")
    criteria = [found for line in lines if (found := _criterion(line)) is not None]
    if not criteria:
        return Parsed("rubric", None, "no criterion")
    return Parsed("rubric", criteria)


def _criterion(line: str) -> dict[str, object] | None:
    found = written(line)
    if found is None or len(found["text"]) > MAX_CRITERION:
        return None
    ruled = rule_for(found["text"]) is not None
    kind = found.get("kind") or (CriterionKind.HARD if ruled else CriterionKind.PRINCIPLE)
    if kind is not CriterionKind.VETO and not MIN_POINTS <= found["points"] <= MAX_POINTS:
        return None
    checker = "rule" if ruled else "judge"
    return {"text": found["text"], "points": found["points"], "kind": kind.value, "checker": checker}


def make_rubric(parsed: Parsed, author: int | None, provenance: str = "") -> Rubric | None:
    """The rubric a turn wrote, ``None`` when its text was no rubric."""
    if parsed.kind != "rubric" or not parsed.ok:
        return None
    rows = [Criterion(row["text"], row["points"], CriterionKind(row["kind"]), row["checker"]) for row in parsed.value]
    return Rubric(tuple(rows), author, provenance=provenance)


def given_rubric(criteria: Sequence[Criterion], task: Task, author: int) -> Rubric:
    """The rubric a task brings along; ``author`` is the environment's turn that sets the task.

    What no rule reads is for a judge. Its provenance is ``file`` where a row of one gave it, else ``environment``.
    """
    rows = tuple(replace(one, checker=_checker(one), kind=_kind(one)) for one in criteria)
    return Rubric(rows, author, provenance="file" if RUBRIC in task.secret else "environment")


def _checker(criterion: Criterion) -> str:
    return "judge" if rule_for(criterion.text) is None else criterion.checker


def _kind(criterion: Criterion) -> CriterionKind:
    judged = _checker(criterion) == "judge" and criterion.kind is CriterionKind.HARD
    return CriterionKind.PRINCIPLE if judged else criterion.kind


def lines(rubrics: Sequence[Rubric]) -> tuple[str, ...]:
    """Every criterion as a numbered line, ``1. text``, counted through all rubrics; judges answer by number."""
    texts = [criterion.text for rubric in rubrics for criterion in rubric.criteria]
    return tuple(f"{number}. {text}" for number, text in enumerate(texts, 1))


@dataclass(frozen=True, slots=True)
class Marked:
    """A text measured by one rubric: ``share`` of the points, at most 1, ``None`` when nothing could be checked."""

    share: float | None
    rows: tuple[CriterionScore, ...]


def mark(rubric: Rubric, said: str, answers: Mapping[int, Sequence[bool]] | None = None) -> Marked:
    """Measure ``said``. ``answers`` holds judges' yes or no by criterion index; several judges are averaged.

    share = sum(points * met) / sum(positive points) over the criteria that were checked, and 0 once a veto is broken.
    Points below 0 are a penalty for what meets their criterion, so a share may lie below 0. A judge's criterion without
    an answer is MISSING and left out of both sums. Source: HealthBench, arXiv 2505.08775.
    """
    rows = tuple(_row(rubric, index, said, (answers or {}).get(index, ())) for index in range(len(rubric.criteria)))
    checked = [(criterion, row.share) for criterion, row in zip(rubric.criteria, rows, strict=True)]
    if any(c.kind is CriterionKind.VETO and share is not None and share < 0.5 for c, share in checked):
        return Marked(0.0, rows)
    counted = [(c.points, share) for c, share in checked if c.kind is not CriterionKind.VETO and share is not None]
    total = sum(points for points, _ in counted if points > 0)
    return Marked(sum(points * share for points, share in counted) / total if total > 0 else None, rows)


def _row(rubric: Rubric, index: int, said: str, answers: Sequence[bool]) -> CriterionScore:
    criterion = rubric.criteria[index]
    rule = rule_for(criterion.text) if criterion.checker == "rule" else None
    if rule is not None:
        met, quote = rule.check(criterion.text, said)
        return CriterionScore(rubric.author, index, float(met), Validity.VALUED, rule.name, quote)
    if not answers:
        return CriterionScore(rubric.author, index, None, Validity.MISSING, "judge")
    return CriterionScore(rubric.author, index, sum(answers) / len(answers), Validity.VALUED, "judge")
