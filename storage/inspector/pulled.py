"""What one step was made of: episodes by how hard they pulled, groups, criteria, curriculum decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, aliased

from sparring.storage.tables import (
    Advantages,
    Borrowed,
    Criteria,
    CriterionScores,
    CurriculumEvents,
    Episodes,
    Groups,
    Rubrics,
    Scores,
    Steps,
    Tasks,
    Turns,
)

CRITERIA = 12  # told of a step, those behind most of its pull
NEVER = -1
GRAIN = 1e9  # sums of equal pulls differ in their last digits with the order of adding: finer is no difference


def settled(value: float | None) -> float | None:
    """A sum without the digits that depend on the order of adding."""
    return None if value is None else round(value, 12)


def episodes_by_pull(session: Session, step_id: int, limit: int, skip: int) -> list[dict[str, Any]]:
    """Episodes a step played or borrowed, those that moved it hardest first; ``borrowed`` are of an earlier step."""
    pull = func.sum(func.abs(Advantages.pull)).label("pull")
    pulled = select(Turns.episode_id, pull, func.sum(Advantages.pull).label("net"), func.count().label("n"))
    pulled = pulled.join(Advantages, Advantages.turn_id == Turns.id).where(Advantages.step_id == step_id)
    of = pulled.group_by(Turns.episode_id).subquery()
    lent = select(Borrowed.episode_id).where(Borrowed.step_id == step_id)
    mine = select(Episodes.id).where(Episodes.step_id == step_id).union(lent).subquery()
    event = CurriculumEvents
    wanted = (
        select(Episodes, Steps.run_id, Steps.number.label("at"), event.arm, of.c.pull, of.c.net, of.c.n)
        .join(mine, mine.c.id == Episodes.id)
        .join(Steps, Steps.id == Episodes.step_id)
        .join(event, (event.step_id == Episodes.step_id) & (event.number == Episodes.pick))
        .outerjoin(of, of.c.episode_id == Episodes.id)
        .order_by(func.round(func.coalesce(of.c.pull, NEVER) * GRAIN).desc(), Episodes.id)
    )
    rows = session.execute(wanted.limit(limit).offset(skip)).all()
    ids = [row[0].id for row in rows]
    task = select(Tasks.episode_id, Tasks.summary).where(Tasks.episode_id.in_(ids)).order_by(Tasks.number.desc())
    tasks = {row.episode_id: row.summary for row in session.execute(task)}  # the first task is set last
    return [
        {
            "episode": f"r{run}/{at}/{row.number}",
            "arm": arm,
            "ending": row.ending,
            "error": row.error,
            "reward": row.reward,
            "pull": settled(pull),
            "net": settled(net),
            "turns": n or 0,
            "borrowed": row.step_id != step_id,
            "task": tasks.get(row.id),
        }
        for row, run, at, arm, pull, net, n in rows
    ]


def counted(session: Session, step_id: int) -> dict[str, Any]:
    """How many of everything a step has."""

    def n(wanted: Any) -> Any:
        return session.scalar(wanted)

    spoken = select(func.count(Turns.id), func.sum(Turns.n_tokens)).join(Episodes, Episodes.id == Turns.episode_id)
    turns, tokens = session.execute(spoken.where(Episodes.step_id == step_id)).one()
    endings = select(Episodes.ending, func.count()).where(Episodes.step_id == step_id).group_by(Episodes.ending)
    by_ending = {row[0]: row[1] for row in session.execute(endings)}
    kept = func.sum(case((Groups.kept, 1), else_=0))
    groups = session.execute(select(func.count(), kept).where(Groups.step_id == step_id)).one()
    return {
        "episodes": sum(by_ending.values()),
        "endings": by_ending,
        "turns": turns,
        "tokens": tokens or 0,
        "groups": groups[0],
        "groups_kept": groups[1] or 0,
        "borrowed": n(select(func.count()).where(Borrowed.step_id == step_id)),
        "pull": settled(n(select(func.sum(func.abs(Advantages.pull))).where(Advantages.step_id == step_id))),
        "trained_turns": n(select(func.count()).where(Advantages.step_id == step_id)),
    }


def groups_of(session: Session, step_id: int, limit: int, skip: int) -> list[dict[str, Any]]:
    """Groups of a step in their order, with how many of their turns were trained on and the pull of these."""
    used = select(Advantages.group, func.count().label("n"), func.sum(func.abs(Advantages.pull)).label("pull"))
    of = used.where(Advantages.step_id == step_id).group_by(Advantages.group).subquery()
    wanted = select(Groups, of.c.n, of.c.pull).outerjoin(of, of.c.group == Groups.number)
    wanted = wanted.where(Groups.step_id == step_id).order_by(Groups.number).limit(limit).offset(skip)
    names = ("number", "trainer", "role", "node", "scope", "size", "mean", "std", "kept", "note")
    more = ("pool_size", "pool_mean", "pool_std")
    return [
        {name: getattr(row, name) for name in (*names, *more)} | {"turns": n or 0, "pull": settled(pull)}
        for row, n, pull in session.execute(wanted)
    ]


def criteria_of(session: Session, step_id: int) -> list[dict[str, Any]]:
    """Criteria behind the most pull of a step: who wrote them, who judged by them, and the mean share they gave to
    turns that were made likelier and to turns that were made rarer. The pull is of whole turns: criteria share it."""
    writer = aliased(Turns)
    pull = func.sum(func.abs(Advantages.pull))
    up = func.avg(case((Advantages.pull > 0, CriterionScores.share)))
    down = func.avg(case((Advantages.pull < 0, CriterionScores.share)))
    wanted = (
        select(Criteria.text, writer.author, CriterionScores.by, func.count(), pull, up, down)
        .select_from(Advantages)
        .join(Scores, Scores.turn_id == Advantages.turn_id)
        .join(CriterionScores, CriterionScores.score_id == Scores.id)
        .join(Criteria, Criteria.id == CriterionScores.criterion_id)
        .join(Rubrics, Rubrics.id == Criteria.rubric_id)
        .outerjoin(writer, (writer.episode_id == Rubrics.episode_id) & (writer.number == Rubrics.author))
        .where(Advantages.step_id == step_id)
        .group_by(Criteria.text, writer.author, CriterionScores.by)
        .order_by(func.round(pull * GRAIN).desc(), Criteria.text)
        .limit(CRITERIA)
    )
    names = ("text", "written_by", "by", "turns", "pull", "up", "down")
    found = [dict(zip(names, row, strict=True)) for row in session.execute(wanted)]
    return sorted(
        found, key=lambda one: (-round(one["pull"], 9), one["text"], one["by"])
    )  # sums differ in a last digit


def picks_of(session: Session, step_id: int) -> list[dict[str, Any]]:
    """The curriculum's decisions of a step and what came of each."""
    of = select(
        Episodes.pick,
        func.count().label("episodes"),
        func.sum(case((Episodes.ending == "refused", 1), else_=0)).label("refused"),
        func.avg(Episodes.reward).label("reward"),
    )
    of_pick = of.where(Episodes.step_id == step_id).group_by(Episodes.pick).subquery()
    event = CurriculumEvents
    wanted = select(event, of_pick.c.episodes, of_pick.c.refused, of_pick.c.reward)
    wanted = wanted.outerjoin(of_pick, of_pick.c.pick == event.number).where(event.step_id == step_id)
    return [
        {
            "number": row.number, "arm": row.arm, "parameters": row.parameters, "count": row.count,
            "episodes": episodes or 0, "refused": refused or 0, "reward": settled(reward),
        }
        for row, episodes, refused, reward in session.execute(wanted.order_by(event.number))
    ]  # fmt: skip


def changed(before: Any, after: Any, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Leaves of two JSON values that differ, by dotted path, and how many more there are.

    >>> changed({"a": [1, 2]}, {"a": [1, 3], "b": "x"}, 9)[0][0]
    {'path': 'a.1', 'before': 2, 'after': 3}
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [path for path in dict.fromkeys((*old, *new)) if old.get(path) != new.get(path)]
    found = [{"path": path, "before": old.get(path), "after": new.get(path)} for path in paths[:limit]]
    return found, max(0, len(paths) - limit)


def _leaves(value: Any, above: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        pairs: list[tuple[str, Any]] = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = [(str(at), item) for at, item in enumerate(value)]
    else:
        return [(above, value)]
    return [leaf for key, item in pairs for leaf in _leaves(item, f"{above}.{key}" if above else key)]
