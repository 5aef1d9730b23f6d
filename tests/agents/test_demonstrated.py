"""A share of a role's turns may be spoken by the environment, which knows the best action."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sparring.agents.presets import solve
from sparring.envs.echo import EchoEnvironment
from sparring.envs.types import Ending, Episode, Finish, Task, Turn
from sparring.training.summary import summarise


class Knowing(EchoEnvironment):
    """Echo that knows its answer."""

    def oracle(self) -> str | None:
        assert self.task is not None
        return None if self.task.secret["reference"] == "abba" else str(self.task.secret["reference"])


TASK = Task("echo", {"text": "hgfe", "program": ""}, {"reference": "hgfe"})


def played(new_table: Any, tmp_path: Any, share: float, task: Task = TASK) -> Episode:
    table = new_table(Knowing, tmp_path)
    roles = table.roles({"solver": {"prompt": "brief/solver", "demonstrated": share}})
    episode: Episode = table.play(solve(), lambda prompt, request: "sampled", roles, task=task)
    assert episode.ending is Ending.DONE, episode.error
    return episode


def attempts(new_table: Any, tmp_path: Any, share: float, task: Task = TASK) -> list[Turn]:
    return [turn for turn in played(new_table, tmp_path, share, task).turns if turn.author == "solver"]


def test_a_demonstrated_turn_is_the_environments_own_action_with_unknown_log_probs(
    new_table: Any, tmp_path: Any
) -> None:
    for turn in attempts(new_table, tmp_path, 1.0):
        assert (turn.said, turn.engine, turn.finish) == ("hgfe", "demonstration", Finish.STOP)
        assert turn.token_ids[-1] == 260 and all(math.isnan(value) for value in turn.logprobs)


def test_without_a_share_everything_is_sampled(new_table: Any, tmp_path: Any) -> None:
    assert {turn.said for turn in attempts(new_table, tmp_path, 0.0)} == {"sampled"}


def test_half_a_share_mixes_and_leaves_the_sampled_turns_as_they_are(new_table: Any, tmp_path: Any) -> None:
    alone = {turn.index: turn.seed for turn in attempts(new_table, tmp_path, 0.0)}
    mixed = attempts(new_table, tmp_path, 0.5)
    assert {turn.said for turn in mixed} == {"sampled", "hgfe"}
    assert {turn.index: turn.seed for turn in mixed} == alone


@pytest.mark.parametrize(("share", "sampled"), [(0.0, 8), (1.0, 0)])
def test_what_is_demonstrated_spends_none_of_a_steps_tokens(
    new_table: Any, tmp_path: Any, share: float, sampled: int
) -> None:
    episode = played(new_table, tmp_path, share)
    said = [len(turn.token_ids) for turn in episode.turns if turn.author == "solver"]
    assert len(said) == 8 and all(said)
    assert summarise([episode])["tokens"] == sum(said[:sampled])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_where_the_environment_does_not_know_the_policy_speaks(new_table: Any, tmp_path: Any, share: float) -> None:
    unknown = Task("echo", {"text": "abba", "program": ""}, {"reference": "abba"})
    assert {turn.said for turn in attempts(new_table, tmp_path, share, unknown)} == {"sampled"}
