"""What a program without Sparring writes: the rows of ``storage_steps.long_step`` by plain ``sqlite3``.

Same tables, indexes, foreign keys and pragmas, one transaction a step. It packs tokens and JSON, nothing more: no
checks, no content hashes (32 characters stand where they go), no look for what is stored already.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sparring.storage.database import PRAGMAS
from sparring.storage.records import StepRecord
from sparring.storage.store import Store

HASH = "0" * 32
SAVED = "2026-01-01T00:00:00Z"
_GROUPS = "(id, step_id, number, trainer, role, node, scope, size, mean, std, kept, note)"  # later columns came last
Rows = dict[str, list[tuple[Any, ...]]]


class RawWriter:
    """One run in a file of its own, written by hand."""

    def __init__(self, file: Path) -> None:
        """The tables are the store's."""
        with Store(file) as store:
            store.start_run("raw", {}, "raw", 0)
            store.finish_run("r1", "done")
        self.connection = sqlite3.connect(file, isolation_level=None)
        for name, value in PRAGMAS.items():
            self.connection.execute(f"PRAGMA {name}={value}")
        self.columns: dict[str, str] = {}
        self.next = dict.fromkeys(("episodes", "turns", "scores", "segments", "advantages", "groups"), 1)

    def save(self, record: StepRecord) -> None:
        """One step in one transaction."""
        self.insert(self.rows(record))

    def insert(self, rows: Rows) -> None:
        """Rows as they are."""
        self.connection.execute("BEGIN IMMEDIATE")
        for name, made in rows.items():
            named = _GROUPS if name == "groups" else ""
            self.connection.executemany(f'INSERT INTO "{name}" {named} VALUES ({",".join("?" * len(made[0]))})', made)
        self.connection.execute("COMMIT")

    def rows(self, record: StepRecord) -> Rows:
        """The step's rows by table, columns in the tables' order."""
        at, version = record.step + 1, record.policy_version
        metrics, state = json.dumps(dict(record.metrics)), json.dumps(dict(record.curriculum_state))
        rows: Rows = {
            "steps": [(at, 1, record.step, version, metrics, state, record.seconds, SAVED, HASH)],
            "policy_versions": [(version + 1, 1, version, record.weights_sha, at)],
            "curriculum_events": [
                (at, at, 0, pick.arm, json.dumps(dict(pick.parameters)), pick.count) for pick in record.picks
            ],
        }
        if record.step == 0:
            rows["policy_versions"].insert(0, (1, 1, 0, "", at))
        rows |= {name: [] for name in ("segments", "episodes", "tasks", "turns", "scores", "groups", "advantages")}
        for episode in record.episodes:
            self._episode(rows, episode, at)
        first = rows["turns"][0][0]
        per_episode = len(record.episodes[0].turns)
        for group in record.groups:
            facts = (group.trainer, group.role, group.node, group.scope, group.size, group.mean, group.std)
            rows["groups"].append((self._id("groups"), at, group.index, *facts, group.kept, ""))
        for row in record.advantages:
            turn = first + row.episode * per_episode + row.turn
            facts = (row.trainer, row.group, row.role, row.reward, row.value, row.weight, row.n_tokens, row.pull)
            rows["advantages"].append((self._id("advantages"), at, turn, *facts, None, ""))
        return rows

    def _episode(self, rows: Rows, episode: Any, at: int) -> None:
        number, task = self._id("episodes"), episode.tasks[0]
        given = json.dumps(dict(episode.parameters))
        facts = (episode.index, episode.pick, given, str(episode.ending), episode.error, 1.0, episode.seconds)
        rows["episodes"].append((number, at, *facts, HASH, None))
        told = [json.dumps(part) for part in (task.payload, task.secret, task.parameters, task.skills)]
        head = (number, 1, number, 0, task.key, task.environment, task.payload["program"][:60])
        rows["tasks"].append((*head, *told, task.origin, None, None, None, None))
        asked = episode.turns[1].context
        text = blake2b(asked.text.encode(), digest_size=8).digest()
        segment = self._id("segments")
        ids = b"\x14" + array("I", asked.token_ids).tobytes()
        rows["segments"].append((segment, 1, at, asked.key, text, asked.text, ids, len(asked.token_ids)))
        for turn in episode.turns:
            new = self._id("turns")
            ids = b"\x14" + array("I", turn.token_ids).tobytes() if turn.token_ids else None
            logprobs = b"\x15" + array("f", turn.logprobs).tobytes() if turn.token_ids else None
            parsed = ("answer", json.dumps(turn.parsed.value), None) if turn.parsed else (None, "null", None)
            read = (segment, None) if turn.context else (None, None)
            said = (turn.node, turn.author, turn.sample, turn.said, len(turn.token_ids), ids, logprobs)
            how = (turn.finish and str(turn.finish), turn.engine, turn.seed, *parsed, 0, None)
            place = (new, number, turn.index, turn.parent, turn.follows)
            rows["turns"].append((*place, *said, *how, turn.policy_version + 1, *read, None, None))
            for index, score in enumerate(episode.scores.get(turn.index, ())):
                facts = (index, score.name, score.value, str(score.validity), score.by, score.note)
                rows["scores"].append((self._id("scores"), new, *facts))

    def _id(self, table: str) -> int:
        self.next[table] += 1
        return self.next[table] - 1

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()
