"""One StepRecord becomes rows: the step itself, what its episodes share, and what was learnt from them."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict

from sqlalchemy import Connection, func, select, update

from sparring.envs.types import Segment
from sparring.scenarios.errors import StoreError

from .episode_rows import EpisodeRows, Known
from .fields import columns_of
from .records import StepRecord
from .rows import NewRows, now, parts
from .step_hashes import of_new_rows, of_run
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
    Segments,
    States,
    Steps,
    Tasks,
    Turns,
)


class StepWriter:
    """Writes one step; lives within one write transaction."""

    def __init__(self, connection: Connection, run_id: int, record: StepRecord) -> None:
        """``run_id`` is the run's integer id; nothing is written before ``write``."""
        self.connection = connection
        self.run_id = run_id
        self.record = record
        self.rows = NewRows(connection)

    def write(self) -> None:
        """Insert everything. Raises ``StoreError`` on a borrowed episode or turn that is not there."""
        record = self.record
        self._step()
        known = Known(self.run_id, self.step_id, self._policy_versions(), self._segments(), self._parent_tasks())
        rewards = _rewards(record)
        self.turn_ids = {
            (episode.index, turn): turn_id
            for episode in record.episodes
            for turn, turn_id in EpisodeRows(self.rows, known, episode, rewards.get(episode.index)).turn_ids.items()
        }
        lent = self._borrowed()
        self._learning()
        self._seal(lent)
        self.rows.insert()

    def _seal(self, lent: list[str]) -> None:
        """Give the step its hash; ``lent`` are those of the episodes it borrowed."""
        record = self.record
        places = {turn_id: place for place, turn_id in self.turn_ids.items()}
        earlier = select(func.max(Steps.number)).where(Steps.run_id == self.run_id, Steps.number < record.step)
        before = self.connection.execute(earlier).scalar()
        run = of_run(self.connection, self.run_id)
        self.row["hash"] = of_new_rows(self.rows.rows, places, lent, record.weights_sha, before, run)

    def _step(self) -> None:
        record = self.record
        self.row = columns_of(record, Steps, run_id=self.run_id, number=record.step, saved_at=now())
        self.step_id = step_id = self.rows.add(Steps, self.row)
        if record.checkpoint is not None:
            self.rows.add(Checkpoints, columns_of(record.checkpoint, Checkpoints, step_id=step_id))
        for number, pick in enumerate(record.picks):
            self.rows.add(CurriculumEvents, columns_of(pick, CurriculumEvents, step_id=step_id, number=number))
        for name in sorted(record.state):
            self.rows.add(States, {"step_id": step_id, "name": name, "value": record.state[name]})

    def _policy_versions(self) -> dict[int, int]:
        """Version number -> row id, adding versions not met before. Behaviour versions may come without a hash."""
        record, versions = self.record, PolicyVersions
        turns = [turn for episode in record.episodes for turn in episode.turns]
        needed = {record.policy_version, *(turn.policy_version for turn in turns)}
        needed |= {span.version for turn in turns for span in turn.spans}
        rows = self.connection.execute(
            select(versions.id, versions.number, versions.weights_sha).where(
                versions.run_id == self.run_id, versions.number.in_(needed)
            )
        ).all()
        found = {row.number: row.id for row in rows}
        known = {row.number: row.weights_sha for row in rows}.get(record.policy_version)
        if known == "":
            named = update(versions).where(versions.id == found[record.policy_version])
            self.connection.execute(named.values(weights_sha=record.weights_sha))
        elif known is not None and known != record.weights_sha:
            raise StoreError(
                f"step {record.step}: policy version {record.policy_version} has weights {record.weights_sha!r}, "
                f"but the run holds it with {known!r}; count the version up whenever the weights change"
            )
        for number in sorted(needed - found.keys()):
            weights = record.weights_sha if number == record.policy_version else ""
            columns = {"run_id": self.run_id, "number": number, "weights_sha": weights, "step_id": self.step_id}
            found[number] = self.rows.add(versions, columns)
        return found

    def _segments(self) -> dict[Segment, int]:
        """Segment -> row id, adding those this run has not met before."""
        turns = [turn for episode in self.record.episodes for turn in episode.turns]
        wanted: dict[Segment, tuple[str, bytes]] = {}
        for segment in itertools.chain.from_iterable((turn.context, turn.train_context) for turn in turns):
            if segment is not None and segment not in wanted:
                text = segment.text.encode("utf-8", "surrogatepass")
                wanted[segment] = (segment.key, hashlib.blake2b(text, digest_size=8).digest())
        known = self._known_segments(sorted({key for key, _ in wanted.values()}))
        found: dict[Segment, int] = {}
        for segment, natural in wanted.items():
            if natural not in known:
                row = columns_of(segment, Segments, run_id=self.run_id, step_id=self.step_id)
                row |= {"key": natural[0], "text_hash": natural[1], "n_tokens": len(segment.token_ids)}
                known[natural] = self.rows.add(Segments, row)
            found[segment] = known[natural]
        return found

    def _known_segments(self, keys: list[str]) -> dict[tuple[str, bytes], int]:
        found: dict[tuple[str, bytes], int] = {}
        columns = select(Segments.key, Segments.text_hash, Segments.id).where(Segments.run_id == self.run_id)
        for part in parts(keys):
            rows = self.connection.execute(columns.where(Segments.key.in_(part)))
            found.update({(row.key, bytes(row.text_hash)): row.id for row in rows})
        return found

    def _parent_tasks(self) -> dict[str, int]:
        """Key -> row id of the newest earlier task, for the parents that tasks of this step name."""
        keys = {task.parent for episode in self.record.episodes for task in episode.tasks if task.parent is not None}
        found: dict[str, int] = {}
        for part in parts(sorted(keys)):
            rows = self.connection.execute(
                select(Tasks.key, func.max(Tasks.id).label("id"))
                .where(Tasks.run_id == self.run_id, Tasks.key.in_(part))
                .group_by(Tasks.key)
            )
            found.update({row.key: row.id for row in rows})
        return found

    def _borrowed(self) -> list[str]:
        """Name the stored episodes this step used, find the ids of their turns; returns their hashes."""
        wanted = {int(stored): number for number, stored in enumerate(self.record.borrowed)}
        present: dict[int, str] = {}
        for part in parts(list(wanted)):
            hashes = self.connection.execute(select(Episodes.id, Episodes.hash).where(Episodes.id.in_(part)))
            present.update({row.id: row.hash for row in hashes})
            turns = select(Turns.episode_id, Turns.number, Turns.id).where(Turns.episode_id.in_(part))
            for episode_id, turn, turn_id in self.connection.execute(turns):
                self.turn_ids[len(self.record.episodes) + wanted[episode_id], turn] = turn_id
        for stored, number in wanted.items():
            if stored not in present:
                raise StoreError(
                    f"step {self.record.step}: no episode with the id {stored} is stored here; nothing was saved: "
                    "take ids from queries.stored_episodes of this database"
                )
            self.rows.add(Borrowed, {"step_id": self.step_id, "number": number, "episode_id": stored})
        return [present[stored] for stored in wanted]

    def _learning(self) -> None:
        """Groups, advantages, evaluations and alarms."""
        step_id = self.step_id
        for group in self.record.groups:
            row = columns_of(group, Groups, step_id=step_id, number=group.index, kept=bool(group.kept))
            self.rows.add(Groups, row)
        for advantage in self.record.advantages:
            turn_id = self.turn_ids.get((advantage.episode, advantage.turn))
            if turn_id is None:  # of a borrowed episode: checks.py knows the step's own
                raise StoreError(
                    f"step {self.record.step}, episode {advantage.episode} (borrowed), turn {advantage.turn}: an "
                    "advantage belongs to this turn, but the stored episode has no such turn; nothing was saved"
                )
            row = columns_of(advantage, Advantages, step_id=step_id, turn_id=turn_id, n_tokens=int(advantage.n_tokens))
            self.rows.add(Advantages, row)
        for number, item in enumerate(self.record.evaluations):
            row = columns_of(item, Evaluations, step_id=step_id, number=number, at_step=item.step, n=int(item.n))
            self.rows.add(Evaluations, row)
        for number, alarm in enumerate(self.record.alarms):
            self.rows.add(Alarms, columns_of(alarm, Alarms, step_id=step_id, number=number))


def _rewards(record: StepRecord) -> dict[int, float]:
    """Mean combined reward of each episode's turns; a turn that several trainers used counts once."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for row in record.advantages:
        if row.reward is not None:
            found[row.episode].setdefault(row.turn, float(row.reward))
    return {episode: sum(turns.values()) / len(turns) for episode, turns in found.items()}
