"""Turns an engine could not make: invalid scores, never 0, at the end of their branches; the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import Completion, Request, ScriptedEngine
from sparring.agents.graph import build_graph, play
from sparring.agents.presets import propose_solve_critique_revise
from sparring.agents.settle import settle
from sparring.envs.types import Ending, Episode, Finish, Pick, Score, Turn, Validity
from sparring.scenarios.schema import GraphSpec, RoleSpec
from sparring.storage.queries import select_rows, stored_episodes
from sparring.storage.records import StepRecord
from sparring.storage.store import Store
from sparring.training.credit import form

DOWN = "the server at http://127.0.0.1:1/v1 does not answer"
GRAPH = {
    "nodes": {"solve": {"role": "solver", "samples": 8}, "verify": {"do": "step"}, "critique": {"role": "critic"}},
    "edges": ["solve -> verify", "verify -> critique"],
}
Cut = Callable[[Request, int], bool]


class Failing(ScriptedEngine):
    """Cannot serve the requests that ``cut`` picks by tag and by how many of that tag came before."""

    def __init__(self, cut: Cut, answer: Any) -> None:
        super().__init__(answer)
        self.cut = cut
        self.seen: dict[str, int] = {}

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        made = await super().generate(requests)
        return [self._maybe(request, done) for request, done in zip(requests, made, strict=True)]

    def _maybe(self, request: Request, done: Completion) -> Completion:
        number = self.seen[request.tag] = self.seen.get(request.tag, -1) + 1
        return Completion.aborted(DOWN, 3, "openai:judge") if self.cut(request, number) else done


def script(prompt: str, request: Request) -> str:
    if request.tag == "solver":
        return f"<answer>{12 if request.seed % 2 else 5}</answer>"
    return {"teacher": "print(12)", "critic": "<verdict>wrong</verdict>"}.get(request.tag, "2 answer is 12")


def cutting(**which: Sequence[int] | None) -> Cut:
    """Cut these numbers of a role's requests; ``None``: all of them."""

    def cut(request: Request, number: int) -> bool:
        chosen = which.get(request.tag, ())
        return chosen is None or number in chosen

    return cut


@pytest.fixture
def played(table: Any, task: Any) -> Callable[..., Episode]:
    """``played(cut, graph, specs)``: one settled episode on a given task."""

    def once(cut: Cut, graph: Any = None, specs: Any = None, answer: Any = script, given: Any = task) -> Episode:
        presets = {
            "solver": {"prompt": "brief/solver", "reward": {"verifier": 1.0, "format": 0.1}},
            "critic": {"prompt": "brief/critic", "reward": {"verdict": 1.0, "revision_gain": 0.5}},
        }
        roles = table.roles(specs or presets)
        runtime = table.runtime(script, roles)
        runtime.engines["policy"] = Failing(cut, answer)
        spec = GraphSpec.model_validate(graph or GRAPH)
        episode = asyncio.run(play(build_graph(spec), runtime, {"depth": 2}, task=given))
        return settle(episode, roles, table.world())

    return once


def of(episode: Episode, role: str) -> list[Turn]:
    return [turn for turn in episode.turns if turn.author == role]


def scores(episode: Episode, turn: Turn) -> dict[str, Score]:
    return {score.name: score for score in episode.scores.get(turn.index, ())}


def test_an_aborted_turn_has_an_invalid_score_for_each_of_its_rewards_and_says_why(played: Any) -> None:
    episode = played(cutting(solver=[2]))
    lost = of(episode, "solver")[2]
    given = scores(episode, lost)
    assert set(given) == {"verifier", "format"}
    assert all((one.validity, one.value, one.note) == (Validity.INVALID, None, DOWN) for one in given.values())
    assert (lost.finish, lost.said, lost.token_ids, lost.engine) == (Finish.ABORT, "", (), "openai:judge")


def test_an_aborted_turn_is_neither_acted_out_nor_read(played: Any) -> None:
    episode = played(cutting(solver=[2]))
    assert not [turn for turn in episode.turns if turn.parent == of(episode, "solver")[2].index]
    assert len(of(episode, "critic")) == 7 and episode.ending is Ending.DONE


def test_an_aborted_turn_keeps_no_contract(played: Any) -> None:
    """Nobody said anything: a parser that takes silence for an answer must not be believed."""
    episode = played(cutting(solver=[2]))
    parsed = of(episode, "solver")[2].parsed
    assert parsed is not None and not parsed.ok and parsed.value is None and DOWN in str(parsed.problem)


def test_an_aborted_judge_leaves_the_attempt_its_verdict(played: Any) -> None:
    episode = played(cutting(critic=[0, 3]))
    valued = [scores(episode, turn)["verifier"] for turn in of(episode, "solver")]
    assert all(one.validity is Validity.VALUED for one in valued) and {one.value for one in valued} == {0.0, 1.0}
    lost = [turn for turn in of(episode, "critic") if turn.finish is Finish.ABORT]
    assert [scores(episode, turn)["verdict"].validity for turn in lost] == [Validity.INVALID] * 2
    assert episode.ending is Ending.DONE and "2 of 8 branches" in episode.error and DOWN in episode.error


