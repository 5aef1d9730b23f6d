"""Dropping the tokens of old steps: ids, log-probs, version spans and per-token advantages go, every word stays.

An episode is looked at before and hashed anew after, over what stays; ``episodes.thinned`` says when.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.orm import Session

from sparring.scenarios.errors import StoreError

from .damage import wrong_steps
from .hashes import episode_hash
from .pruning import kept_runs
from .rebuild import rebuild
from .records import RunRow
from .rows import now, parts, table
from .step_hashes import of_stored_rows
from .store import Store, run_number
from .tables import Advantages, Borrowed, Episodes, Segments, Steps, Turns

_AT_ONCE = 64  # episodes hashed anew together


@dataclass(frozen=True, slots=True)
class Thinning:
    """What happens to a run's tokens: ``steps`` (database ids) and ``episodes`` lose theirs, or ``kept`` says why not.

    ``bytes`` is what the tokens of its turns take, contexts apart.
    """

    run: RunRow
    kept: str
    steps: tuple[int, ...] = ()
    episodes: int = 0
    bytes: int = 0


def weigh(store: Store, keep_runs: int = 0, keep_steps: int = 0, before: str = "") -> list[Thinning]:
    """Every run, oldest first, under the rule: all but the newest ``keep_runs`` runs, of each all but the newest
    ``keep_steps`` steps, and of these the ones saved before the moment ``before`` (ISO 8601), where one is given.

    A run that is being written keeps its tokens, and so does one whose episodes another run learnt from.
    """
    found: list[Thinning] = []
    for row, kept in kept_runs(store, keep_runs, lent=True):
        if kept:
            found.append(Thinning(row, kept))
            continue
        with store.read() as session:
            steps = _steps(session, run_number(row.id), keep_steps, before)
            episodes, size = _weight(session, steps)
        kept = "" if episodes else "none is old enough to lose its tokens"
        found.append(Thinning(row, kept, tuple(steps), episodes, size))
    return found


def _whole_in(steps: list[int]) -> tuple[ColumnElement[bool], ...]:
    """Episodes of these steps that have not lost their tokens."""
    return (Episodes.step_id.in_(steps), Episodes.thinned.is_(None))


def _weight(session: Session, steps: list[int]) -> tuple[int, int]:
    """How many episodes of these steps have their tokens, and the bytes of these."""
    blobs = func.coalesce(func.length(Turns.token_ids), 0) + func.coalesce(func.length(Turns.logprobs), 0)
    episodes = size = 0
    for part in parts(steps):
        inside = _whole_in(part)
        episodes += session.scalar(select(func.count()).select_from(Episodes).where(*inside)) or 0
        wanted = select(func.sum(blobs)).join(Episodes, Episodes.id == Turns.episode_id)
        size += int(session.scalar(wanted.where(*inside)) or 0)
    return episodes, size


def _steps(session: Session, number: int, keep: int, before: str) -> list[int]:
    """Steps of a run, oldest first, but its newest, saved early enough, that have episodes with tokens."""
    mine = Steps.run_id == number
    rows = session.execute(select(Steps.id, Steps.saved_at).where(mine).order_by(Steps.number)).all()
    rows = rows[: max(0, len(rows) - keep)]
    with_tokens = select(Episodes.step_id).join(Steps).where(mine, Episodes.thinned.is_(None))
    whole = set(session.scalars(with_tokens.distinct()))
    return [row.id for row in rows if row.id in whole and (not before or row.saved_at < before)]


def thin(store: Store, chosen: list[Thinning]) -> int:
    """Drop the tokens of these steps, each step in one transaction; returns how many bytes the database shrank.

    Raises ``RunBusy`` where a run is being written, and ``StoreError`` at a step that is not what was saved, which
    then keeps its tokens.
    """
    if store.is_memory:
        raise StoreError("a database in memory is not pruned; give --db")
    before = store.size()
    with ExitStack() as held:
        for one in chosen:
            held.enter_context(store.holding(one.run.id))
        for one in chosen:
            for step_id in one.steps:
                with store.write() as connection:
                    _step(connection, step_id, now())
            with store.write() as connection:
                _contexts(connection, run_number(one.run.id))
        store.shrink()
    return max(0, before - store.size())


def _step(connection: Connection, step_id: int, moment: str) -> None:
    """Drop the tokens of one step's episodes and renew the hashes that covered them."""
    with Session(connection, autoflush=False) as session:
        ids = list(session.scalars(select(Episodes.id).where(*_whole_in([step_id])).order_by(Episodes.number)))
        touched = {step_id, *_borrowers(session, ids)}
        for finding in wrong_steps(session, sorted(touched)):
            raise StoreError(
                f"{finding.where}: {finding.what}, so its tokens stay; `sparring verify` tells what else is damaged"
            )
        episodes, turns, advantages = table(Episodes), table(Turns), table(Advantages)
        for part in parts(ids, _AT_ONCE):
            mine = turns.c.episode_id.in_(part)
            said = select(turns.c.id).where(mine)
            connection.execute(update(advantages).where(advantages.c.turn_id.in_(said)).values(tokens=None))
            connection.execute(update(turns).where(mine).values(token_ids=None, logprobs=None, spans=None))
            connection.execute(update(episodes).where(episodes.c.id.in_(part)).values(thinned=moment))
            for number, episode in zip(part, rebuild(session, part), strict=True):
                found = episode_hash(episode)
                connection.execute(update(episodes).where(episodes.c.id == number).values(hash=found))
        for one in sorted(touched):
            _seal(connection, one)


