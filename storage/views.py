"""The views people read, as SQL. A database whose views differ gets these when it is opened: their only home.

Columns are told one by one in ``view_columns.py``, inside the database by ``v_columns``, on paper by
``docs/database.md``. No view sorts: ``LIMIT`` answers at once.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from .view_columns import COLUMNS

_EPISODE = "'r' || s.run_id || '/' || s.number || '/' || e.number"
_TURN_REWARDS = (
    "SELECT avg(a.reward) AS reward FROM advantages a JOIN turns t ON t.id = a.turn_id"  # a turn counts once
)

VIEWS: dict[str, str] = {}

VIEWS["v_steps"] = f"""
SELECT 'r' || s.run_id AS run, s.number AS step,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id) AS episodes,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.ending = 'broke') AS broken,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.ending = 'refused') AS refused,
  (SELECT count(*) FROM episodes e JOIN turns t ON t.episode_id = e.id WHERE e.step_id = s.id) AS turns,
  (SELECT sum(t.n_tokens) FROM episodes e JOIN turns t ON t.episode_id = e.id WHERE e.step_id = s.id) AS tokens,
  (SELECT avg(u.reward) FROM ({_TURN_REWARDS} JOIN episodes e ON e.id = t.episode_id
     WHERE a.step_id = s.id AND e.step_id = s.id GROUP BY t.id) u) AS reward,
  (SELECT count(*) FROM borrowed b WHERE b.step_id = s.id) AS borrowed,
  (SELECT avg(u.reward) FROM ({_TURN_REWARDS} JOIN borrowed b ON b.episode_id = t.episode_id
     WHERE a.step_id = s.id AND b.step_id = s.id GROUP BY t.id) u) AS borrowed_reward,
  (SELECT coalesce(group_concat(u.trainer, ', '), '') FROM (SELECT g.trainer FROM groups g WHERE g.step_id = s.id
     UNION SELECT a.trainer FROM advantages a WHERE a.step_id = s.id ORDER BY 1) u) AS trainers,
  (SELECT sum(abs(a.pull)) FROM advantages a WHERE a.step_id = s.id) AS pull,
  (SELECT count(*) FROM groups g WHERE g.step_id = s.id) AS groups,
  (SELECT count(*) FROM groups g WHERE g.step_id = s.id AND g.kept) AS groups_kept,
  s.policy_version, p.weights_sha, c.path AS checkpoint, s.metrics, s.seconds, s.saved_at
FROM steps s
JOIN policy_versions p ON p.run_id = s.run_id AND p.number = s.policy_version
LEFT JOIN checkpoints c ON c.step_id = s.id
"""

VIEWS["v_episodes"] = f"""
SELECT {_EPISODE} AS episode, 'r' || s.run_id AS run, s.number AS step, c.arm, e.parameters, e.ending, e.reward,
  (SELECT k.summary FROM tasks k WHERE k.episode_id = e.id ORDER BY k.number LIMIT 1) AS task,
  (SELECT count(*) FROM tasks k WHERE k.episode_id = e.id) AS tasks,
  (SELECT count(*) FROM turns t WHERE t.episode_id = e.id) AS turns,
  (SELECT sum(t.n_tokens) FROM turns t WHERE t.episode_id = e.id) AS tokens,
  (SELECT sum(abs(a.pull)) FROM turns t JOIN advantages a ON a.turn_id = t.id
     WHERE t.episode_id = e.id AND a.step_id = e.step_id) AS pull,
  (SELECT count(*) FROM borrowed b WHERE b.episode_id = e.id) AS borrowed,
  (SELECT count(*) FROM turns t JOIN scores x ON x.turn_id = t.id
     WHERE t.episode_id = e.id AND x.validity = 'invalid') AS invalid,
  e.error, e.seconds, e.hash, e.id AS episode_id
FROM episodes e
JOIN steps s ON s.id = e.step_id
JOIN curriculum_events c ON c.step_id = e.step_id AND c.number = e.pick
"""

VIEWS["v_turns"] = f"""
SELECT {_EPISODE} AS episode, 'r' || s.run_id AS run, s.number AS step, t.number AS turn, t.parent, t.follows,
  t.node, t.author, t.sample, t.said, t.parsed_kind, t.parsed_problem, t.finish,
  x.text AS context, x.n_tokens AS context_tokens, t.n_tokens AS tokens,
  (SELECT group_concat(u.score, ' ') FROM (SELECT y.name || '=' ||
     coalesce(CAST(round(y.value, 4) AS TEXT), y.validity) AS score
     FROM scores y WHERE y.turn_id = t.id ORDER BY y.number) u) AS scores,
  f.reason AS refused, a.reward, a.value AS advantage,
  (SELECT sum(z.pull) FROM advantages z WHERE z.turn_id = t.id AND z.step_id = e.step_id) AS pull,
  coalesce(k.key, t.task_key) AS task_key, p.number AS policy_version, t.engine, t.addressee, t.spans
