"""Lineage as a picture to walk: from a task's ancestors to the step its turns moved. Every node leads on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import func, select

from sparring.scenarios.errors import RunNotFound
from sparring.storage.inspector.picture import Edge, Node, picture
from sparring.storage.inspector.places import (
    colours,
    episode_href,
    found_episode,
    found_step,
    rubric_href,
    scenario_of,
    step_href,
    task_href,
)
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.inspector.strands import Found, Strand, of_episode, of_step, of_task
from sparring.storage.queries import episode_number
from sparring.storage.store import Store, run_number
from sparring.storage.tables import Episodes, Steps
from sparring.storage.tasks import TaskStory
from sparring.storage.tasks import task as story

LAYERS = ("made from", "task", "episode", "turn", "criterion", "score", "advantage", "step")
STRANDS = 5  # turns shown of a step or an episode
TIMES, EACH = 4, 2  # episodes shown of a task, turns of each
SCORES, CRITERIA, CHILDREN = 3, 2, 4
BIG, SMALL = 18, 22  # letters that fit into a node's two lines
OUTLINE = 160


@page("/runs/{run}/lineage", "lineage.html", "Lineage")
def lineage(store: Store, asked: Asked) -> Model:
    """Around ``?step=4``, ``?episode=4/3`` (with ``&turn=7``) or ``?task=KEY``; else around the newest step."""
    run, query = asked.words["run"], asked.query
    scenario = scenario_of(store, run)
    told: TaskStory | None = None
    if query.get("task"):
        told, found = _around_task(store, run, query["task"])
        centre, at = f"task:{told.row.key}", f"task {told.row.key[:10]}: {told.row.summary}"
    elif query.get("episode"):
        name, found = _around_episode(store, run, query["episode"], asked.count("turn", -1))
        centre, at = f"episode:{name}", f"episode {name}"
        if "turn" in query and found.strands:
            centre, at = f"turn:{name}#{found.strands[0].turn}", f"turn #{found.strands[0].turn} of episode {name}"
    else:
        number = _number(store, run, query.get("step", ""))
        if number is None:
            return {
                "run": run,
                "centre": None,
                "at": "",
                "picture": None,
                "outline": [],
                "more": 0,
                "roles": {},
                "live": True,
            }
        found = of_step(store, found_step(store, run, number).id, STRANDS)
        centre, at = f"step:{run}/{number}", f"step {number}"
    roles = colours(scenario, {strand.episode.turns[strand.turn].author for strand in found.strands})
    drawn = _Drawn(run, roles)
    if centre.startswith("step:"):
        drawn.step(run, int(centre.rpartition("/")[2]))
    if told is not None:
        drawn.family(told)
    for strand in found.strands:
        drawn.strand(strand, max((abs(one.credit.pull) for one in found.strands if one.credit), default=0.0))
    return {
        "run": run,
        "centre": centre,
        "at": at,
        "picture": picture(list(drawn.nodes.values()), list(drawn.edges.values()), LAYERS),
        "outline": [_outline(run, strand) for strand in found.strands],
        "more": found.more,
        "roles": roles,
        "live": not query and store.run(run).status == "running",
    }


def _number(store: Store, run: str, word: str) -> int | None:
    """The step asked for; the newest where none is, ``None`` where there is none at all."""
    if word.isascii() and word.isdigit():
        return int(word[:9])
    if word:
        raise NotThere(f"{word!r} is no step; they count from 0", [Link(f"lineage of {run}", f"/runs/{run}/lineage")])
    with store.read() as session:
        return session.scalar(select(func.max(Steps.number)).where(Steps.run_id == run_number(run)))


def _around_episode(store: Store, run: str, word: str, turn: int) -> tuple[str, Found]:
    given = re.fullmatch(r"(?:r[0-9]{1,9}/)?([0-9]{1,9})/([0-9]{1,9})", word)
    if given is None:
        there = [Link(f"lineage of {run}", f"/runs/{run}/lineage")]
        raise NotThere(f"{word!r} is no episode of {run}; write step/episode, as 12/3", there)
    row = found_episode(store, run, int(given[1]), int(given[2]))
    name = f"{run}/{int(given[1])}/{int(given[2])}"
    try:
        return name, of_episode(store, row.id, turn if turn >= 0 else None, STRANDS)
    except IndexError:
        raise NotThere(f"episode {name} has no turn {turn}", [Link(f"episode {name}", episode_href(name))]) from None


def _around_task(store: Store, run: str, key: str) -> tuple[TaskStory, Found]:
    try:
        told = story(store, run, key)
    except RunNotFound as error:
        raise NotThere(str(error), [Link(f"tasks of {run}", f"/runs/{run}/tasks")]) from None
    newest = [episode_number(one.episode) for one in told.times[-TIMES:]]
    ids = []
    with store.read() as session:
        for number, step, index in newest:
            wanted = select(Episodes.id).join(Steps, Steps.id == Episodes.step_id).where(Steps.run_id == number)
            ids.append(session.scalars(wanted.where(Steps.number == step, Episodes.number == index)).one())
    return told, of_task(store, ids, told.row.key, EACH)


def _href(run: str, **query: object) -> str:
    return f"/runs/{run}/lineage?{urlencode({name: str(value) for name, value in query.items()})}"


def _short(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


@dataclass
class _Drawn:
    """A picture in the making; what two strands share is drawn once."""

    run: str
    roles: Mapping[str, str]
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)

    def node(self, kind: str, key: str, layer: int, title: str, text: str, href: str, tone: str = "") -> str:
        name = f"{kind}:{key}"
        words = f"{kind} {title}: {text}" if text else f"{kind} {title}"
        made = Node(name, layer, kind, _short(title, BIG), _short(text, SMALL), words[:400], href, tone)
        self.nodes.setdefault(name, made)
        return name

    def edge(self, tail: str, head: str, weight: int = 0, tone: str = "") -> None:
        old = self.edges.get((tail, head))
        if old is None or old.weight < weight:
            self.edges[tail, head] = Edge(tail, head, weight, tone)

    def task(self, key: str, summary: str, layer: int) -> str:
        return self.node("task", key, layer, key[:10], summary, _href(self.run, task=key))

    def step(self, run: str, number: int) -> str:
        return self.node("step", f"{run}/{number}", 7, f"step {number}", run, _href(run, step=number))

    def family(self, told: TaskStory) -> None:
        """A task with what it was made from and what was made from it."""
        here = self.task(told.row.key, told.row.summary, 1)
        below = here
        for one in told.ancestors[:SCORES]:
            above = self.task(one.key, one.summary, 0)
            self.edge(above, below)
            below = above
        for one in told.children[:CHILDREN]:
            child = self.node("task", one.key, 2, f"made: {one.key[:10]}", one.summary, _href(self.run, task=one.key))
            self.edge(here, child)

    def strand(self, strand: Strand, most: float) -> None:
        """A turn with its task and episode before it and what it earned behind it."""
        home, step, _ = strand.name.split("/")
        index, author = strand.turn, strand.episode.turns[strand.turn].author
        told = strand.episode.turns[index]
        episode_at = {"episode": f"{step}/{strand.name.rpartition('/')[2]}"}
        episode = self.node(
            "episode", strand.name, 2, strand.name, str(strand.episode.ending), _href(home, **episode_at)
        )
        below = episode
        for depth, kin in enumerate(strand.tasks):
            above = self.task(kin.key, kin.summary, 0 if depth else 1)
            self.edge(above, below)
            below = above
        turn = self.node(
            "turn", f"{strand.name}#{index}", 3, f"{author} #{index}", told.said,
            _href(home, **episode_at, turn=index), self.roles.get(author, ""),
        )  # fmt: skip
        self.edge(episode, turn)
        scores = self.scores(strand, turn)
        self.credit(strand, [*scores] or [turn], most)

    def scores(self, strand: Strand, turn: str) -> list[str]:
        found = []
        given = strand.episode.scores.get(strand.turn, ())
        for score in given[:SCORES]:
            value = f"{score.value:.4g}" if score.value is not None else str(score.validity)
            here = self.node(
                "score", f"{turn}.{score.name}", 5, f"{score.name} {value}", f"by {score.by}",
                episode_href(strand.name, strand.turn),
            )  # fmt: skip
            found.append(here)
            if not score.criteria:
                self.edge(turn, here)
            for item in sorted(score.criteria, key=lambda one: one.share is None)[:CRITERIA]:
                rubric = strand.episode.rubrics.get(-1 if item.rubric_turn is None else item.rubric_turn)
                known = rubric is not None and item.criterion < len(rubric.criteria)
                text = rubric.criteria[item.criterion].text if rubric is not None and known else "not stored"
                sign = "?" if item.share is None else "✓" if item.share >= 0.5 else "✗"
                href = episode_href(strand.name, strand.turn)
                if item.rubric_turn is not None:
                    href = rubric_href(strand.name, item.rubric_turn)
                wrote = "the task's" if item.rubric_turn is None else f"of #{item.rubric_turn}"
                name = f"{here}.{item.rubric_turn}.{item.criterion}"
                criterion = self.node("criterion", name, 4, f"{sign} {text}", f"{wrote}, by {item.by}", href)
                self.edge(turn, criterion)
                self.edge(criterion, here)
            if len(score.criteria) > CRITERIA:
                more = f"{len(score.criteria) - CRITERIA} more"
                rest = self.node("criteria", here, 4, more, "", episode_href(strand.name, strand.turn), "rest")
                self.edge(turn, rest)
                self.edge(rest, here)
        return found

    def credit(self, strand: Strand, tails: list[str], most: float) -> None:
        credit = strand.credit
        if credit is None:
            return
        tone = "up" if credit.pull > 0 else "down" if credit.pull < 0 else "none"
        weight = math.ceil(4 * abs(credit.pull) / most) if most else 0
        here = self.node(
            "advantage", f"{strand.name}#{strand.turn}", 6, f"advantage {credit.advantage:+.2f}",
            f"pull {credit.pull:+.4f}", episode_href(strand.name, strand.turn), tone,
        )  # fmt: skip
        for tail in tails:
            self.edge(tail, here, 0, tone)
        self.edge(here, self.step(credit.run, credit.step), weight, tone)


def _outline(run: str, strand: Strand) -> dict[str, Any]:
    """A strand in words, each part with the page it leads to."""
    home = strand.name.split("/")[0]
    told, credit = strand.episode.turns[strand.turn], strand.credit
    scores = []
    for score in strand.episode.scores.get(strand.turn, ()):
        criteria = []
        for item in score.criteria:
            rubric = strand.episode.rubrics.get(-1 if item.rubric_turn is None else item.rubric_turn)
            known = rubric is not None and item.criterion < len(rubric.criteria)
            criteria.append(
                {
                    "text": rubric.criteria[item.criterion].text if rubric is not None and known else None,
                    "share": item.share,
                    "validity": str(item.validity),
                    "by": item.by,
                    "rubric_turn": item.rubric_turn,
                    "href": None if item.rubric_turn is None else rubric_href(strand.name, item.rubric_turn),
                }
            )
        names = {"name": score.name, "value": score.value, "validity": str(score.validity), "by": score.by}
        scores.append(names | {"note": score.note, "criteria": criteria})
    return {
        "episode": strand.name,
        "episode_href": episode_href(strand.name),
        "turn": strand.turn,
        "turn_href": episode_href(strand.name, strand.turn),
        "author": told.author,
        "said": told.said[:OUTLINE],
        "cut": len(told.said) > OUTLINE,
        "tasks": [
            {"key": kin.key, "summary": kin.summary, "origin": kin.origin, "href": task_href(home, kin.key)}
            for kin in strand.tasks
        ],
        "scores": scores,
        "advantage": None if credit is None else credit.advantage,
        "pull": None if credit is None else credit.pull,
        "step": None if credit is None else f"{credit.run}/{credit.step}",
        "step_href": None if credit is None else step_href(credit.run, credit.step),
    }
