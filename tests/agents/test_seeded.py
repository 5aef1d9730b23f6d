"""A seeded graph: a given task goes to the role that proposes, and what it proposes is about that task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from sparring.agents.graph import build_graph, play
from sparring.agents.world import Pool, Proposal, admit_all, reset_one
from sparring.envs.reading import ReadingEnvironment
from sparring.envs.types import Ending, Episode, Refusal, Task
from sparring.scenarios.schema import GraphSpec

GRAPH: dict[str, Any] = {
    "seeded": True,
    "nodes": {
        "ask": {"role": "teacher"},
        "admit": {"do": "admit"},
        "answer": {"role": "solver"},
        "verify": {"do": "step"},
    },
    "edges": ["ask -> admit", "admit -> answer if accepted", "answer -> verify"],
}
DOCUMENTS = {"documents": ["tom=52", "bam=7"], "question": "tom", "answer": "52"}
SEED = ReadingEnvironment().task_from_row(DOCUMENTS, "here")


@pytest.fixture
def played(new_table: Any, tmp_path: Any) -> Any:
    """Plays an episode on ``SEED`` in which the teacher says the given words."""

    def play_it(said: str, graph: dict[str, Any] = GRAPH, **more: Any) -> Episode:
        table = new_table(ReadingEnvironment, tmp_path)
        (tmp_path / "ask.md").write_text("Ask.\n{{ excerpt | join }}")
        (tmp_path / "answer.md").write_text("{{ documents | join }} {{ question }}")
        roles = table.roles({"teacher": {"prompt": "ask.md"}, "solver": {"prompt": "answer.md"}})
        spoken = {"teacher": said, "solver": "<answer>7</answer>"}
        runtime = table.runtime(lambda prompt, request: spoken[request.tag], roles)
        return asyncio.run(play(build_graph(GraphSpec.model_validate(graph)), runtime, task=SEED, **more))

    return play_it


def test_what_is_proposed_is_about_the_given_task_and_names_it_as_its_parent(played: Any) -> None:
    episode = played("bam<answer>7</answer>")
    seed, task = episode.tasks
    assert (seed.key, task.parent, task.operator, task.origin) == (SEED.key, SEED.key, "asked", "teacher")
    assert task.payload["question"] == "bam" and task.payload["documents"] == SEED.payload["documents"]
    assert [turn.node for turn in episode.turns] == ["task", "ask", "admit", "answer", "verify"]
    assert episode.score(3, "verifier").value == 1.0 and episode.ending is Ending.DONE


def test_a_refused_proposal_ends_an_episode_as_refused_although_its_seed_is_a_task(played: Any) -> None:
    episode = played("bam<answer>8</answer>")
    assert episode.ending is Ending.REFUSED and episode.refusals[1].reason == "ungrounded"


def test_a_proposal_that_changes_nothing_is_refused() -> None:
    class Copying(ReadingEnvironment):
        def admit(self, text: str, parameters: Any, rng: Any) -> Task:
            assert self.task is not None
            return self.task

    pool = Pool(Copying)
    standing = reset_one(pool, SEED, 0).standing
    (found,) = admit_all(pool, [Proposal("x", {}, "teacher", 0, about=standing)])
    assert isinstance(found, Refusal) and found.reason == "same"


def test_a_task_that_was_admitted_before_goes_past_the_proposer(played: Any) -> None:
    episode = played("never said", admitted=True)
    assert [turn.node for turn in episode.turns] == ["task", "answer", "verify"]


def test_without_seeded_a_given_task_goes_past_the_proposer(played: Any) -> None:
    episode = played("never said", {**GRAPH, "seeded": False})
    assert [turn.node for turn in episode.turns] == ["task", "answer", "verify"]


def test_a_proposal_about_nothing_meets_no_task_of_an_earlier_episode() -> None:
    pool = Pool(ReadingEnvironment)
    reset_one(pool, SEED, 0)
    (found,) = admit_all(pool, [Proposal("bam<answer>7</answer>", {}, "teacher", 0)])
    assert isinstance(found, Refusal) and found.reason == "no_seed"


def test_a_graph_without_proposals_cannot_be_seeded() -> None:
    with pytest.raises(ValidationError, match="admit"):
        GraphSpec.model_validate({"seeded": True, "nodes": {"a": {"role": "solver"}}})


def test_a_seeded_graph_takes_tasks_from_the_source() -> None:
    assert GraphSpec.model_validate(GRAPH).given
    assert not GraphSpec.model_validate({**GRAPH, "seeded": False}).given
