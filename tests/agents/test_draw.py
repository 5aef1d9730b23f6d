"""Tasks drawn to be like others: each is like one task alone, in an environment that has few."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from sparring.agents.draw import draw_like
from sparring.agents.world import Pool
from sparring.envs.echo import EchoEnvironment
from sparring.envs.types import SIMILAR, Ending, Episode, Task
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.schema import GraphSpec

ASK = {"teacher": {"prompt": "brief/teacher"}, "solver": {"prompt": "brief/solver"}}


def few(world: Any, count: int) -> Any:
    """The world, with so many tasks in all."""

    class Few(world):  # type: ignore[misc]  # the class is a fixture's
        def sample(self, parameters: Mapping[str, Any], rng: Any) -> Task:
            return Task("world", {"program": f"p{rng.integers(count)}"}, {"reference": "12", "trace": []}, parameters)

    return Few


def proposals() -> Callable[[str, object], str]:
    """Two programs of those the world has, by turns."""
    given = itertools.cycle(["p0", "p1"])
    return lambda prompt, request: next(given)


def origins(episode: Episode) -> dict[str, set[str | None]]:
    """By drawn task: the tasks that were in force where it was drawn."""
    found: dict[str, set[str | None]] = {}
    for turn in episode.turns:
        if turn.node.startswith("draw") and turn.parent is not None:
            found.setdefault(str(turn.task), set()).add(episode.turns[turn.parent].task)
    return found


def test_tasks_drawn_for_several_proposals_are_like_one_of_them_each(new_table: Any, world: Any, tmp_path: Any) -> None:
    table = new_table(few(world, 6), tmp_path)
    nodes = {
        "ask": {"role": "teacher", "samples": 2}, "admit": {"do": "admit"}, "draw": {"do": "draw", "samples": 2},
        "draw_more": {"do": "draw", "samples": 2}, "solve": {"role": "solver"},
    }  # fmt: skip
    graph = {"nodes": nodes, "edges": ["ask -> admit", "admit -> draw, solve", "solve -> draw_more"]}
    episode = table.play(GraphSpec.model_validate(graph), proposals(), table.roles(ASK))
    tasks = {task.key: task for task in episode.tasks}
    assert episode.ending is Ending.DONE and episode.error == "" and len(tasks) == 6
    for key, above in origins(episode).items():
        assert tasks[key].operator == SIMILAR and above == {tasks[key].parent}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_drawn_from_a_drawn_task_leads_back_to_it(new_table: Any, world: Any, tmp_path: Any, seed: int) -> None:
    table = new_table(few(world, 4), tmp_path)
    nodes = {"solve": {"role": "solver"}, "draw": {"do": "draw"}, "draw_on": {"do": "draw", "samples": 2},
             "back": {"do": "recall"}}  # fmt: skip
    graph = {"nodes": nodes, "edges": ["solve -> draw", "draw -> draw_on", "draw_on -> back"]}
    given = table.world().sample({}, np.random.default_rng(seed))
    episode = table.play(GraphSpec.model_validate(graph), proposals(), table.roles(ASK), given, seed=(seed,))
    assert episode.ending is Ending.DONE, episode.error
    (first,) = (turn.task for turn in episode.turns if turn.node == "draw")
    assert [turn.task for turn in episode.turns if turn.node == "back"] == [first, first]


def test_where_no_other_task_is_left_it_says_so(world: Any, task: Task) -> None:
    pool = Pool(few(world, 2))
    with pytest.raises(ContractBroken, match=r"3 tasks like .* were wanted and 2 found in 96 draws"):
        draw_like(pool, task, 3, 0)


def test_parameters_that_a_task_does_not_state_are_the_first_ones() -> None:
    (drawn,) = draw_like(Pool(EchoEnvironment), Task("echo", {"text": "bc"}), 1, 0)
    assert drawn.standing.task.parameters == {"length": 1}
