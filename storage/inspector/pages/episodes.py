"""An episode as a conversation: who said what to whom, how each word was judged and how it moved the policy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from sparring.envs.types import Episode, Rubric, Score, Task, Turn
from sparring.storage.inspector.credits import Credit, credits_of, scored_again
from sparring.storage.inspector.passages import (
    Passage,
    Quoted,
    by_advantage,
    by_logprob,
    quoted,
    tokenwise,
    whole,
)
from sparring.storage.inspector.places import (
    ENVIRONMENT,
    colours,
    found_episode,
    rubric_href,
    scenario_of,
    step_href,
    task_href,
)
from sparring.storage.inspector.registry import Asked, Model, page
from sparring.storage.inspector.spelling import Speller, speller, spelt
from sparring.storage.inspector.threads import threads, way
from sparring.storage.rebuild import rebuild
from sparring.storage.store import Store
from sparring.storage.tables import CurriculumEvents, Episodes, Turns

SHADES = ("advantage", "logprob", "none")
BUDGET = 8_000  # tokens shown one by one on a page; past it a turn is shaded as one until it is asked for
WHOLE = 400  # turns told in full on a page; the others are a line that leads to them
LONG = 160  # characters of the environment's answer that stand unfolded
NAMED = 6
_CALL = re.compile(r"<([A-Za-z_][\w-]{0,63})>(.*?)</\1>", re.DOTALL)


@page("/runs/{run}/steps/{step}/episodes/{episode}", "episode.html", "Episode {episode}")
def episode(store: Store, asked: Asked) -> Model:
    """``?shade=advantage|logprob|none`` says what colours the words, ``?turn=7`` which branch is open."""
    shade = asked.query.get("shade", SHADES[0])
    turn = asked.count("turn", -1)
    place = asked.words["run"], asked.number("step"), asked.number("episode")
    return episode_page(store, *place, shade if shade in SHADES else SHADES[0], turn if turn >= 0 else None)


@dataclass
class _Seen:
    """What is known of an episode while its turns are told."""

    run: str
    name: str
    episode: Episode
    credits: Mapping[int, list[Credit]]
    again: Mapping[int, list[Any]]
    roles: Mapping[str, str]
    shade: str
    scale: float
    speller: Speller
    spelt: frozenset[int]
    sizes: Mapping[int, int]
    read: dict[str, int] = field(default_factory=dict)


def episode_page(
    store: Store, run: str, step: int, number: int, shade: str = "advantage", turn: int | None = None
) -> dict[str, Any]:
    """The model of an episode's page; ``turn`` is the one to lay open, else the one that pulled hardest."""
    row = found_episode(store, run, step, number)
    with store.read() as session:
        whole_episode = rebuild(session, [row.id])[0]
        mine = (CurriculumEvents.step_id == row.step_id) & (CurriculumEvents.number == row.pick)
        arm = session.scalars(select(CurriculumEvents.arm).where(mine)).one()
        spoken = select(Turns.number, Turns.n_tokens).where(Turns.episode_id == row.id)
        sizes = {turn[0]: turn[1] for turn in session.execute(spoken)}
        before, after = (
            session.scalar(select(way_of(Episodes.number)).where(Episodes.step_id == row.step_id, beyond))
            for way_of, beyond in ((func.max, Episodes.number < number), (func.min, Episodes.number > number))
        )
    beside = before if after is None else after
    given = credits_of(store, row.id)
    turns = whole_episode.turns
    focus = turn if turn is not None and turn < len(turns) else _hardest(given, turns)
    seen = _Seen(
        run=run,
        name=f"{run}/{step}/{number}",
        episode=whole_episode,
        credits=given,
        again=scored_again(store, row.id),
        roles=colours(scenario_of(store, run), {one.author for one in turns}),
        shade=shade,
        scale=max((abs(credit.advantage) for credits in given.values() for credit in credits), default=0.0),
        speller=speller(store, run) if any(one.token_ids for one in turns) else Speller(None),
        spelt=_within_budget(turns, focus) if shade != "none" else frozenset(),
        sizes=sizes,
    )
    shown = _in_full(turns, focus)
    told = [_turn(seen, one) if one.index in shown else _brief(seen, one) for one in turns]
    tree = threads(turns, set() if focus is None else way(turns, focus))
    return _head(seen, row, arm) | {
        "before": None if before is None else f"{step_href(run, step)}/episodes/{before}",
        "after": None if after is None else f"{step_href(run, step)}/episodes/{after}",
        "beside": None if beside is None else f"{run}/{step}/{beside}",
        "shade": shade,
        "shades": SHADES,
        "scale": seen.scale,
        "unspelt": _unspelt(seen, told),
        "focus": focus,
        "asked_for": focus is not None and focus == turn,
        "turns": told,
        "tree": tree,
    }


