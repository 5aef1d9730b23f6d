"""What commands ask the database beyond ``storage.queries``: a run's scenario, its checkpoint, counts by cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import RunNotFound

if TYPE_CHECKING:
    from sparring.storage.records import EvaluationRow, ResumePoint
    from sparring.storage.store import Store

MAIN = "accuracy"
Row = dict[str, Any]


def ask(store: Store, sql: str, limit: int = 100_000) -> list[Row]:
    """The rows of a SELECT as mappings from column names."""
    from sparring.storage.queries import select_rows

    answer = select_rows(store, sql, limit)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def number_of(run: str) -> int:
    """The integer of a run id, safe to put into SQL. Raises ``RunNotFound``."""
    from sparring.storage.store import run_number

    return run_number(run)


def scenario_of(store: Store, run: str) -> dict[str, Any]:
    """The resolved scenario a run was started with. Raises ``RunNotFound``."""
    from sparring.storage.codec import unescape, unpack_json

    store.run(run)
    sql = f"SELECT x.resolved FROM scenarios x JOIN runs r ON r.scenario_id = x.id WHERE r.id = {number_of(run)}"
    resolved: dict[str, Any] = unpack_json(unescape(ask(store, sql)[0]["resolved"]))
    return resolved


def newest_point(store: Store, run: str) -> ResumePoint:
    """Where the newest checkpoint of a run stands, without touching a row. Raises ``RunNotFound`` when it has none."""
    from sparring.storage.codec import unescape, unpack_json
    from sparring.storage.records import CheckpointRow, ResumePoint

    sql = f"""
      SELECT s.number, s.policy_version, s.curriculum_state, p.weights_sha, c.path, c.sha, c.bytes
      FROM checkpoints c JOIN steps s ON s.id = c.step_id
      JOIN policy_versions p ON p.run_id = s.run_id AND p.number = s.policy_version
      WHERE s.run_id = {number_of(run)} ORDER BY s.number DESC LIMIT 1"""
    rows = ask(store, sql)
    if not rows:
        raise RunNotFound(f"run {run} has no checkpoint yet; wait for its first whole step")
    row = rows[0]
    return ResumePoint(
        run=run,
        scenario=scenario_of(store, run),
        last_step=row["number"],
        checkpoint=CheckpointRow(unescape(row["path"]), row["sha"], row["bytes"]),
        curriculum_state=unpack_json(unescape(row["curriculum_state"])),
        state={},
        weights_sha=row["weights_sha"],
        policy_version=row["policy_version"],
        seed=store.run(run).seed,
    )


def seconds_of(store: Store) -> dict[str, float]:
    """Seconds of work by run id; waiting between a stop and a resume does not count."""
    rows = ask(store, "SELECT 'r' || run_id AS run, sum(seconds) AS seconds FROM steps GROUP BY run_id")
    return {row["run"]: row["seconds"] for row in rows}


def refused(store: Store, run: str) -> list[Row]:
    """``reason`` and ``n`` of every refused proposal of a run, the commonest first."""
    return ask(store, _counted("f.reason", "JOIN refusals f ON f.turn_id = t.id", run, "reason"))


def invalid(store: Store, run: str) -> list[Row]:
    """``cause`` and ``n`` of every score of a run that could not be used, the commonest first."""
    cause = "x.name || ' by ' || x.by || ': ' || x.note"
    return ask(store, _counted(cause, "JOIN scores x ON x.turn_id = t.id AND x.validity = 'invalid'", run, "cause"))


def _counted(what: str, join: str, run: str, name: str) -> str:
    return f"""
      SELECT {what} AS {name}, count(*) AS n
      FROM steps s JOIN episodes e ON e.step_id = s.id JOIN turns t ON t.episode_id = e.id {join}
      WHERE s.run_id = {number_of(run)} GROUP BY 1 ORDER BY 2 DESC, 1"""


def curriculum(store: Store, run: str) -> list[Row]:
    """By ``arm``: ``episodes``, how many of them in the ``first`` and ``last`` quarter of the run, ``reward``."""
    last, mine = store.run(run).last_step or 0, number_of(run)
    return ask(
        store,
        f"""
        SELECT c.arm, sum(c.count) AS episodes, sum(CASE WHEN 4 * s.number <= {last} THEN c.count ELSE 0 END) AS first,
          sum(CASE WHEN 4 * s.number > 3 * {last} THEN c.count ELSE 0 END) AS last,
          (SELECT avg(e.reward) FROM episodes e JOIN steps q ON q.id = e.step_id JOIN curriculum_events d
             ON d.step_id = e.step_id AND d.number = e.pick WHERE q.run_id = {mine} AND d.arm = c.arm) AS reward
        FROM curriculum_events c JOIN steps s ON s.id = c.step_id
        WHERE s.run_id = {mine} GROUP BY c.arm ORDER BY c.arm""",
    )


def credits_of(store: Store, run: str, step: int, episode: int) -> dict[int, Row]:
    """By turn index: the ``reward``, ``advantage`` and ``pull`` it had in the update of the step that played it.

    Where several trainers took the turn up, the advantage is of the one that pulled hardest and the pull their sum.
    """
    sql = f"""
      SELECT t.number AS turn, a.reward, a.value AS advantage, a.pull
      FROM advantages a JOIN turns t ON t.id = a.turn_id JOIN episodes e ON e.id = t.episode_id
      JOIN steps s ON s.id = e.step_id AND a.step_id = s.id
      WHERE s.run_id = {number_of(run)} AND s.number = {int(step)} AND e.number = {int(episode)}
      ORDER BY t.number, abs(a.pull), a.id"""
    found: dict[int, Row] = {}
    for row in ask(store, sql):
        pulled = found[row["turn"]]["pull"] if row["turn"] in found else 0.0
        found[row["turn"]] = {**row, "pull": pulled + row["pull"]}
    return {turn: {name: row[name] for name in ("reward", "advantage", "pull")} for turn, row in found.items()}


def curve(rows: Sequence[EvaluationRow], name: str | None = None) -> list[EvaluationRow]:
    """One metric over the whole held-out set: ``name``, else accuracy, else whichever was measured first."""
    whole = [row for row in rows if not row.parameters]
    names = list(dict.fromkeys(row.name for row in whole))
    wanted = name or (MAIN if MAIN in names else next(iter(names), MAIN))
    return [row for row in whole if row.name == wanted]


def by_arm(rows: Sequence[EvaluationRow], name: str) -> Mapping[str, float]:
    """One metric by curriculum arm."""
    return {str(row.parameters["arm"]): row.value for row in rows if row.name == name and "arm" in row.parameters}
