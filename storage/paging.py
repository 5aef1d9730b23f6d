"""Lists of a run a page at a time, newest step first: where a page begins and which episodes it looks through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from sparring.scenarios.errors import RunNotFound

from .tables import Episodes, Steps

SCANNED = 2_000  # episodes looked through for one page of a list


@dataclass(frozen=True, slots=True)
class Place:
    """Episode ``episode`` of step ``step``: the last that a page told of."""

    step: int
    episode: int

    def __str__(self) -> str:
        """As it stands in an address: ``12/3``."""
        return f"{self.step}/{self.episode}"


def place_of(text: str) -> Place:
    """The place a page gave as ``12/3``. Raises ``RunNotFound`` for any other text."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None:
        raise RunNotFound(f"{text!r} is no place in a list; places look like 12/3 (step, episode): start without one")
    return Place(int(found[1]), int(found[2]))


def episodes_after(session: Session, run: int, after: Place | None) -> list[Any]:
    """``id``, ``number`` and ``step`` of episodes of a run: newest step first, each from its first episode on."""
    wanted = select(Episodes.id, Episodes.number, Steps.number.label("step")).join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Steps.run_id == run)
    if after is not None:
        later = and_(Steps.number == after.step, Episodes.number > after.episode)
        wanted = wanted.where(Steps.number <= after.step, or_(Steps.number < after.step, later))
    return list(session.execute(wanted.order_by(Steps.number.desc(), Episodes.number).limit(SCANNED)).all())
