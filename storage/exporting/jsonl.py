"""``jsonl``: one episode of a run per line with everything that is stored of it, and the way back.

A line is ``{"run", "step", "arm", "hash", "episode": {...}, "advantages": [...]}``; ``plain.py`` tells the episode.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from sparring.envs.types import Episode
from sparring.scenarios.errors import StoreError

from ..hashes import episode_hash
from ..rebuild import rebuild
from ..rows import parts, table
from ..store import Store, run_number
from ..tables import Advantages, CurriculumEvents, Episodes, Steps, Turns
from .plain import from_plain, to_plain
from .target import beside

_AT_ONCE = 64  # episodes in memory at a time
_LEFT_OUT = {"id", "step_id", "turn_id"}  # integer ids never leave the database


class Line(NamedTuple):
    """One line: an episode, where it comes from, and how its turns pulled the policy in any step of the run."""

    run: str
    step: int
    arm: str
    hash: str
    episode: Episode
    advantages: tuple[dict[str, Any], ...]


def write_jsonl(store: Store, run: str, out: Path) -> int:
    """Write every episode of ``run`` to ``out``; returns how many. Raises ``RunNotFound``, ``StoreError``."""
    store.run(run)
    count = 0
    with beside(out) as draft, draft.open("w", encoding="ascii", newline="\n") as file, store.read() as session:
        for line in _lines(session, run):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            count += 1
    return count


def _lines(session: Session, run: str) -> Iterator[dict[str, Any]]:
    e, s, c = Episodes, Steps, CurriculumEvents
    wanted = select(e.id, s.number.label("step"), c.arm, e.hash).join(s, s.id == e.step_id)
    wanted = wanted.join(c, (c.step_id == e.step_id) & (c.number == e.pick))
    wanted = wanted.where(s.run_id == run_number(run)).order_by(s.number, e.number)
    for rows in parts(list(session.execute(wanted)), _AT_ONCE):
        ids = [row.id for row in rows]
        pulls = _pulls(session, run, ids)
        for row, episode in zip(rows, rebuild(session, ids), strict=True):
            head = {"run": run, "step": row.step, "arm": row.arm, "hash": row.hash}
            yield {**head, "episode": to_plain(episode), "advantages": pulls[row.id]}


def _pulls(session: Session, run: str, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """By episode: its advantages in the steps of ``run``, with the numbers of the step and the turn."""
    columns = [column for column in table(Advantages).c if column.name not in _LEFT_OUT]
    wanted = select(Turns.episode_id, Steps.number.label("step"), Turns.number.label("turn"), *columns)
    wanted = wanted.select_from(Advantages).join(Turns, Turns.id == Advantages.turn_id)
    wanted = wanted.join(Steps, Steps.id == Advantages.step_id).where(Steps.run_id == run_number(run))
    wanted = wanted.where(Turns.episode_id.in_(ids)).order_by(Steps.number, Turns.number, Advantages.trainer)
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in session.execute(wanted).mappings():
        plain = dict(row)
        found[plain.pop("episode_id")].append({**plain, "tokens": list(plain["tokens"])})
    return found


def read_jsonl(path: Path) -> Iterator[Line]:
    """The lines of a file ``write_jsonl`` wrote, one by one.

    Raises ``StoreError``, naming the line, on one that cannot be read or whose episode no longer matches its hash.
    """
    with path.open(encoding="ascii") as file:
        for number, text in enumerate(file, 1):
            try:
                found = json.loads(text)
                line = Line(**{**found, "episode": from_plain(found["episode"]), "advantages": found["advantages"]})
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise StoreError(f"{path}, line {number}: no exported episode ({error}); export it again") from error
            if episode_hash(line.episode) != line.hash:
                raise StoreError(f"{path}, line {number}: the episode does not match its hash; export it again")
            yield line._replace(advantages=tuple(line.advantages))