def test_a_group_is_formed_of_the_turns_that_were_made(played: Any) -> None:
    episode = played(cutting(solver=[1, 4], critic=[0]))
    spec = RoleSpec(kind="solver", reward={"verifier": 1.0, "format": 0.1})
    (group,) = form([episode], "solver", spec)
    kept = [turn.index for turn in of(episode, "solver") if turn.finish is not Finish.ABORT]
    assert [member.place.turn for member in group.members] == kept and len(kept) == 6


@pytest.mark.parametrize("lost", [range(4), range(3)], ids=["half", "fewer"])
def test_an_episode_goes_on_with_the_branches_that_are_left(played: Any, lost: Sequence[int]) -> None:
    episode = played(cutting(solver=lost))
    assert episode.ending is Ending.DONE and f"{len(lost)} of 8 branches" in episode.error


@pytest.mark.parametrize("which", [{"solver": None}, {"critic": None}, {"solver": range(5)}, {"critic": range(5)}])
def test_an_episode_most_of_whose_branches_aborted_is_broken_and_says_who(played: Any, which: Any) -> None:
    episode = played(cutting(**which))
    assert episode.ending is Ending.BROKE and "openai:judge" in episode.error and DOWN in episode.error


def test_a_proposal_that_was_not_made_breaks_the_episode(played: Any, preset: Any) -> None:
    episode = played(cutting(teacher=None), propose_solve_critique_revise(), preset, given=None)
    assert episode.ending is Ending.BROKE and len(episode.turns) == 1 and not episode.refusals


def test_an_aborted_rubric_is_none_and_the_others_stand(played: Any, preset: Any) -> None:
    episode = played(cutting(rubric_writer=[0, 1]), propose_solve_critique_revise(), preset, given=None)
    writers = of(episode, "rubric_writer")
    assert set(episode.rubrics) == {turn.index for turn in writers[2:]}
    assert scores(episode, writers[0])["discrimination"].validity is Validity.INVALID
    assert all(scores(episode, turn)["rubric"].value == turn.said.count("12") for turn in of(episode, "solver"))


def test_a_teacher_is_judged_by_the_attempts_that_were_made(played: Any, preset: Any) -> None:
    first = [0, 1, 2]
    episode = played(cutting(solver=first), propose_solve_critique_revise(), preset, given=None)
    made = [scores(episode, turn)["verifier"].value for turn in of(episode, "solver") if turn.node == "solve"]
    valued = [value for value in made if value is not None]
    p = sum(valued) / len(valued)
    assert len(valued) == 5 and scores(episode, of(episode, "teacher")[0])["learnability"].value == 4 * p * (1 - p)


def test_what_came_before_an_aborted_turn_is_not_compared_as_if_nothing_followed(played: Any) -> None:
    """With a discount a turn earns what comes after it: unknown here, where others know."""
    spec: dict[str, Any] = {"prompt": "brief/solver", "reward": {"verifier": 1.0, "format": 0.5}, "discount": 1.0}
    graph = {
        "nodes": {"solve": {"role": "solver", "samples": 4}, "verify": {"do": "step"}, "again": {"role": "solver"},
                  "check": {"do": "step"}},
        "edges": ["solve -> verify", "verify -> again", "again -> check"],
    }  # fmt: skip

    def says(prompt: str, request: Request) -> str:
        return "<answer>12</answer> MORE"

    episode = played(lambda request, number: number == 5, graph, {"solver": spec}, says)
    lost = next(turn for turn in of(episode, "solver") if turn.finish is Finish.ABORT)
    before = episode.ancestors(lost.parent)[1].index
    groups = form([episode], "solver", RoleSpec(kind="solver", reward=spec["reward"], discount=1.0))
    rewards = {member.place.turn: member.reward for group in groups for member in group.members}
    assert before not in rewards and set(rewards.values()) == {1.5, 3.0}


def test_a_lone_branch_that_ends_with_an_aborted_seat_teaches_nobody(played: Any) -> None:
    spec: dict[str, Any] = {"kind": "solver", "prompt": "brief/solver", "reward": ["verifier"]}
    graph = {
        "nodes": {"solve": {"role": "solver"}, "verify": {"do": "step"}, "critique": {"role": "critic"}},
        "edges": ["solve -> verify", "verify -> critique", "critique -> solve"],
    }
    episode = played(cutting(critic=[1]), graph, {"solver": spec, "critic": spec})
    assert (
        episode.ending is Ending.BROKE and DOWN in episode.error and form([episode], "solver", RoleSpec(**spec)) == []
    )


def test_an_aborted_turn_is_stored_and_read_back(played: Any, tmp_path: Path) -> None:
    episode = played(cutting(solver=[2]))
    with Store(tmp_path / "aborted.db") as store:
        row = store.start_run("aborted", {}, "d", 0, {})
        whole = StepRecord(step=1, picks=(Pick("depth=2"),), policy_version=3, weights_sha="w", episodes=(episode,))
        store.save_step(row.id, whole)
        found = select_rows(store, "SELECT finish, count(*) FROM turns WHERE author = 'solver' GROUP BY 1").rows
        assert dict(map(tuple, found)) == {"abort": 1, "stop": 7}
        (again,) = stored_episodes(store, row.id)
        assert again.episode.scores == episode.scores and [turn.finish for turn in again.episode.turns] == [
            turn.finish for turn in episode.turns
        ]
