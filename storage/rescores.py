"""Stored turns scored once more: rows to begin with, to share out, to hand in, and what came of them for people.

Nothing of the run itself changes. Several processes may score the same rows; ``leases`` tells why each is scored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from sparring.envs.types import Episode, Score, Validity
from sparring.scenarios.errors import RunNotFound, StoreError

from .leases import Queue, Standing, finish, give_back, lease, renew, standing
from .rebuild import rebuild
from .rows import first_free, now, table
from .store import Store, run_number
from .tables import Episodes, Rescored, Rescores, Scores, Steps, Turns

Kind = Literal["verifier", "rubric"]
ENVIRONMENT = "environment"  # the author of turns that no role made
BROKE, SILENT, UNJUDGED = (
    "its episode broke when it was played",
    "nobody spoke: the engine gave up",
    "the environment gave it no verifier score",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which turns of a run to score once more: of these ``roles`` (none: every role), from step ``first`` to ``last``.

    ``judged`` leaves out turns without a verifier score.
    """

    roles: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Rescore:
    """One scoring of a run's turns: ``number`` counts from 1 within the run. The counts are of turns.

    ``left_out`` are turns that were asked for and cannot be scored, with ``role``, ``why`` and ``turns``.
    """

    run: str
    number: int
    kind: Kind
    name: str
    options: Mapping[str, Any]
    made_at: str
    turns: int
    waiting: int
    valued: int
    invalid: int
    missing: int
    left_out: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A leased row: database ids of row and episode, the turn's number, and where the episode is in its run."""

    id: int
    episode_id: int
    turn: int
    step: int
    name: str


def begin(store: Store, run: str, kind: Kind, name: str, options: Mapping[str, Any], asked: Asked) -> Rescore:
    """A new scoring with one waiting row per turn, in one transaction.

    Raises ``RunNotFound`` where there is no such run or step, ``StoreError`` where no turn is left to score.
    """
    store.run(run)
    with store.write(queued=True) as connection:  # one after the other: they are numbered
        rescores, rescored, number = table(Rescores), table(Rescored), run_number(run)
        left_out = _left_out(connection, number, asked)
        count = connection.execute(_turns(number, asked, func.count()).where(_scorable(asked))).scalar_one()
        if not count:
            raise StoreError(_nothing(run, asked, left_out))
        mine = rescores.c.run_id == number
        place = (connection.execute(select(func.max(rescores.c.number)).where(mine)).scalar() or 0) + 1
        new, first = first_free(connection, rescores, 1), first_free(connection, rescored, count)
        columns = {"kind": kind, "name": name, "options": {**options, "left_out": left_out}, "made_at": now()}
        connection.execute(insert(rescores).values(id=new, run_id=number, number=place, **columns))
        counted = literal(first - 1, Integer) + func.row_number().over(order_by=Turns.id)
        empty = literal("", Text)
        chosen = _turns(number, asked, counted, literal(new, Integer), Turns.id, empty, empty).where(_scorable(asked))
        names = ["id", "rescore_id", "turn_id", "by", "note"]
        connection.execute(insert(rescored).from_select(names, chosen.order_by(Turns.id).limit(count)))
    return rescore(store, run, place)


def rescore(store: Store, run: str, number: int) -> Rescore:
    """One scoring. Raises ``RunNotFound``."""
    found = [one for one in rescores(store, run) if one.number == number]
    if not found:
        known = ", ".join(str(one.number) for one in rescores(store, run)) or "none"
        raise RunNotFound(f"{run} has no scoring {number}; there are: {known}. 'sparring rescore {run}' lists them")
    return found[0]


def rescores(store: Store, run: str) -> list[Rescore]:
    """Every scoring of a run's stored turns, oldest first. Raises ``RunNotFound``."""
    store.run(run)
    state = func.coalesce(Rescored.validity, "waiting")
    counts = select(Rescored.rescore_id, state, func.count()).join(Rescores).where(Rescores.run_id == run_number(run))
    with store.read() as session:
        found = session.scalars(select(Rescores).where(Rescores.run_id == run_number(run)).order_by(Rescores.number))
        rows = list(found)
        of: dict[int, Counter[str]] = {row.id: Counter() for row in rows}
        for row_id, validity, n in session.execute(counts.group_by(Rescored.rescore_id, state)):
            of[row_id][validity] += n
        return [_described(run, row, of[row.id]) for row in rows]


