"""What is whole of a damaged database, in a new one. Steps are written again as a run writes them, with new hashes.

A run keeps its number up to its first damaged step, and can be resumed there. What is whole of the rest goes to a run
of its own: whole steps, and of damaged steps the episodes that still give their hash.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, delete, func, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from sparring.envs.types import Episode, Pick
from sparring.scenarios.errors import RunBusy, StoreError

from .damage import DAMAGE, Finding, said, wrong_steps
from .fields import record_of
from .hashes import episode_hash
from .rebuild import rebuild
from .records import AdvantageRow, AlarmRow, CheckpointRow, EvaluationRow, GroupRow, StepRecord
from .rows import now, parts, table
from .sqlite import Sqlite
from .step_hashes import of_stored_rows
from .step_rows import StepWriter
from .store import Store
from .tables import (
    Advantages,
    Alarms,
    Borrowed,
    Checkpoints,
    CurriculumEvents,
    Episodes,
    Evaluations,
    Groups,
    PolicyVersions,
    Runs,
    Scenarios,
    States,
    Steps,
    Turns,
)
from .verifying import readable_ids, wrong_links

LOST = "lost"  # the arm of curriculum decisions that could not be read


@dataclass(slots=True)
class SavedRun:
    """What became of a run: ``steps`` and ``episodes`` that are whole, ``cut`` the first damaged step, ``rest`` the new
    run that holds what is whole from there on, ``lost`` the places that are gone and why."""

    run: str
    name: str
    steps: int = 0
    episodes: int = 0
    resumable: int | None = None
    cut: int | None = None
    rest: str | None = None
    rest_episodes: int = 0
    lost: list[Finding] = field(default_factory=list)


def salvage(source: Path, target: Path, told: Callable[[int, int], None] = lambda done, total: None) -> list[SavedRun]:
    """Copy what is whole of ``source`` to the new database ``target``; ``source`` is only read.

    Raises ``StoreError`` where ``target`` exists, ``source`` is being written, or nothing of it can be read.
    """
    if target.exists():
        raise StoreError(f"{target} exists already; give the path of a new database")
    if not source.is_file():
        raise StoreError(f"no database at {source}")
    if any(Sqlite(source).is_held(lock.name.split(".")[-2]) for lock in source.parent.glob(f"{source.name}.r*.lock")):
        raise RunBusy(f"{source} is being written; stop its runs first, or salvage a copy")
    try:
        with _reading(source) as session, Store(target) as store:
            return _Salvage(session, store).all(told)
    except DAMAGE as error:
        for made in target.parent.glob(f"{target.name}*"):
            made.unlink()
        raise StoreError(f"{source}: nothing can be read: {said(error)}; take the newest whole copy of it") from error


@contextmanager
def _reading(source: Path) -> Iterator[Session]:
    """A session on a copy, which no reading or upgrading of ours can make worse."""
    with tempfile.TemporaryDirectory(prefix=".salvage-", dir=source.parent) as folder:
        copy = Path(folder) / "copy.db"
        shutil.copy(source, copy)
        log = source.with_name(source.name + "-wal")
        if log.exists():
            shutil.copy(log, copy.with_name(copy.name + "-wal"))
        with suppress(*DAMAGE):  # to the newest schema; else what can be read is read as it stands
            Store(copy, create=False).close()
        engine = create_engine("sqlite://", creator=lambda: _forgiving(copy), poolclass=StaticPool)
        try:
            with Session(engine, autoflush=False) as session:
                yield session
        finally:
            engine.dispose()


def _forgiving(copy: Path) -> sqlite3.Connection:
    """A connection that takes what it can read of a damaged schema, or of a file whose end is gone."""
    connection = sqlite3.connect(copy, check_same_thread=False)
    connection.execute("PRAGMA writable_schema=ON")
    return connection


class _Salvage:
    """One way through the steps of a database, oldest first, so that what a step borrowed is there before it."""

    def __init__(self, session: Session, store: Store) -> None:
        self.session, self.store = session, store
        self.runs: dict[int, SavedRun] = {}
        self.rest: dict[int, int] = {}  # the runs that hold what is whole behind a damaged step
        self.links: dict[int, set[str]] = {}
        self.moved: dict[int, int] = {}  # ids of episodes: old -> new
        self.stateless: defaultdict[int, list[int]] = defaultdict(list)  # by run: steps whose trainer state is gone

    def all(self, told: Callable[[int, int], None]) -> list[SavedRun]:
        trouble: list[Finding] = []
        numbers = readable_ids(self.session, Runs, trouble, "file")
        steps = readable_ids(self.session, Steps, trouble, "file")
        self.top = max([*numbers, *(self._run_of(step) or 0 for step in steps)], default=0)
        for number in numbers:
            self._begin(number)
        for done, step_id in enumerate(steps):
            told(done, len(steps))
            if (run := self._run_of(step_id)) is None:
                trouble.append(Finding(f"step with the id {step_id}", "its run is unknown"))
            else:
                self._step(run, step_id)
        for step_id, episodes in self._orphans(set(steps)):
            self._adopt(step_id, episodes)
        self._end()
        if trouble and self.runs:
            next(iter(self.runs.values())).lost[:0] = trouble
        return list(self.runs.values())

    def _orphans(self, steps: set[int]) -> list[tuple[int, list[int]]]:
        """Ids of episodes whose step cannot be read, by the id of that step."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for episode in readable_ids(self.session, Episodes, [], "file"):
            with suppress(*DAMAGE):
                step_id = self.session.scalar(select(Episodes.step_id).where(Episodes.id == episode)) or 0
                if step_id not in steps:
                    found[step_id].append(episode)
        return sorted(found.items())

    def _adopt(self, step_id: int, episodes: list[int]) -> None:
        """Keep whole episodes of a step that is lost: their words tell the run, their order the step's number."""
        try:
            versions = select(PolicyVersions.run_id).join(Turns, Turns.policy_version_id == PolicyVersions.id)
            number = self.session.scalars(versions.where(Turns.episode_id == episodes[0]).limit(1)).one()
            known: dict[int, int] = {}
            for part in parts(episodes):
                wanted = select(Episodes.number, Episodes.id).where(Episodes.id.in_(part))
                known |= {row.number: row.id for row in self.session.execute(wanted)}
            keep = {place: one for place, one in known.items() if self._gives_its_hash(one)}
        except DAMAGE:
            return
        if number not in self.runs:
            self._begin(number)
        run, rest = self.runs[number], self._rest_of(number)
        with self.store.read() as session:
            last = session.scalar(select(func.max(Steps.number)).where(Steps.run_id == rest))
        run.cut = run.cut or 0
        place = 0 if last is None else last + 1
        if self._save(rest, step_id, keep, rows=False, number=place):
            run.rest_episodes += len(keep)
            run.lost.append(Finding(f"step with the id {step_id}", f"its row; its episodes are in r{rest}/{place}"))

    def _gives_its_hash(self, episode: int) -> bool:
        try:
            saved = self.session.scalar(select(Episodes.hash).where(Episodes.id == episode))
            return episode_hash(rebuild(self.session, [episode])[0]) == saved
        except DAMAGE:
            return False

    def _run_of(self, step_id: int) -> int | None:
        try:
            return self.session.scalar(select(Steps.run_id).where(Steps.id == step_id))
        except DAMAGE:
            return None

    def _begin(self, number: int) -> None:
        """The run's own row, as far as it can be read."""
        run = self.runs[number] = SavedRun(f"r{number}", LOST)
        try:
            row = self.session.execute(select(*table(Runs).c).where(Runs.id == number)).one()
            self._insert({**row._mapping, "status": "stopped" if row.status == "running" else row.status})
            run.name = row.name
        except DAMAGE as error:
            run.lost.append(Finding(run.run, f"its row cannot be read: {said(error)}"))
            bare = {"id": number, "name": LOST, "seed": 0, "status": "failed", "info": {}, "started_at": now()}
            self._insert({**bare, "finished_at": None, "scenario_id": 0})

    def _insert(self, columns: dict[str, Any]) -> None:
        run = self.runs[columns["id"]]
        digest, resolved = f"{LOST} {run.run}", {}
        try:
            wanted = select(Scenarios.digest, Scenarios.resolved).where(Scenarios.id == columns["scenario_id"])
            digest, resolved = self.session.execute(wanted).one()
        except DAMAGE as error:
            run.lost.append(Finding(run.run, f"its scenario cannot be read: {said(error)}"))
        scenarios = table(Scenarios)
        with self.store.write() as connection:
            known = connection.execute(select(scenarios.c.id).where(scenarios.c.digest == digest)).scalar()
            if known is None:
                known = (connection.execute(select(func.max(scenarios.c.id))).scalar() or 0) + 1
                connection.execute(insert(scenarios).values(id=known, digest=digest, resolved=resolved))
            connection.execute(insert(table(Runs)).values({**columns, "scenario_id": known}))

    def _step(self, number: int, step_id: int) -> None:
        """A step goes where its run goes on, or, behind damage, to the run that holds the rest."""
        if number not in self.runs:
            self._begin(number)
        run = self.runs[number]
        findings = list(wrong_steps(self.session, [step_id]))
        step = self._number(step_id)
        linked = self._links(number)
        findings += [Finding(where, "its links changed", part="episode") for where in sorted(linked)
                     if where.startswith(f"r{number}/{step}/")]  # fmt: skip
        bad = {finding.part for finding in findings}
        if run.cut is None and bad <= {"state"} and self._save(number, step_id, None, resumable=not bad):
            run.steps += 1
            run.episodes += self._count(step_id)
            run.lost += findings
            return
        if run.cut is None:
            run.cut = step
            run.lost += [] if findings else [Finding(f"r{number}/{step}", "it borrowed an episode that is lost")]
        run.lost += findings
        keep = self._whole(step_id, findings, f"r{number}/{step}")
        rest = self._rest_of(number)
        if (not bad and self._save(rest, step_id, None, resumable=False)) or (
            self._save(rest, step_id, keep, "rows" not in bad)
        ):
            run.rest_episodes += len(keep)
        else:
            run.lost.append(Finding(f"r{number}/{step}", "nothing of it could be kept"))

    def _number(self, step_id: int) -> int:
        try:
            return self.session.scalar(select(Steps.number).where(Steps.id == step_id)) or 0
        except DAMAGE:
            return 0

    def _links(self, number: int) -> set[str]:
        if number not in self.links:
            self.links[number] = {finding.where for finding in wrong_links(self.session, number)}
        return self.links[number]

    def _count(self, step_id: int) -> int:
        return self.session.scalar(select(func.count()).select_from(Episodes).where(Episodes.step_id == step_id)) or 0

    def _whole(self, step_id: int, findings: list[Finding], place: str) -> dict[int, int]:
        """Ids of the step's episodes that still give their hash, by number."""
        lost = {finding.where for finding in findings if finding.part == "episode"}
        try:
            rows = self.session.execute(select(Episodes.id, Episodes.number).where(Episodes.step_id == step_id)).all()
        except DAMAGE:
            return self._one_by_one(step_id)
        return {row.number: row.id for row in rows if f"{place}/{row.number}" not in lost}

    def _one_by_one(self, step_id: int) -> dict[int, int]:
        """The same where the index that lists a step's episodes cannot be read."""
        found: dict[int, int] = {}
        for episode in readable_ids(self.session, Episodes, [], "file"):
            with suppress(*DAMAGE):
                wanted = select(Episodes.step_id, Episodes.number).where(Episodes.id == episode)
                row = self.session.execute(wanted).one()
                if row.step_id == step_id and self._gives_its_hash(episode):
                    found[row.number] = episode
        return found

    def _rest_of(self, number: int) -> int:
        """The run for what is whole of ``number`` behind its first damaged step."""
        if number not in self.rest:
            self.top += 1
            self.rest[number] = self.top
            run = self.runs[number]
            run.rest = f"r{self.top}"
            with self.store.read() as session:
                row = session.execute(select(*table(Runs).c).where(Runs.id == number)).one()
                scenario = session.get_one(Scenarios, row.scenario_id)
                columns = {**row._mapping, "id": self.top, "status": "done", "scenario_id": scenario.id}
            columns["name"] = f"{row.name}: rest of r{number}"
            with self.store.write() as connection:
                connection.execute(insert(table(Runs)).values(columns))
        return self.rest[number]

    def _save(
        self, run: int, step_id: int, keep: dict[int, int] | None, rows: bool = True, resumable: bool = True,
        number: int | None = None,
    ) -> bool:  # fmt: skip
        """Write a step again: all of it, or only the episodes ``keep`` and, where ``rows``, what was learnt of them.

        ``number`` is the step's where its own cannot be read.
        """
        try:
            found = _Stored(self.session, step_id, self.moved)
            record, saved_at = found.record(keep, rows)
            record = record if number is None else replace(record, step=number)
            if not resumable:
                record = replace(record, checkpoint=None, state={})
            with self.store.write() as connection:
                if keep is not None:
                    record = _known_weights(connection, run, record)
                writer = StepWriter(connection, run, record)
                writer.write()
                _seal(connection, writer.step_id, saved_at)
                mine = Episodes.step_id == writer.step_id
                new = connection.execute(select(Episodes.number, Episodes.id).where(mine)).all()
            old = self._whole(step_id, [], "") if keep is None else keep
            self.moved |= {old[row.number]: row.id for row in new}
            if found.stateless:
                self.stateless[run].append(writer.step_id)
        except DAMAGE:
            return False
        return True

    def _end(self) -> None:
        """Say where each run can go on; a run that ends earlier than it did was stopped.

        Trainer state is there for the newest checkpoints of the run as it was: of one that ends earlier, checkpoints
        without theirs cannot be resumed from.
        """
        checkpoints, runs = table(Checkpoints), table(Runs)
        for number, run in self.runs.items():
            with self.store.write() as connection:
                if run.cut is not None:
                    connection.execute(update(runs).where(runs.c.id == number).values(status="stopped"))
                    for step_id in self.stateless[number]:
                        connection.execute(delete(checkpoints).where(checkpoints.c.step_id == step_id))
                        _seal(connection, step_id)
                last = select(func.max(Steps.number)).join(Checkpoints, Checkpoints.step_id == Steps.id)
                run.resumable = connection.execute(last.where(Steps.run_id == number)).scalar()


