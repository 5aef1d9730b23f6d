"""The rubric a task brings along: its author is the environment's turn that sets the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.presets import solve
from sparring.agents.rewards import Context, rubric
from sparring.agents.rubric import mark
from sparring.envs.echo import EchoEnvironment
from sparring.envs.types import Criterion, CriterionKind, Episode, Rubric, Task, Validity
from sparring.scenarios.schema import GraphSpec

POINTS = (Criterion("answer is 12", 2.0), Criterion("says please", 2.0), Criterion("says sorry", -3.0))


@pytest.fixture
def scored(world: Any, new_table: Any, tmp_path: Path) -> Any:
    """Plays one episode in a world whose tasks bring ``POINTS`` and a criterion for a judge."""

    class Asking(world):  # type: ignore[misc]  # a fixture that is a class
        def rubric(self, task: Task) -> Sequence[Criterion]:
            return (*POINTS, Criterion("is kind", 4.0))

    def play(graph: GraphSpec, script: Any, task: Task | None, **roles: Any) -> Episode:
        table = new_table(Asking, tmp_path)
        episode: Episode = table.play(graph, script, table.roles(roles), task=task)
        assert not episode.error, episode.error
        return episode

    return play


def test_the_environments_turn_is_the_author_and_judges_criteria_are_told_apart(scored: Any, task: Task) -> None:
    episode = scored(solve(), lambda prompt, request: "x", task, solver={"prompt": "brief/solver"})
    given = episode.rubrics[0]
    assert (episode.turns[0].author, given.author, given.provenance) == ("environment", 0, "environment")
    assert [one.checker for one in given.criteria] == ["rule", "rule", "rule", "judge"]
    assert given.criteria[3].kind is CriterionKind.PRINCIPLE


def test_a_proposed_tasks_rubric_belongs_to_the_turn_that_admits_it(scored: Any) -> None:
    nodes = {"propose": {"role": "teacher"}, "accept": {"do": "admit"}, "answer": {"role": "solver"}}
    graph = GraphSpec.model_validate({"nodes": nodes, "edges": ["propose -> accept", "accept -> answer if accepted"]})
    episode = scored(graph, lambda prompt, request: "print(12)", None, teacher={"prompt": "brief/teacher"},
                     solver={"prompt": "brief/solver"})  # fmt: skip
    assert set(episode.rubrics) == {1} and episode.turns[1].node == "accept"


@pytest.mark.parametrize(
    ("said", "share"), [("<answer>12</answer> please", 1.0), ("please", 0.5), ("sorry", -0.75), ("please sorry", -0.25)]
)
def test_points_met_over_positive_points_and_nothing_is_clipped(said: str, share: float) -> None:
    assert mark(Rubric(POINTS), said).share == share


JUDGED = GraphSpec.model_validate(
    {
        "nodes": {"answer": {"role": "solver"}, "verify": {"do": "step"}, "judge": {"role": "judge"}},
        "edges": ["answer -> verify", "verify -> judge", "judge -> judge if unparsed"],
    }
)
ROLES = {"solver": {"prompt": "brief/solver"}, "judge": {"prompt": "full/judge", "sees": ["rubric"]}}


def judged(scored: Any, new_table: Any, tmp_path: Path, task: Task, marks: Sequence[str]) -> Any:
    """The score of an answer that is right and sorry; ``marks`` are the judge's words, one after the other."""
    words = iter(marks)

    def script(prompt: str, request: Any) -> str:
        return "<answer>12</answer> sorry" if request.tag == "solver" else next(words)

    episode = scored(JUDGED, script, task, **ROLES)
    table = new_table(None, tmp_path)
    attempt = next(turn for turn in episode.turns if turn.author == "solver")
    return rubric(episode, attempt, Context(table.roles(ROLES), EchoEnvironment()))


def test_a_rule_and_a_judge_score_one_rubric_and_every_verdict_is_kept(
    scored: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    made = judged(scored, new_table, tmp_path, task, ["4: yes"])
    assert made.value == pytest.approx((2 - 3 + 4) / (2 + 2 + 4))
    assert [(row.rubric_turn, row.share, row.by) for row in made.criteria] == [
        (0, 1.0, "answer_is"), (0, 0.0, "says"), (0, 1.0, "says"), (0, 1.0, "judge")
    ]  # fmt: skip


def test_a_judge_that_answers_nothing_is_asked_again_along_the_graph_and_counts_then(
    scored: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    made = judged(scored, new_table, tmp_path, task, ["{broken", "hm", "4: no"])
    assert made.value == pytest.approx((2 - 3) / (2 + 2 + 4))


def test_without_any_answer_the_judges_criterion_is_missing_and_never_a_zero(
    scored: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    made = judged(scored, new_table, tmp_path, task, ["7: yes"])
    assert made.value == pytest.approx((2 - 3) / (2 + 2))
    assert (made.criteria[3].validity, made.criteria[3].share) == (Validity.MISSING, None)


def test_a_judge_none_of_whose_words_can_be_read_makes_it_invalid(
    scored: Any, new_table: Any, tmp_path: Path, task: Task
) -> None:
    """By rules alone the answer would stand at another measure than its siblings."""
    graph = JUDGED.model_copy(update={"edges": JUDGED.edges[:-1]})
    words = {"solver": "<answer>12</answer> sorry", "judge": "{broken"}
    episode = scored(graph, lambda prompt, request: words[request.tag], task, **ROLES)
    context = Context(new_table(None, tmp_path).roles(ROLES), EchoEnvironment())
    made = rubric(episode, next(turn for turn in episode.turns if turn.author == "solver"), context)
    assert (made.validity, made.value, made.note) == (Validity.INVALID, None, "turn 3: no marks")
    assert [row.share for row in made.criteria] == [1.0, 0.0, 1.0, None]