def _head(seen: _Seen, row: Episodes, arm: str) -> dict[str, Any]:
    episode, step = seen.episode, int(seen.name.split("/")[1])
    return {
        "run": seen.run,
        "step": step,
        "episode": seen.name,
        "number": row.number,
        "step_href": step_href(seen.run, step),
        "lineage_href": f"/runs/{seen.run}/lineage?episode={step}/{row.number}",
        "ending": str(episode.ending),
        "error": episode.error,
        "reward": row.reward,
        "seconds": row.seconds,
        "hash": row.hash,
        "thinned": row.thinned,
        "arm": arm,
        "parameters": episode.parameters,
        "versions": sorted({turn.policy_version for turn in episode.turns if seen.sizes[turn.index]}),
        "tokens": sum(seen.sizes.values()),
        "roles": {author: seen.roles[author] for author in dict.fromkeys(turn.author for turn in episode.turns)},
        "tasks": [_task(seen, task) for task in episode.tasks],
    }


def _hardest(given: Mapping[int, Sequence[Credit]], turns: Sequence[Turn]) -> int | None:
    """The turn that pulled hardest, one with a turn above it where there is any."""
    pulls = {turn: max(abs(one.pull) for one in credits) for turn, credits in given.items()}
    return max(pulls, key=lambda at: (turns[at].parent is not None, pulls[at], -at)) if pulls else None


