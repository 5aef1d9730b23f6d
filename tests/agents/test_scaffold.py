"""Help while sampling: how much each sibling is shown, and what the update reads instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.engine import Request
from sparring.agents.presets import solve
from sparring.agents.role import check_sees
from sparring.agents.scaffold import Item, drawn, fraction, items_of
from sparring.envs.types import Criterion, Ending, Episode, Rubric, Task, Turn
from sparring.scenarios.errors import EngineError, ScenarioError
from sparring.scenarios.load import load
from sparring.scenarios.schedule import Now, Schedule, Sigmoid
from sparring.scenarios.schema import GraphSpec, ScaffoldSpec

POINTS = (*(Criterion(f"says {word}", 1.0) for word in "abcdef"), Criterion("says sorry", -1.0))
HELPED = "{{ program }}|{{ scaffold.wanted | join(',') }}|{{ scaffold.unwanted | join(',') }}"


@pytest.fixture
def attempts(world: Any, new_table: Any, tmp_path: Path, task: Task) -> Any:
    """The solver's eight attempts at a task that brings ``POINTS``, with this scaffold."""
    (tmp_path / "helped.md").write_text(HELPED)
    (tmp_path / "plain.md").write_text("{{ program }}")

    class Asking(world):  # type: ignore[misc]  # a fixture that is a class
        def rubric(self, task: Task) -> Sequence[Criterion]:
            return POINTS

    def play(**scaffold: Any) -> list[Turn]:
        table = new_table(Asking, tmp_path)
        told = {"shows": "rubric", "prompt": "helped.md", **scaffold}
        roles = table.roles({"solver": {"prompt": "plain.md", "scaffold": told}})
        episode: Episode = table.play(solve(), lambda prompt, request: prompt, roles, task=task)
        assert not episode.error, episode.error
        found = [turn for turn in episode.turns if turn.author == "solver"]
        given = [episode.score(turn.index, "scaffold") for turn in found]
        of = 2 if told["shows"] == "trace" else len(POINTS)
        assert [one.value for one in given if one] == [len(shown(turn)) / of for turn in found]
        return found

    return play


def shown(turn: Turn) -> list[str]:
    """The criteria in the prompt that the engine read; the scripted player says that prompt."""
    assert turn.context is not None
    inside = turn.context.text.removeprefix("<|user|>").removesuffix("<|end|><|assistant|>")
    _, *parts = inside.split("|")
    return [one for part in parts for one in part.split(",") if one]


@pytest.mark.parametrize("n", [2, 5, 8, 16])
def test_the_first_sibling_is_shown_all_the_last_nothing_and_the_rest_in_between(n: int) -> None:
    assert [fraction(1.0, "linear", i, n) for i in range(n)] == [(n - 1 - i) / (n - 1) for i in range(n)]
    assert [fraction(0.5, "none", i, n) for i in range(n)] == [0.5] * n


def test_a_single_attempt_is_shown_the_whole_share() -> None:
    assert fraction(0.6, "linear", 0, 1) == 0.6


@pytest.mark.parametrize("step", [0, 5, 10, 20, 30, 100])
def test_what_is_shown_decays_with_the_schedule_and_is_nothing_at_its_end(step: int) -> None:
    decay = Sigmoid.model_validate({"from": 1.0, "to": 0.0, "centre": 0.2, "steepness": 125.0})
    share = Schedule("sigmoid", decay).at(Now(step, 100), ("share",))
    spec, items = ScaffoldSpec(shows="rubric", share=share), tuple(Item(str(n)) for n in range(10))
    counts = [len(drawn(spec, items, i, 8, seed=i).places) for i in range(8)]
    assert counts == [int(share * (7 - i) / 7 * 10 + 0.5) for i in range(8)]
    assert counts == [0] * 8 if step >= 30 else counts[7] == 0
    assert counts[0] == 10 if step <= 10 else True


def test_the_engine_reads_the_help_and_the_update_the_same_prompt_without_it(attempts: Any) -> None:
    turns = attempts()
    assert [len(shown(turn)) for turn in turns] == [7, 6, 5, 4, 3, 2, 1, 0]
    plain = turns[-1].context
    assert turns[-1].train_context is None and plain.text == "<|user|>print(12)<|end|><|assistant|>"
    for turn in turns[:-1]:
        assert turn.train_context == plain != turn.context


def test_what_is_to_be_met_and_what_to_be_avoided_are_told_apart(attempts: Any) -> None:
    first = attempts()[0].context.text
    assert "|says a,says b,says c,says d,says e,says f|says sorry" in first