def _seal(connection: Connection, step_id: int, saved_at: str | None = None) -> None:
    """The hash of a step over its rows, with the moment it was first saved."""
    steps = table(Steps)
    mine = update(steps).where(steps.c.id == step_id)
    if saved_at is not None:
        connection.execute(mine.values(saved_at=saved_at))
    connection.execute(mine.values(hash=of_stored_rows(connection, step_id)))


def _known_weights(connection: Connection, number: int, record: StepRecord) -> StepRecord:
    """A version's weights as the new run knows them already."""
    mine = (PolicyVersions.run_id == number) & (PolicyVersions.number == record.policy_version)
    known = connection.execute(select(PolicyVersions.weights_sha).where(mine)).scalar()
    return replace(record, weights_sha=known) if known else record


class _Stored:
    """A stored step as the record it was saved from."""

    def __init__(self, session: Session, step_id: int, moved: Mapping[int, int]) -> None:
        self.session, self.step_id, self.moved = session, step_id, moved
        self.stateless = False  # whether it had trainer state that is gone

    def record(self, keep: dict[int, int] | None, rows: bool) -> tuple[StepRecord, str]:
        """The record, and when it was saved."""
        ids = self._ids(Episodes, Episodes.number) if keep is None else [keep[number] for number in sorted(keep)]
        episodes = tuple(rebuild(self.session, ids))
        if not rows:
            return self._bare(episodes), now()
        step = self.session.execute(select(*table(Steps).c).where(Steps.id == self.step_id)).one()
        state = {row.name: row.value for row in self._all(States, States.name)}
        whole = keep is None
        self.stateless = "+" in (step.hash or "") and not state
        record = StepRecord(
            step=step.number,
            picks=tuple(record_of(Pick, CurriculumEvents, row) for row in self._all(CurriculumEvents)),
            episodes=episodes,
            groups=tuple(record_of(GroupRow, Groups, row, index=row.number) for row in self._all(Groups)),
            metrics=step.metrics,
            policy_version=step.policy_version,
            weights_sha=self._weights(step),
            checkpoint=self._checkpoint() if whole else None,
            curriculum_state=step.curriculum_state,
            state=state if whole else {},
            evaluations=tuple(
                record_of(EvaluationRow, Evaluations, row, step=row.at_step) for row in self._all(Evaluations)
            ),
            seconds=step.seconds,
            alarms=tuple(record_of(AlarmRow, Alarms, row) for row in self._all(Alarms)),
        )
        borrowed, positions = self._borrowed(len(episodes)) if whole else ((), {})
        advantages = self._advantages(set(ids), positions)
        return replace(record, borrowed=borrowed, advantages=advantages), step.saved_at

    def _all(self, model: Any, order: Any = None) -> list[Any]:
        order = model.number if order is None else order
        wanted = select(*table(model).c).where(model.step_id == self.step_id).order_by(order)
        return list(self.session.execute(wanted))

    def _ids(self, model: Any, order: Any) -> list[int]:
        return list(self.session.scalars(select(model.id).where(model.step_id == self.step_id).order_by(order)))

    def _bare(self, episodes: tuple[Episode, ...]) -> StepRecord:
        """A step of which only episodes are known to be as they were."""
        if not episodes:
            raise LookupError("no episode of it is whole")
        number: int | None = None
        with suppress(*DAMAGE):
            number = self.session.scalar(select(Steps.number).where(Steps.id == self.step_id))
        picks = tuple(Pick(LOST, {}, 0) for _ in range(1 + max(episode.pick for episode in episodes)))
        version = max((turn.policy_version for episode in episodes for turn in episode.turns), default=0)
        return StepRecord(step=int(number or 0), picks=picks, episodes=episodes, policy_version=version)

    def _weights(self, step: Any) -> str:
        mine = (PolicyVersions.run_id == step.run_id) & (PolicyVersions.number == step.policy_version)
        return self.session.scalar(select(PolicyVersions.weights_sha).where(mine)) or ""

    def _checkpoint(self) -> CheckpointRow | None:
        row = self.session.execute(select(*table(Checkpoints).c).where(Checkpoints.step_id == self.step_id))
        found = row.one_or_none()
        return None if found is None else record_of(CheckpointRow, Checkpoints, found)

    def _borrowed(self, played: int) -> tuple[tuple[int, ...], dict[int, int]]:
        """New ids of the episodes it borrowed, and their positions by old id. Raises ``LookupError`` on a lost one."""
        old = [row.episode_id for row in self._all(Borrowed)]
        return tuple(self.moved[one] for one in old), {one: played + place for place, one in enumerate(old)}

    def _advantages(self, own: set[int], borrowed: Mapping[int, int]) -> tuple[AdvantageRow, ...]:
        """What was learnt from turns that are kept."""
        places = (Turns.episode_id.label("of"), Turns.number.label("turn"), Episodes.number.label("place"))
        wanted = select(*table(Advantages).c, *places).join(Turns, Turns.id == Advantages.turn_id)
        wanted = wanted.join(Episodes, Episodes.id == Turns.episode_id).where(Advantages.step_id == self.step_id)
        found: dict[int, list[AdvantageRow]] = defaultdict(list)
        for row in self.session.execute(wanted.order_by(Advantages.id)):
            place = row.place if row.of in own else borrowed.get(row.of)
            if place is not None:
                found[place].append(record_of(AdvantageRow, Advantages, row, episode=place, turn=row.turn))
        return tuple(item for place in sorted(found) for item in found[place])
