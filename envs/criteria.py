"""Criteria as people and files write them: one line each, or a mapping. What they mean for a score is told elsewhere.

Who checks a criterion, a rule or a judge, is found out where rules are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sparring.scenarios.errors import ScenarioError

from .types import Criterion, CriterionKind

RUBRIC = "rubric"  # the field of a row, and the secret of a task, that holds its criteria
SAID = {
    "hard rule": CriterionKind.HARD,
    "principle": CriterionKind.PRINCIPLE,
    "nugget": CriterionKind.NUGGET,
    "veto": CriterionKind.VETO,
}  # how a line says the kind of its criterion
LINE = re.compile(
    r"(?:[-*][ \t]+)?(?:(?P<points>-?\d{1,2}(?:\.\d{1,3})?)(?:[ \t]+(?P<kind>hard rule|principle|nugget)[ \t]*:)?"
    r"|(?P<veto>veto)[ \t]*:)[ \t]+(?P<text>\S.*)",
    re.IGNORECASE,
)
HOW = (
    "a criterion is written 'POINTS text', 'POINTS principle: text' (or hard rule, nugget), 'veto: text' or "
    "{text: ..., points: ...}; points below 0 are a penalty"
)
MOST = 100  # criteria of one task
MOST_POINTS = 1e6  # of one criterion, or as many below 0


def written(line: str) -> dict[str, Any] | None:
    """A line as the fields of a criterion; ``None`` where it is none.

    >>> written("-2 at most 1 words"), written("veto: says please")["kind"].value
    ({'text': 'at most 1 words', 'points': -2.0}, 'veto')
    """
    found = LINE.fullmatch(line.strip())
    if found is None:
        return None
    kind = SAID.get((found["veto"] or found["kind"] or "").lower())
    told = {"text": found["text"].strip(), "points": float(found["points"] or 0.0)}
    return told if kind is None else {**told, "kind": kind}


def read_criteria(given: Any, where: str) -> tuple[Criterion, ...]:
    """The criteria in a row's field: a text with one per line, or a list of lines and mappings.

    Raises ``ScenarioError`` that begins with ``where``.
    """
    items = given.splitlines() if isinstance(given, str) else given
    if not isinstance(items, Sequence):
        raise ScenarioError(f"{where}: field {RUBRIC!r} is a {type(given).__name__}; a list is needed; {HOW}")
    found = tuple(_criterion(item, where) for item in items if not isinstance(item, str) or item.strip())
    if not 1 <= len(found) <= MOST:
        raise ScenarioError(f"{where}: field {RUBRIC!r} holds {len(found)} criteria; from 1 to {MOST} are read")
    if not any(one.points > 0 and one.kind is not CriterionKind.VETO for one in found):
        raise ScenarioError(f"{where}: field {RUBRIC!r}: no criterion is worth points, so nothing can be earned")
    return found


def _criterion(item: Any, where: str) -> Criterion:
    told = written(item) if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else None
    strange = sorted(set(told or ()) - {"text", "points", "kind"})
    if told is None or strange or not isinstance(told.get("text"), str) or not told["text"].strip():
        raise ScenarioError(f"{where}: field {RUBRIC!r}: found {item!r:.80}; {HOW}")
    points, kind = told.get("points", 1.0), told.get("kind", CriterionKind.HARD)
    if isinstance(points, bool) or not isinstance(points, int | float) or not -MOST_POINTS <= points <= MOST_POINTS:
        wanted = f"points are a number, at most {MOST_POINTS:g}"
        raise ScenarioError(f"{where}: field {RUBRIC!r}: {wanted}, found {points!r:.40}")
    if kind not in tuple(CriterionKind):
        kinds = ", ".join(CriterionKind)
        raise ScenarioError(f"{where}: field {RUBRIC!r}: kind is one of {kinds}, found {kind!r:.40}")
    return Criterion(told["text"].strip(), float(points), CriterionKind(kind))


def kept(criteria: Sequence[Criterion]) -> list[dict[str, Any]]:
    """Criteria as plain data, for a task's secret; ``read_criteria`` reads them back."""
    return [{"text": one.text, "points": one.points, "kind": str(one.kind)} for one in criteria]