FROM turns t
JOIN episodes e ON e.id = t.episode_id
JOIN steps s ON s.id = e.step_id
JOIN policy_versions p ON p.id = t.policy_version_id
LEFT JOIN segments x ON x.id = t.context_id
LEFT JOIN tasks k ON k.episode_id = t.episode_id AND k.number = t.task
LEFT JOIN advantages a
  ON a.id = (SELECT min(z.id) FROM advantages z WHERE z.turn_id = t.id AND z.step_id = e.step_id)
LEFT JOIN refusals f ON f.turn_id = t.id
"""

VIEWS["v_rewards"] = """
SELECT 'r' || s.run_id AS run, s.number AS step, t.author AS role, x.name AS score, count(*) AS n,
  count(*) FILTER (WHERE x.validity = 'valued') AS valued, count(*) FILTER (WHERE x.validity = 'invalid') AS invalid,
  count(*) FILTER (WHERE x.validity = 'missing') AS missing,
  avg(x.value) AS mean, min(x.value) AS low, max(x.value) AS high, u.borrowed
FROM steps s
JOIN (SELECT step_id, id AS episode_id, 0 AS borrowed FROM episodes
      UNION ALL SELECT step_id, episode_id, 1 FROM borrowed) u ON u.step_id = s.id
JOIN turns t ON t.episode_id = u.episode_id
JOIN scores x ON x.turn_id = t.id
GROUP BY s.run_id, s.number, t.author, x.name, u.borrowed
"""

VIEWS["v_curriculum"] = """
SELECT 'r' || s.run_id AS run, s.number AS step, c.number AS pick, c.arm, c.parameters, c.count,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number) AS episodes,
  (SELECT count(*) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number AND e.ending = 'refused') AS refused,
  (SELECT avg(e.reward) FROM episodes e WHERE e.step_id = s.id AND e.pick = c.number) AS reward,
  s.curriculum_state AS state_after
FROM curriculum_events c
JOIN steps s ON s.id = c.step_id
"""

VIEWS["v_rubrics"] = f"""
SELECT {_EPISODE} AS episode, 'r' || s.run_id AS run, s.number AS step, r.turn AS rubric_turn,
  coalesce(w.author, 'task') AS written_by, r.version, r.provenance, k.key AS task_key, k.summary AS task,
  c.number AS criterion, c.text, c.points, c.kind, c.checker,
  (SELECT count(*) FROM criterion_scores x WHERE x.criterion_id = c.id) AS judged,
  (SELECT avg(x.share) FROM criterion_scores x WHERE x.criterion_id = c.id) AS pass_rate,
  (SELECT count(*) FROM criterion_scores x WHERE x.criterion_id = c.id AND x.validity = 'invalid') AS invalid
FROM rubrics r
JOIN episodes e ON e.id = r.episode_id
JOIN steps s ON s.id = e.step_id
JOIN turns h ON h.episode_id = r.episode_id AND h.number = r.turn
LEFT JOIN turns w ON w.episode_id = r.episode_id AND w.number = r.author
LEFT JOIN tasks k ON k.episode_id = r.episode_id AND k.number = h.task
LEFT JOIN criteria c ON c.rubric_id = r.id
"""

VIEWS["v_rescores"] = f"""
SELECT 'r' || s.run_id AS run, r.number AS rescore, r.kind, r.name, r.made_at,
  {_EPISODE} AS episode, s.number AS step, t.number AS turn, t.author AS role,
  u.value, u.validity, u.by AS judged_by, u.note, u.criteria,
  (SELECT x.value FROM scores x WHERE x.turn_id = t.id AND x.name = 'verifier' ORDER BY x.number LIMIT 1) AS verifier,
  (SELECT x.value FROM scores x WHERE x.turn_id = t.id AND x.name = 'rubric' ORDER BY x.number LIMIT 1) AS rubric,
  (SELECT a.reward FROM advantages a WHERE a.turn_id = t.id AND a.step_id = e.step_id ORDER BY a.id LIMIT 1) AS reward,
  u.leased_by, u.leased_until
FROM rescored u
JOIN rescores r ON r.id = u.rescore_id
JOIN turns t ON t.id = u.turn_id
JOIN episodes e ON e.id = t.episode_id
JOIN steps s ON s.id = e.step_id
"""

VIEWS["v_alarms"] = """
SELECT 'r' || s.run_id AS run, s.number AS step, a.number, a.name AS alarm,
  CASE WHEN EXISTS (SELECT 1 FROM alarms b JOIN steps p ON p.id = b.step_id
    WHERE b.name = a.name AND p.run_id = s.run_id
      AND p.number = (SELECT max(q.number) FROM steps q WHERE q.run_id = s.run_id AND q.number < s.number))
    THEN 0 ELSE 1 END AS began,
  a.value, a.bound, a.note