def _seal(connection: Connection, step_id: int) -> None:
    """The hash of a step over its rows as they are; one that had none gets none."""
    mine = table(Steps).c.id == step_id
    if connection.execute(select(Steps.hash).where(mine)).scalar() is not None:
        connection.execute(update(table(Steps)).where(mine).values(hash=of_stored_rows(connection, step_id)))


def _borrowers(session: Session, ids: list[int]) -> set[int]:
    """Steps of the same run that learnt from these episodes again."""
    found = set[int]()
    for part in parts(ids):
        found |= set(session.scalars(select(Borrowed.step_id).where(Borrowed.episode_id.in_(part))))
    return found


def _contexts(connection: Connection, number: int) -> None:
    """Drop the tokens of a run's contexts that no episode with tokens reads."""
    of = table(Segments)
    unread: list[ColumnElement[bool]] = [of.c.run_id == number]
    for context in (Turns.context_id, Turns.train_context_id):
        read = select(context).join(Episodes, Episodes.id == Turns.episode_id)
        read = read.join(Steps, Steps.id == Episodes.step_id).where(Steps.run_id == number)
        unread.append(of.c.id.not_in(read.where(Episodes.thinned.is_(None), context.is_not(None))))
    connection.execute(update(of).where(*unread).values(token_ids=None))


def dropped_on(store: Store, run: str, step: int | None = None, episode: int | None = None) -> str | None:
    """When the tokens of a run, a step or an episode were dropped, the latest moment; ``None`` where none were."""
    wanted = select(func.max(Episodes.thinned)).join(Steps).where(Steps.run_id == run_number(run))
    if step is not None:
        wanted = wanted.where(Steps.number == step)
    if episode is not None:
        wanted = wanted.where(Episodes.number == episode)
    with store.read() as session:
        return session.scalar(wanted)


def refuse_thinned(store: Store, what: str, run: str, step: int | None = None, episode: int | None = None) -> None:
    """Raise ``StoreError`` where tokens were dropped that ``what`` (``a replay``) needs."""
    moment = dropped_on(store, run, step, episode)
    if moment is not None:
        place = "/".join(str(part) for part in (run, step, episode) if part is not None)
        raise StoreError(
            f"{place}: tokens were dropped on {moment[:10]} (sparring prune --tokens), and {what} needs them; "
            "take a step that has them, or a database from before"
        )
