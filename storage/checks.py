"""Refuses a step that contradicts itself before anything is written."""

from __future__ import annotations

import math

from sparring.scenarios.errors import StoreError

from .records import AdvantageRow, StepRecord


def check(record: StepRecord) -> None:
    """Refuse what the database could not say truthfully. Raises ``StoreError`` naming the place."""
    here = f"step {record.step}"
    for number, episode in enumerate(record.episodes):
        where = f"{here}, episode {number}"
        if episode.index != number:
            raise StoreError(f"{where}: has index {episode.index}; episodes are numbered in order from 0")
        if not 0 <= episode.pick < len(record.picks):
            raise StoreError(f"{where}: came from pick {episode.pick}, but the step has {len(record.picks)} picks")
        if [turn.index for turn in episode.turns] != list(range(len(episode.turns))):
            raise StoreError(f"{where}: its turns are not numbered in order from 0")
        for kind, keys in (("score", episode.scores), ("rubric", episode.rubrics), ("refusal", episode.refusals)):
            for turn in keys:
                if not 0 <= turn < len(episode.turns):
                    raise StoreError(f"{where}: a {kind} belongs to turn {turn}, but there are {len(episode.turns)}")
        for turn, scores in episode.scores.items():
            for score in scores:
                _finite(score.value, f"{where}, turn {turn}, score '{score.name}'")
    if len(set(record.borrowed)) < len(record.borrowed):
        raise StoreError(f"{here}: borrows the same stored episode twice: {record.borrowed}; name each one once")
    for row in record.advantages:
        _advantage(record, row, f"{here}, episode {row.episode}, turn {row.turn}")


def _advantage(record: StepRecord, row: AdvantageRow, where: str) -> None:
    """Turns of borrowed episodes are looked up when the step is written."""
    played = len(record.episodes)
    if not (0 <= row.episode < played + len(record.borrowed) and row.turn >= 0) or (
        row.episode < played and row.turn >= len(record.episodes[row.episode].turns)
    ):
        raise StoreError(f"{where}: an advantage belongs to this turn, but there is no such turn in the step")
    if row.tokens and len(row.tokens) != row.n_tokens:
        raise StoreError(f"{where}: {len(row.tokens)} per-token advantages for {row.n_tokens} trained tokens")
    for value in (row.reward, row.value, row.weight, row.pull, *row.tokens):
        _finite(value, f"{where}, advantage")


def _finite(value: float | None, where: str) -> None:
    if value is not None and not math.isfinite(value):
        raise StoreError(f"{where}: {value} is no number to learn from; mark the score invalid, it is then masked out")