def test_the_part_shown_is_random_and_the_same_for_the_same_seed() -> None:
    spec, items = ScaffoldSpec(shows="rubric", share=0.5, spread="none"), tuple(Item(str(n)) for n in range(8))
    drawings = [drawn(spec, items, 0, 8, seed).places for seed in range(30)]
    assert drawings == [drawn(spec, items, 0, 8, seed).places for seed in range(30)]
    assert {len(places) for places in drawings} == {4} and len(set(drawings)) > 10
    assert {at for places in drawings for at in places} == set(range(8))


def test_kept_help_is_read_by_the_update_too(attempts: Any) -> None:
    assert all(turn.train_context is None for turn in attempts(kept=1.0))


def test_without_a_share_everything_is_as_without_a_scaffold(attempts: Any) -> None:
    assert {turn.context.text for turn in attempts(share=0.0)} == {"<|user|>print(12)<|end|><|assistant|>"}


def test_a_secret_is_shown_item_by_item_and_never_stands_in_the_prompt_of_the_update(attempts: Any) -> None:
    turns = attempts(shows="trace", spread="none")
    assert all("a=7" in turn.context.text and "a=7" not in turn.train_context.text for turn in turns if shown(turn))


def test_what_is_shown_must_be_disclosed(table: Any) -> None:
    role = table.roles({"solver": {"prompt": "brief/solver", "scaffold": {"shows": "tracee"}}})["solver"]
    with pytest.raises(ScenarioError, match="did you mean 'trace'"):
        check_sees(role, ("reference", "trace"))


def test_a_task_that_has_nothing_of_the_kind_is_played_without_help(task: Task) -> None:
    assert items_of("nuggets", (), task) == () == items_of("rubric", (), None)
    assert items_of("reference", (), task) == (Item("12"),)
    assert items_of("rubric", [Rubric(POINTS)], task)[6] == Item("says sorry", -1.0)


@pytest.mark.parametrize("shows", ["outcome", "siblings"])
def test_what_has_no_lines_to_show_is_refused(table: Any, shows: str) -> None:
    role = table.roles({"solver": {"prompt": "brief/solver", "scaffold": {"shows": shows}}})["solver"]
    with pytest.raises(ScenarioError, match=f"sees '{shows}', which is not disclosed"):
        check_sees(role, ("reference", "trace"))
    with pytest.raises(ScenarioError, match=f"scaffold.shows: unknown disclosure '{shows}'"):
        load("ruscarl", [f"roles.solver.scaffold.shows={shows}"])


def test_an_episode_that_breaks_while_help_is_asked_for_is_data(
    world: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    (tmp_path / "helped.md").write_text(HELPED)
    table = new_table(world, tmp_path)
    roles = table.roles({"solver": {"prompt": "helped.md", "scaffold": {"shows": "trace"}}})

    def down(prompt: str, request: Request) -> str:
        raise EngineError("the server is down")

    episode = table.play(solve(), down, roles, task=task)
    assert episode.ending is Ending.BROKE and "the server is down" in episode.error
    assert [turn.author for turn in episode.turns] == ["environment"] and not episode.scores


def test_a_prompt_that_a_node_asks_for_is_never_swapped_for_that_of_the_help(
    world: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    """Else the sample answers another question than the one it is trained under."""
    (tmp_path / "helped.md").write_text(HELPED)
    (tmp_path / "other.md").write_text("and now? {{ said.solver }}")
    (tmp_path / "own.md").write_text("mind {{ scaffold.wanted | join(',') }}")
    nodes: dict[str, Any] = {"solve": {"role": "solver"}, "verify": {"do": "step"}}
    nodes |= {name: {"role": "solver", "fresh": True, "prompt": f"{name}.md"} for name in ("other", "own")}
    edges = ["solve -> verify", "verify -> other, own"]
    table = new_table(world, tmp_path)
    roles = table.roles({"solver": {"prompt": "brief/solver", "scaffold": {"shows": "trace", "prompt": "helped.md"}}})
    graph = GraphSpec.model_validate({"nodes": nodes, "edges": edges})
    episode = table.play(graph, lambda prompt, request: "9", roles, task=task)
    found = {turn.node: turn for turn in episode.turns if turn.author == "solver"}
    assert "a=7" in found["solve"].context.text and "a=7" not in found["solve"].train_context.text
    assert "and now? 9" in found["other"].context.text and found["other"].train_context is None
    assert episode.score(found["other"].index, "scaffold") is None
    assert "mind a=7,b=12" in found["own"].context.text and "mind <|end|>" in found["own"].train_context.text


def test_help_that_no_node_would_show_is_refused() -> None:
    graph = "graph={nodes: {solve: {role: solver, prompt: solver}, verify: {do: step}}, edges: [solve -> verify]}"
    with pytest.raises(ScenarioError, match="no node shows help: every one of solver's has a prompt of its own"):
        load("ruscarl", [graph])