def same_means(one: Rescore, options: Mapping[str, Any]) -> bool:
    """Whether a scoring was begun with these options: the same turns, scored by the same."""
    return dict(one.options) == dict(options)


def take_up(store: Store, one: Rescore, validity: Validity) -> int:
    """Let the turns that ended so wait again; how many they are."""
    rescored = table(Rescored)
    with store.write() as connection:
        mine = and_(rescored.c.rescore_id == _id(connection, one), rescored.c.validity == str(validity))
        return connection.execute(update(rescored).where(mine).values(validity=None, value=None, note="")).rowcount


def episodes_of(store: Store, rows: Sequence[Waiting]) -> dict[int, Episode]:
    """The episodes of leased turns, by database id; one that a resume has taken back meanwhile is not among them."""
    wanted = select(Episodes.id).where(Episodes.id.in_({row.episode_id for row in rows})).order_by(Episodes.id)
    with store.read() as session:
        ids = list(session.scalars(wanted))
        return dict(zip(ids, rebuild(session, ids), strict=True))


def authors(store: Store, run: str) -> tuple[list[str], list[str]]:
    """The roles that speak in a run, and those of them whose turns have a verifier score."""
    mine = select(Turns.author).join(Episodes).join(Steps, Steps.id == Episodes.step_id).distinct()
    mine = mine.where(Steps.run_id == run_number(run), Turns.author != ENVIRONMENT).order_by(Turns.author)
    verified = mine.join(Scores, Scores.turn_id == Turns.id).where(Scores.name == "verifier")
    with store.read() as session:
        return list(session.scalars(mine)), list(session.scalars(verified))


def score_names(store: Store, run: str) -> list[str]:
    """The names of the scores that turns of a run are stored with."""
    mine = select(Scores.name).join(Turns).join(Episodes).join(Steps, Steps.id == Episodes.step_id).distinct()
    with store.read() as session:
        return list(session.scalars(mine.where(Steps.run_id == run_number(run)).order_by(Scores.name)))


class Shift:
    """One process's part in a scoring, under a ``holder`` name of its own (``leases.new_holder``)."""

    def __init__(self, store: Store, one: Rescore, holder: str, lease_s: float = 30.0) -> None:
        """Leases last ``lease_s`` unless they are renewed."""
        self.store, self.holder = store, holder
        rescored = table(Rescored)
        with store.read() as session:
            number = _id(session.connection(), one)
            wanted = select(func.min(Rescored.id), func.max(Rescored.id)).where(Rescored.rescore_id == number)
            first, last = session.execute(wanted).one()
        its = literal_column("+rescored.rescore_id", Integer) == number  # the sign keeps SQLite to the order of ids
        mine = and_(rescored.c.id.between(first or 0, last or -1), its, rescored.c.validity.is_(None))
        self.queue = Queue(rescored, mine, lease_s)
        self._last = -1  # the row taken last: what lies before it is done, or somebody else's for now

    def take(self, most: int) -> list[Waiting]:
        """Lease up to ``most`` turns, in the order they were played; none when none is free."""
        with self.store.write() as connection:
            ids = lease(connection, self.queue, self.holder, most, self._last)
            ids = ids or lease(connection, self.queue, self.holder, most)
            self._last = ids[-1] if ids else -1
            wanted = (
                select(Rescored.id, Turns.episode_id, Turns.number, Steps.number, Steps.run_id, Episodes.number)
                .join(Turns, Turns.id == Rescored.turn_id)
                .join(Episodes, Episodes.id == Turns.episode_id)
                .join(Steps, Steps.id == Episodes.step_id)
                .where(Rescored.id.in_(ids))
                .order_by(Rescored.id)
            )
            found = connection.execute(wanted).all()
        return [Waiting(row[0], row[1], row[2], row[3], f"r{row[4]}/{row[3]}/{row[5]}") for row in found]

    def hand_in(self, scores: Mapping[int, Score]) -> list[int]:
        """Write scores by row id; the ids for which they count, the others having gone to somebody else meanwhile."""
        results = {row: _columns(score) for row, score in scores.items()}
        with self.store.write() as connection:
            return finish(connection, self.queue, self.holder, results)

    def renew(self, ids: Sequence[int]) -> list[int]:
        """Go on holding these rows; those that are still held."""
        with self.store.write() as connection:
            return renew(connection, self.queue, self.holder, ids)

    def give_back(self, ids: Sequence[int]) -> list[int]:
        """Let go of rows that will not be scored here."""
        with self.store.write() as connection:
            return give_back(connection, self.queue, self.holder, ids)

    def standing(self) -> Standing:
        """How many turns are free, how many somebody holds, and for how long."""
        with self.store.read() as session:
            return standing(session.connection(), self.queue)


