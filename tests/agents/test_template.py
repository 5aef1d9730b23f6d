"""Roles that speak from a template, and the verifier's word on an attempt: critiques that a rule can write."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from sparring.agents.engine import ByteRenderer, Message, Request, TemplateEngine
from sparring.agents.graph import build_graph, play
from sparring.envs.types import Ending, Episode, Task, Turn
from sparring.scenarios.schema import GraphSpec, Sampling
from sparring.training.summary import summarise

NODES = {
    "solve": {"role": "solver", "samples": 3},
    "verify": {"do": "step"},
    "critique": {"role": "critic"},
    "revise": {"role": "solver", "prompt": "revise"},
}
GRAPH = GraphSpec.model_validate(
    {"nodes": NODES, "edges": ["solve -> verify", "verify -> critique", "critique -> revise"]}
)
SAID = ("<answer>12</answer>", "<answer>7</answer>", "GARBAGE")
CRITIC: dict[str, Any] = {"trainable": False, "engine": {"kind": "template"}, "refuse_empty": False}
WORLD = Task("world", {"program": "print(12)"}, {"reference": "12", "trace": []})


def played(table: Any, prompt: str, *sees: str) -> Episode:
    """Three attempts and what a critic says of each from its template."""
    roles = table.roles({"solver": {"prompt": "brief/solver"}, "critic": CRITIC | {"prompt": prompt, "sees": sees}})
    words = iter(SAID)
    runtime = table.runtime(lambda asked, request: "retry" if "Again." in asked else next(words), roles)
    runtime = replace(runtime, engines={**runtime.engines, "critic": TemplateEngine(ByteRenderer())})
    return asyncio.run(play(build_graph(GRAPH), runtime, {}, task=WORLD))


def critiqued(table: Any, prompt: str, *sees: str) -> dict[str, str]:
    """What the critic said about each answer."""
    episode = played(table, prompt, *sees)
    assert not episode.error
    return {_attempt(episode, turn).said: turn.said for turn in episode.turns if turn.author == "critic"}


def _attempt(episode: Episode, turn: Turn) -> Turn:
    return next(one for one in episode.ancestors(turn.parent) if one.author == "solver")


def test_indication_says_right_or_wrong_and_nothing_where_nothing_is_known(table: Any) -> None:
    assert critiqued(table, "critique/indication_brief", "outcome") == {
        SAID[0]: "<verdict>right</verdict>", SAID[1]: "<verdict>wrong</verdict>", SAID[2]: "<verdict></verdict>"
    }  # fmt: skip


def test_ground_truth_names_the_answer_too(table: Any) -> None:
    told = critiqued(table, "critique/truth_brief", "outcome", "reference")
    assert told[SAID[1]] == "<think>12</think><verdict>wrong</verdict>"


@pytest.mark.parametrize("kind", ["indication", "truth"])
def test_the_long_forms_keep_the_critics_contract(table: Any, kind: str) -> None:
    for said, words in critiqued(table, f"critique/{kind}", "outcome", "reference").items():
        parsed = table.roles({"critic": CRITIC | {"prompt": "brief/critic"}})["critic"].parse(words)
        assert parsed.value == {SAID[0]: "right", SAID[1]: "wrong", SAID[2]: None}[said]
        assert ("12" in words) == (kind == "truth")


def test_words_of_a_template_are_tokens_of_the_renderer_that_nobody_sampled() -> None:
    request = Request((), Sampling(max_tokens=2), 0, "critic", messages=(Message("user", "old"), Message("user", "né")))
    (done,) = asyncio.run(TemplateEngine().generate([request]))
    assert ByteRenderer().decode(done.token_ids) == done.text == "né"
    assert all(map(math.isnan, done.logprobs)) and done.engine == "template"


def test_a_template_spends_none_of_a_steps_tokens(table: Any) -> None:
    episode = played(table, "critique/indication_brief", "outcome")
    sampled = sum(len(turn.token_ids) for turn in episode.turns if turn.author == "solver")
    assert any(turn.token_ids for turn in episode.turns if turn.author == "critic")
    assert summarise([episode])["tokens"] == sampled > 0


def test_the_verifiers_word_is_read_only_by_who_sees_it(table: Any) -> None:
    episode = played(table, "critique/indication_brief")
    assert episode.ending is Ending.BROKE and "'outcome' is undefined" in episode.error
