"""The rubrics of a run, and one of them: how often each criterion was met, and whether the verifier agrees."""

from __future__ import annotations

from sparring.scenarios.errors import RunNotFound
from sparring.storage.inspector.places import colours, episode_href, found_episode, rubric_href, scenario_of, task_href
from sparring.storage.inspector.registry import Asked, Link, Model, NotThere, page
from sparring.storage.rubrics import rubric as story
from sparring.storage.rubrics import rubrics
from sparring.storage.store import Store

PER_PAGE = 40


@page("/runs/{run}/rubrics", "rubrics.html", "Rubrics")
def listed(store: Store, asked: Asked) -> Model:
    """A page of rubrics, the newest first; ``?after=12/3`` goes on from there."""
    run = asked.words["run"]
    found = rubrics(store, run, asked.query.get("after") or None, PER_PAGE)
    return {
        "run": run,
        "rubrics": [{"href": rubric_href(one.episode, one.turn), "rubric": one} for one in found.rubrics],
        "roles": colours(scenario_of(store, run), {one.written_by for one in found.rubrics}),
        "after": found.after,
        "first": not asked.query.get("after"),
        "live": not asked.query.get("after") and store.run(run).status == "running",
    }


@page("/runs/{run}/steps/{step}/episodes/{episode}/rubrics/{turn}", "rubric.html", "Rubric of turn {turn}")
def told(store: Store, asked: Asked) -> Model:
    """The rubric filed under a turn, with the answers it was put to and what others said about them."""
    run, step, number = asked.words["run"], asked.number("step"), asked.number("episode")
    found_episode(store, run, step, number)
    episode = f"{run}/{step}/{number}"
    try:
        found = story(store, episode, asked.number("turn"))
    except RunNotFound as error:
        raise NotThere(str(error), [Link(f"episode {episode}", episode_href(episode))]) from None
    authors = {one.author for one in found.answers} | {word.author for one in found.answers for word in one.words}
    return {
        "run": run,
        "episode": episode,
        "episode_href": episode_href(episode),
        "author_href": episode_href(episode, found.row.turn if found.author is None else found.author),
        "task_href": None if found.row.task_key is None else task_href(run, found.row.task_key),
        "rubric": found.row,
        "author": found.author,
        "criteria": found.criteria,
        "answers": [{"href": episode_href(episode, one.turn), "answer": one} for one in found.answers],
        "agreement": found.agreement,
        "pairs": found.pairs,
        "roles": colours(scenario_of(store, run), authors | {found.row.written_by}),
    }