FROM alarms a
JOIN steps s ON s.id = a.step_id
"""

VIEWS["v_lineage"] = f"""
SELECT 'r' || m.run_id AS run, m.number AS step, a.trainer, {_EPISODE} AS episode, t.number AS turn, a.role, t.node,
  t.sample, a.note AS entered,
  round(a.value, 4) AS advantage, round(a.pull, 6) AS pull, round(a.reward, 4) AS reward, a.weight, a.n_tokens,
  g.number AS group_number, g.scope AS group_scope, g.size AS group_size, round(g.mean, 4) AS group_mean,
  round(g.std, 4) AS group_std, g.pool_size, round(g.pool_mean, 4) AS pool_mean, round(g.pool_std, 4) AS pool_std,
  x.name AS score, round(x.value, 4) AS value, x.validity, x.by AS judged_by, x.note,
  c.text AS criterion, c.points AS criterion_points, y.share AS criterion_share, y.validity AS criterion_validity,
  y.by AS criterion_by, y.rubric_turn, w.author AS rubric_by,
  replace(substr(t.said, 1, 60), '\n', ' ') AS said, k.key AS task_key, k.summary AS task, k.origin AS task_origin,
  k.origin_turn, k.parent_key AS parent_task, q.summary AS parent_summary,
  d.arm, d.parameters, p.number AS sampled_by_version, m.policy_version AS made_version
FROM advantages a
JOIN steps m ON m.id = a.step_id
JOIN turns t ON t.id = a.turn_id
JOIN episodes e ON e.id = t.episode_id
JOIN steps s ON s.id = e.step_id
JOIN groups g ON g.step_id = a.step_id AND g.number = a."group"
JOIN curriculum_events d ON d.step_id = e.step_id AND d.number = e.pick
JOIN policy_versions p ON p.id = t.policy_version_id
LEFT JOIN scores x ON x.turn_id = t.id
LEFT JOIN criterion_scores y ON y.score_id = x.id
LEFT JOIN criteria c ON c.id = y.criterion_id
LEFT JOIN rubrics r ON r.id = c.rubric_id
LEFT JOIN turns w ON w.episode_id = r.episode_id AND w.number = r.author
LEFT JOIN tasks k ON k.episode_id = e.id AND k.number = coalesce(
  (SELECT min(z.number) FROM tasks z WHERE z.episode_id = e.id AND z.origin_turn = t.number), t.task)
LEFT JOIN tasks q ON q.id = k.parent_id
"""


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


_TOLD = ",\n".join(
    f"({', '.join(map(_literal, (view, number, name, kind, meaning)))})"
    for view, columns in COLUMNS.items()
    for number, (name, (kind, meaning)) in enumerate(columns.items())
)
VIEWS["v_columns"] = f"""
WITH told("view", number, "column", "type", meaning) AS (VALUES
{_TOLD})
SELECT "view", number, "column", "type", meaning FROM told
"""


# What PostgreSQL calls otherwise. Its own functions are in functions.py.
_SERVER_WORDS = (
    ("CAST(round(y.value, 4) AS TEXT)", "sparring_figure(sparring_round(y.value, 4))"),
    (" round(", " sparring_round("),
    ("group_concat(", "string_agg("),
)
_SERVER_VIEWS = """
SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c
WHERE c.relkind = 'v' AND c.relnamespace = current_schema()::regnamespace
"""


def outdated(connection: Connection) -> list[str]:
    """The views of a database that are absent or differ from ``VIEWS``. A server keeps no text: it has a hash of it."""
    if _is_server(connection):
        told = {row[0]: row[1] for row in connection.exec_driver_sql(_SERVER_VIEWS)}
        return [name for name in VIEWS if told.get(name) != _mark(name)]
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view'")
    found = {row[0]: row[1] for row in rows}
    return [name for name in VIEWS if found.get(name) != _statement(name)]


def renew(connection: Connection) -> None:
    """Make those views anew, in the caller's write transaction."""
    for name in outdated(connection):
        for statement in (f"DROP VIEW IF EXISTS {name}", *_making(connection, name)):
            connection.exec_driver_sql(statement)


def _is_server(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _making(connection: Connection, name: str) -> list[str]:
    if not _is_server(connection):
        return [_statement(name)]
    told = [f"COMMENT ON VIEW {name} IS {_literal(_mark(name))}"]
    for column, (_, meaning) in COLUMNS[name].items():
        told.append(f'COMMENT ON COLUMN {name}."{column}" IS {_literal(meaning)}')
    return [statement.replace("%", "%%") for statement in (_server_statement(name), *told)]


def _statement(name: str) -> str:
    return f"CREATE VIEW {name} AS {VIEWS[name].rstrip()}"


def _server_statement(name: str) -> str:
    statement = _statement(name)
    for ours, theirs in _SERVER_WORDS:
        statement = statement.replace(ours, theirs)
    return statement


def _mark(name: str) -> str:
    return f"A view of Sparring, {hashlib.sha256(_server_statement(name).encode()).hexdigest()[:16]}"
