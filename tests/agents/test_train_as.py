"""A turn trained as though it were said elsewhere: under the whole prompt there, without what was read since."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.agents.engine import Request
from sparring.envs.types import Episode, Task, Turn
from sparring.scenarios.schema import GraphSpec

EDGES = ["solve -> verify", "verify -> critique", "critique -> revise", "revise -> again"]


def graph(**revise: Any) -> GraphSpec:
    nodes = {
        "solve": {"role": "solver", "samples": 2},
        "verify": {"do": "step"},
        "critique": {"role": "critic"},
        "revise": {"role": "solver", "prompt": "revise", **revise},
        "again": {"role": "solver", "prompt": "revise"},
    }
    return GraphSpec.model_validate({"nodes": nodes, "edges": EDGES})


def script(prompt: str, request: Request) -> str:
    return f"<verdict>wrong</verdict> {request.seed % 97}" if request.tag == "critic" else f"{request.seed % 89}"


def at(episode: Episode, node: str) -> list[Turn]:
    return [turn for turn in episode.turns if turn.node == node]


def above(episode: Episode, turn: Turn, node: str) -> Turn:
    return next(one for one in episode.ancestors(turn.parent) if one.node == node)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_revision_is_trained_under_the_prompt_of_the_attempt(table: Any, task: Task, fresh: bool) -> None:
    episode = table.play(graph(train_as="solve", fresh=fresh), script, task=task)
    assert len(at(episode, "revise")) == 2
    for turn in at(episode, "revise"):
        first = above(episode, turn, "solve")
        assert turn.context and turn.train_context and first.context
        assert turn.follows == (None if fresh else first.index)
        assert turn.train_context.token_ids == first.context.token_ids
        assert turn.train_context.text == first.context.text
        assert "Critic:" in turn.context.text and "Critic:" not in turn.train_context.text


def test_what_goes_on_from_it_reads_the_stripped_prompt_first(table: Any, task: Task) -> None:
    spec = graph(train_as="solve").model_dump(by_alias=True)
    spec["nodes"]["again"]["train_as"] = "revise"
    episode = table.play(GraphSpec.model_validate(spec), script, task=task)
    for turn in at(episode, "again"):
        assert turn.train_context == above(episode, turn, "solve").context


def test_without_it_nothing_is_stripped(table: Any, task: Task) -> None:
    episode = table.play(graph(), script, task=task)
    assert all(turn.train_context is None for turn in episode.turns)


def test_the_prompt_of_a_turn_in_a_conversation_is_all_that_was_read_there(table: Any, task: Task) -> None:
    spec = graph().model_dump(by_alias=True)
    spec["nodes"]["again"] |= {"train_as": "revise", "fresh": True}
    episode = table.play(GraphSpec.model_validate(spec), script, task=task)
    for turn in at(episode, "again"):
        revision, first = above(episode, turn, "revise"), above(episode, turn, "solve")
        assert turn.train_context and first.context and revision.context
        read = first.context.token_ids + first.token_ids + revision.context.token_ids
        assert turn.train_context.token_ids == read


def test_a_prompt_that_is_the_same_is_no_other(table: Any, task: Task) -> None:
    nodes = {"solve": {"role": "solver"}, "retry": {"role": "solver", "fresh": True, "train_as": "solve"}}
    episode = table.play(GraphSpec.model_validate({"nodes": nodes, "edges": ["solve -> retry"]}), script, task=task)
    assert at(episode, "retry")[0].train_context is None


def test_where_the_role_has_not_spoken_there_nothing_is_stripped(table: Any, task: Task) -> None:
    spec = graph(train_as="again")
    episode = table.play(spec, script, task=task)
    assert all(turn.train_context is None for turn in at(episode, "revise"))