def _columns(score: Score) -> dict[str, Any]:
    criteria = [asdict(row) | {"validity": str(row.validity)} for row in score.criteria] or None
    told = {"validity": str(score.validity), "by": score.by, "note": score.note, "criteria": criteria}
    return {"value": score.value, **told}


def _id(connection: Connection, one: Rescore) -> int:
    wanted = select(Rescores.id).where(Rescores.run_id == run_number(one.run), Rescores.number == one.number)
    return int(connection.execute(wanted).scalar_one())


def _described(run: str, row: Rescores, n: Mapping[str, int]) -> Rescore:
    options = {key: value for key, value in row.options.items() if key != "left_out"}
    counts = (n.get(name, 0) for name in ("waiting", "valued", "invalid", "missing"))
    waiting, valued, invalid, missing = counts
    kind: Kind = "rubric" if row.kind == "rubric" else "verifier"
    turns = waiting + valued + invalid + missing
    left_out = tuple(row.options.get("left_out", ()))
    return Rescore(run, row.number, kind, row.name, options, row.made_at, turns, waiting, valued, invalid, missing,
                   left_out)  # fmt: skip


def _turns(number: int, asked: Asked, *columns: Any) -> Select[Any]:
    """Columns of the run's role turns that are asked for."""
    wanted = select(*columns).select_from(Turns).join(Episodes).join(Steps, Steps.id == Episodes.step_id)
    wanted = wanted.where(Steps.run_id == number, Turns.author != ENVIRONMENT)
    if asked.roles:
        wanted = wanted.where(Turns.author.in_(asked.roles))
    if asked.first is not None:
        wanted = wanted.where(Steps.number >= asked.first)
    return wanted if asked.last is None else wanted.where(Steps.number <= asked.last)


def _why_not(asked: Asked) -> Any:
    """Why a turn is left out, "" where it is not."""
    whens: list[Any] = [(Episodes.ending == "broke", BROKE), (func.coalesce(Turns.finish, "") == "abort", SILENT)]
    if asked.judged:
        verified = select(Scores.id).where(Scores.turn_id == Turns.id, Scores.name == "verifier").exists()
        whens.append((~verified, UNJUDGED))
    return case(*whens, else_="")


def _scorable(asked: Asked) -> Any:
    return _why_not(asked) == ""


def _left_out(connection: Connection, number: int, asked: Asked) -> list[dict[str, Any]]:
    counted = _turns(number, asked, Turns.author.label("role"), _why_not(asked).label("why")).subquery()
    wanted = select(counted.c.role, counted.c.why, func.count().label("turns")).where(counted.c.why != "")
    wanted = wanted.group_by(counted.c.role, counted.c.why).order_by(counted.c.role, counted.c.why)
    return [{"role": row.role, "why": row.why, "turns": row.turns} for row in connection.execute(wanted)]


def _nothing(run: str, asked: Asked, left_out: Sequence[Mapping[str, Any]]) -> str:
    where = "" if asked.first is None and asked.last is None else f" in steps {asked.first or 0} to {asked.last}"
    whose = f" of role {', '.join(asked.roles)}" if asked.roles else ""
    why = "; ".join(f"{one['turns']} of {one['role']}: {one['why']}" for one in left_out)
    return f"{run} has no turn{whose}{where} to score" + (f" ({why})" if why else "") + "; nothing was begun"