def _in_full(turns: Sequence[Turn], focus: int | None) -> Collection[int]:
    """The turns told in full: the way to the one in focus, what comes after it, then the first ones."""
    if len(turns) <= WHOLE:
        return range(len(turns))
    found = [] if focus is None else sorted(way(turns, focus))[-WHOLE // 2 :] + list(range(focus, len(turns)))
    return set(list(dict.fromkeys([*found[:WHOLE], *range(len(turns))]))[:WHOLE])


def _within_budget(turns: Sequence[Turn], focus: int | None) -> frozenset[int]:
    """Turns shown token by token: the one in focus, unless it alone is too long, then in order as there is room."""
    left, found = BUDGET, set()
    first = [] if focus is None else [turns[focus]]
    for turn in (*first, *turns):
        fits = len(turn.token_ids) <= (4 * BUDGET if turn.index == focus else left)
        if turn.index not in found and fits:
            left -= len(turn.token_ids)
            found.add(turn.index)
    return frozenset(found)


def _unspelt(seen: _Seen, told: Sequence[Mapping[str, Any]]) -> str:
    """Why tokens have no words of their own here; empty where all that should have them do."""
    if seen.shade == "none" or not any(turn.token_ids for turn in seen.episode.turns):
        return ""
    if seen.speller.decode is None:
        return f"Turns are shaded whole: {seen.speller.why}."
    odd = [one["index"] for one in told if one["spelt"] is False]
    if odd:
        some = ", ".join(f"#{index}" for index in odd[:NAMED]) + (", …" if len(odd) > NAMED else "")
        return f"Shaded whole, since the run's tokenizer does not spell what was said there: {some}."
    return ""


def _task(seen: _Seen, task: Task) -> dict[str, Any]:
    at = next((turn.index for turn in seen.episode.turns if turn.task == task.key), None)
    return {
        "key": task.key,
        "href": task_href(seen.run, task.key),
        "environment": task.environment,
        "payload": task.payload,
        "secret": task.secret,
        "parameters": task.parameters,
        "skills": task.skills,
        "origin": task.origin,
        "operator": task.operator,
        "parent": task.parent,
        "parent_href": task_href(seen.run, task.parent) if task.parent else None,
        "turn": at,
    }


def _brief(seen: _Seen, turn: Turn) -> dict[str, Any]:
    """A turn as one line."""
    return {
        "brief": True,
        "index": turn.index,
        "author": turn.author,
        "role": seen.roles[turn.author],
        "node": turn.node,
        "said": turn.said[:LONG],
        "spelt": None,
        "scores": [],
        "credits": [_credit(one) for one in seen.credits.get(turn.index, [])[:1]],
    }


def _turn(seen: _Seen, turn: Turn) -> dict[str, Any]:
    episode = seen.episode
    scores, quotes = _scores(seen, turn)
    places = quoted(turn.said, quotes)
    passages, told = _passages(seen, turn, places)
    first = {number: one.anchor for one in reversed(passages) for number in one.quotes}
    for score in scores:
        for item in score["criteria"]:
            item["anchor"] = first.get(item["quote_number"])
    known = [value for value in turn.logprobs if value == value]
    refusal = episode.refusals.get(turn.index)
    before = None if turn.parent is None else episode.turns[turn.parent].task
    return {
        "brief": False,
        "index": turn.index,
        "author": turn.author,
        "role": seen.roles[turn.author],
        "environment": turn.author == ENVIRONMENT,
        "node": turn.node,
        "sample": turn.sample,
        "parent": turn.parent,
        "follows": turn.follows,
        "said": turn.said,
        "long": len(turn.said) > LONG or turn.said.count("\n") > 1,
        "call": _call(episode, turn),
        "passages": passages,
        "spelt": told,
        "n_tokens": seen.sizes[turn.index],
        "logprob": sum(known) / len(known) if known else None,
        "context": _context(seen, turn),
        "train_context": None if turn.train_context is None else turn.train_context.text,
        "finish": None if turn.finish is None else str(turn.finish),
        "version": turn.policy_version if seen.sizes[turn.index] else None,
        "spans": turn.spans,
        "engine": turn.engine,
        "addressee": turn.addressee,
        "parsed": None if turn.parsed is None else turn.parsed.kind,
        "problem": None if turn.parsed is None else turn.parsed.problem,
        "refusal": refusal,
        "task": turn.task if turn.task is not None and turn.task != before else None,
        "task_href": None if turn.task is None else task_href(seen.run, turn.task),
        "scores": scores,
        "again": seen.again.get(turn.index, []),
        "credits": [_credit(one) for one in seen.credits.get(turn.index, [])],
        "rubric": _rubric(seen, turn.index),
    }


def _credit(credit: Credit) -> dict[str, Any]:
    names = [name for name in Credit.__dataclass_fields__ if name != "tokens"]
    return {name: getattr(credit, name) for name in names} | {"href": step_href(credit.run, credit.step)}


def _context(seen: _Seen, turn: Turn) -> dict[str, Any] | None:
    """What the turn newly read; ``same_as`` names an earlier turn that read the same."""
    if turn.context is None:
        return None
    first = seen.read.setdefault(turn.context.text, turn.index)
    same = first if first != turn.index else None
    return {"text": turn.context.text, "n_tokens": len(turn.context.token_ids), "same_as": same}


def _call(episode: Episode, turn: Turn) -> dict[str, str] | None:
    """The last element of a turn that the environment answered and its author went on from: a tool's call."""
    goes_on = any(
        later.follows == turn.index and later.parent is not None
        and episode.turns[later.parent].author == ENVIRONMENT and episode.turns[later.parent].parent == turn.index
        for later in episode.turns[turn.index + 1 :]
    )  # fmt: skip
    found = _CALL.findall(turn.said) if goes_on and turn.author != ENVIRONMENT else []
    return {"name": found[-1][0], "words": found[-1][1].strip()} if found else None


def _passages(seen: _Seen, turn: Turn, places: Sequence[Quoted | None]) -> tuple[list[Passage], bool | None]:
    """What was said, shaded as asked; and whether its tokens are spelt, ``None`` where nobody asked for that."""
    credit = max(seen.credits.get(turn.index, []), key=lambda one: abs(one.pull), default=None)
    advantage = None if credit is None else credit.advantage
    known = [value for value in turn.logprobs if value == value]
    mean = sum(known) / len(known) if known else None
    alike = {"advantage": by_advantage(advantage, seen.scale), "logprob": by_logprob(mean), "none": ""}[seen.shade]
    decode = seen.speller.decode
    if turn.index not in seen.spelt or not turn.token_ids or decode is None:
        return whole(turn.said, places, alike, advantage), None
    texts = spelt(turn.said, turn.token_ids, decode)
    if texts is None:
        return whole(turn.said, places, alike, advantage), False
    by_token: Sequence[float] | None = None
    if credit is not None:
        by_token = credit.tokens if len(credit.tokens) == len(turn.token_ids) else [credit.advantage] * len(texts.texts)
    if seen.shade == "logprob":
        shades = [by_logprob(value) for value in turn.logprobs]
    else:
        shades = [by_advantage(value, seen.scale) for value in by_token] if by_token else [""] * len(texts.texts)
    return tokenwise(texts, turn.token_ids, turn.logprobs, by_token, places, shades), True


def _scores(seen: _Seen, turn: Turn) -> tuple[list[dict[str, Any]], list[str]]:
    """A turn's scores, and the quotes of all their criteria, which are numbered through."""
    quotes: list[str] = []
    told = []
    for score in seen.episode.scores.get(turn.index, ()):
        criteria = []
        for item in score.criteria:
            rubric = seen.episode.rubrics.get(-1 if item.rubric_turn is None else item.rubric_turn)
            there = rubric.criteria[item.criterion] if rubric and item.criterion < len(rubric.criteria) else None
            criteria.append(
                {
                    "text": None if there is None else there.text,
                    "points": None if there is None else there.points,
                    "kind": None if there is None else str(there.kind),
                    "share": item.share,
                    "validity": str(item.validity),
                    "by": item.by,
                    "quote": item.quote,
                    "quote_number": len(quotes),
                    "rubric_turn": item.rubric_turn,
                    "number": item.criterion,
                }
            )
            quotes.append(item.quote)
        told.append(_score(score) | {"criteria": criteria})
    return told, quotes


def _score(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "value": score.value,
        "validity": str(score.validity),
        "by": score.by,
        "note": score.note,
    }


def _rubric(seen: _Seen, turn: int) -> dict[str, Any] | None:
    """The rubric filed under a turn, with how many answers met each criterion."""
    rubric: Rubric | None = seen.episode.rubrics.get(turn)
    if rubric is None:
        return None
    shares: dict[int, list[float | None]] = {number: [] for number in range(len(rubric.criteria))}
    for scores in seen.episode.scores.values():
        for item in (item for score in scores for item in score.criteria):
            if item.rubric_turn == turn:
                shares.setdefault(item.criterion, []).append(item.share)
    return {
        "href": rubric_href(seen.name, turn),
        "version": rubric.version,
        "provenance": rubric.provenance,
        "author": rubric.author,
        "criteria": [
            {
                "text": one.text,
                "points": one.points,
                "kind": str(one.kind),
                "checker": one.checker,
                "asked": len(shares[number]),
                "judged": sum(share is not None for share in shares[number]),
                "met": sum((share or 0.0) >= 0.5 for share in shares[number] if share is not None),
            }
            for number, one in enumerate(rubric.criteria)
        ],
    }
