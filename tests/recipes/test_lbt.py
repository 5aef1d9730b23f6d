"""What learning by teaching promises (arXiv 2406.14629): on stub students, and on stored rows of the recipe."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.recipes.conftest import Play

import sparring.scenarios
from sparring.agents.engine import ByteRenderer, Request, ScriptedEngine
from sparring.agents.exam import answers_below, vote, votes
from sparring.agents.graph import build_graph, play
from sparring.agents.rewards import rewards_of
from sparring.agents.role import make_role
from sparring.agents.settle import settle
from sparring.agents.stage import Runtime
from sparring.agents.world import Pool
from sparring.envs.base import Environment
from sparring.envs.code.env import CodeEnvironment
from sparring.envs.code.programs import go_on, outputs, write_solved
from sparring.envs.types import SIMILAR, Episode, Task
from sparring.scenarios.load import load
from sparring.scenarios.schema import Scenario
from sparring.storage.queries import select_rows
from sparring.storage.store import Store
from sparring.training.loop import learn
from sparring.training.session import start

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "lbt.yaml"
SMALL = (
    "training.steps=1", "evaluation.every=0", "rollout.episodes=2", "rollout.picks=2", "audit.tasks=1",
    "canary.every=0", "graph.nodes.teach.samples=4", "graph.nodes.exam.samples=2",
)  # fmt: skip
EXAMS = """
WITH RECURSIVE below(id, lesson, taught) AS (
  SELECT t.id, t.id, t.task FROM turns t WHERE t.author = 'teacher'
  UNION ALL
  SELECT t.id, b.lesson, b.taught FROM turns t JOIN turns p ON p.episode_id = t.episode_id AND p.number = t.parent
  JOIN below b ON b.id = p.id
)
SELECT b.lesson, t.author, k.key, s.value, e.value
FROM below b
JOIN turns t ON t.id = b.id
JOIN tasks k ON k.episode_id = t.episode_id AND k.number = t.task
JOIN tasks g ON g.id = k.parent_id AND g.episode_id = t.episode_id AND g.number = b.taught
JOIN scores s ON s.turn_id = t.id AND s.name = 'verifier'
JOIN scores e ON e.turn_id = b.lesson AND e.name = 'exam'
ORDER BY 1, 2, 3
"""
ITERATE = """{nodes: {
  teach: {role: teacher, samples: 3}, check: {do: step}, exam: {do: draw, samples: 2},
  read: {role: reader}, grade: {do: step},
  back: {do: recall, at_most: 2}, teach_again: {role: teacher, prompt: again.md, fresh: true}, check_again: {do: step},
  exam_again: {do: draw, samples: 2}, read_again: {role: reader, fresh: true}, grade_again: {do: step}},
  edges: [teach -> check, teach -> exam, exam -> read, read -> grade, grade -> back if wrong, back -> teach_again,
  teach_again -> check_again, teach_again -> exam_again, exam_again -> read_again, read_again -> grade_again]}"""


def said(number: object) -> str:
    return f"<answer>{number}</answer>"


def lesson(*answers: object, task: Task | None = None, scenario: Scenario | None = None) -> Episode:
    """An episode of the recipe's graph: the teacher gives these answers, students compute what they are told to."""
    scenario = scenario or load(RECIPE, (f"graph.nodes.teach.samples={len(answers)}", "graph.nodes.exam.samples=2"))
    given = iter(answers)

    def script(prompt: str, request: Request) -> str:
        if request.tag == "teacher":
            return said(next(given))
        _, told, rest = prompt.split("\n", 2)
        name, _, value = told.partition("=")
        try:
            return said(outputs(name, rest.strip(), [int(value)])[0])
        except ValueError:
            return said("none")

    roles = {name: make_role(name, spec, scenario.base) for name, spec in scenario.roles.items()}
    pool = Pool(lambda: CodeEnvironment({"tries": 1}))
    runtime = Runtime(roles, {"policy": ScriptedEngine(script)}, ByteRenderer(), pool)
    episode = asyncio.run(play(build_graph(scenario.graph_spec()), runtime, {"depth": 2}, task=task or taught()))
    assert not episode.error
    with pool.lend() as environment:
        return settle(episode, roles, environment, rewards_of(scenario))


def taught(prints: str = "8") -> Task:
    return Task("code", {"program": "d=6\nc=d+3\nprint(c-1)"}, {"reference": prints, "trace": []}, {"depth": 2})


def lessons(episode: Episode) -> dict[str, float | None]:
    """The exam's score of each lesson, by what the teacher said."""
    found = {}
    for turn in episode.turns:
        score = episode.score(turn.index, "exam")
        if turn.author == "teacher" and turn.parsed is not None and score is not None:
            found[str(turn.parsed.value)] = score.value
    return found


@pytest.fixture(scope="module")
def store(play: Play) -> Store:
    """A small step of the recipe."""
    return play(RECIPE, SMALL).store


# -- the exam ----------------------------------------------------------------------------------------------------------


def test_a_right_lesson_earns_more_than_a_wrong_one_from_students_who_use_it() -> None:
    earned = lessons(lesson(8, 61))
    assert earned == {"8": 1.0, "61": 0.0}


def test_exam_items_are_the_same_for_all_lessons_of_an_episode_and_none_is_the_taught_one() -> None:
    episode = lesson(8, 9, 10)
    sat = [
        sorted({str(turn.task) for turn in answers_below(episode, top)})
        for top in episode.turns
        if top.author == "teacher"
    ]
    assert len(sat) == 3 and sat[0] == sat[1] == sat[2] and len(sat[0]) == 2
    assert taught().key not in sat[0]
    drawn = [task for task in episode.tasks if task.operator == SIMILAR]
    assert sorted(task.key for task in drawn) == sat[0] and {task.parent for task in drawn} == {taught().key}


def test_a_lesson_nobody_was_examined_on_has_no_score() -> None:
    edges = "[teach -> check]"
    nodes = "{teach: {role: teacher, samples: 2}, check: {do: step}}"
    episode = lesson(8, 9, scenario=load(RECIPE, (f"graph={{nodes: {nodes}, edges: {edges}}}",)))
    assert lessons(episode) == {"8": None, "9": None}


def test_students_may_weigh_differently_and_be_left_out() -> None:
    more = ("rewards={told: {kind: exam, weights: {renamer: 0}}}", "roles.teacher.reward=[told]")
    episode = lesson(8, scenario=load(RECIPE, ("graph.nodes.teach.samples=1", *more)))
    (top,) = [turn for turn in episode.turns if turn.author == "teacher"]
    score = episode.score(top.index, "told")
    assert score is not None and score.value == 1.0 and "renamer" not in score.note and "reader" in score.note


def test_a_weight_for_nobody_is_not_passed_over() -> None:
    more = ("rewards={told: {kind: exam, weights: {renamr: 0}}}", "roles.teacher.reward=[told]")
    episode = lesson(8, scenario=load(RECIPE, ("graph.nodes.teach.samples=1", *more)))
    score = next(score for scores in episode.scores.values() for score in scores if score.name == "told")
    assert score.validity == "invalid" and "unknown role 'renamr'; did you mean 'renamer'?" in score.note


def test_an_environment_with_too_few_tasks_says_so() -> None:
    class Lonely(Environment):
        def similar(self, task: Task, rng: Any) -> Task:
            return task

    from sparring.agents.draw import draw_like
    from sparring.scenarios.errors import ContractBroken

    with pytest.raises(ContractBroken, match=r"2 tasks like .* were wanted and 0 found"):
        draw_like(Pool(Lonely), taught(), 2, 0)


def test_reserved_tasks_are_never_drawn() -> None:
    from sparring.agents.draw import draw_like

    pool = Pool(CodeEnvironment)
    (first,) = draw_like(pool, taught(), 1, 0)
    (other,) = draw_like(pool, taught(), 1, 0, frozenset({first.standing.task.key}))
    assert other.standing.task.key != first.standing.task.key


def test_a_program_that_goes_on_prints_what_its_rest_makes_of_the_first() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        solved = write_solved(3, rng, "train")
        longer = go_on(solved.program, solved.output, rng)
        assert longer is not None
        assert outputs(longer.name, longer.rest, [int(solved.output)]) == [longer.output]
        space: dict[str, Any] = {}
        exec(longer.program.replace("print", "shown="), {"max": max, "min": min}, space)  # our own generator's text
        assert str(space["shown"]) == longer.output
    assert go_on("print('many words')", "many words", rng) is None


# -- voting ------------------------------------------------------------------------------------------------------------


def test_votes_weighed_by_the_exam_beat_the_majority_when_most_are_wrong() -> None:
    episode = lesson(61, 61, 61, 8, 8)
    assert votes([episode]) == {"vote/teacher": 0.0, "vote/teacher/exam": 1.0}


def test_a_vote_of_equal_weights_is_the_majority() -> None:
    assert vote(["a", "b", "b"], [0.0, 0.0, 0.0]) == "b"
    assert vote(["a", "b"]) == "a"


def test_unanimous_answers_are_not_put_to_the_vote() -> None:
    assert votes([lesson(8, 8)]) == {}


# -- rows and modes ----------------------------------------------------------------------------------------------------


def test_every_exam_score_leads_to_the_answers_that_made_it(store: Store) -> None:
    matrix: dict[int, dict[str, list[float]]] = {}
    scores: dict[int, float] = {}
    for top, student, _, mark, score in select_rows(store, EXAMS).rows:
        matrix.setdefault(top, {}).setdefault(student, []).append(mark)
        scores[top] = score
    (given,) = select_rows(store, "SELECT count(*) FROM scores WHERE name = 'exam' AND validity = 'valued'").rows[0]
    assert len(scores) == given == 2 * 4
    assert {len(marks) for students in matrix.values() for marks in students.values()} == {2}
    assert {len(students) for students in matrix.values()} == {2}
    for top, students in matrix.items():
        assert scores[top] == pytest.approx(np.mean([np.mean(marks) for marks in students.values()]))


def test_students_teach_nothing(store: Store) -> None:
    taught = "SELECT DISTINCT t.author FROM advantages a JOIN turns t ON t.id = a.turn_id"
    assert select_rows(store, taught).rows == (("teacher",),)
    assert select_rows(store, "SELECT DISTINCT role FROM groups").rows == (("teacher",),)


def test_students_stay_as_they_were_while_their_teacher_learns(tmp_path: Path) -> None:
    session = start(load(RECIPE, SMALL), Store(tmp_path / "sparring.db"))
    engines: Any = session.rollout.runtime.engines
    teacher, student = (engines[name].inner.model.state_dict() for name in ("policy", "reader"))
    name, weight = next(iter(teacher.items()))
    with torch.no_grad():
        weight.add_(1.0)  # what an update does to the policy
    assert not torch.equal(teacher[name], student[name])
    session.close()


def test_score_only_stores_everything_and_trains_nothing(tmp_path: Path) -> None:
    session = start(load(RECIPE, (*SMALL, "training.trainers={}")), Store(tmp_path / "sparring.db"))
    before = session.learner.weights_sha()
    assert asyncio.run(learn(session)) == "done"
    assert session.learner.weights_sha() == before
    session.close()
    with Store(tmp_path / "sparring.db") as rows:
        assert select_rows(rows, "SELECT count(*) FROM scores WHERE name = 'exam'").rows == ((8,),)
        assert select_rows(rows, "SELECT count(*) FROM advantages").rows == ((0,),)


def test_who_teaches_again_hears_what_went_wrong_and_is_examined_on_its_own(tmp_path: Path) -> None:
    (tmp_path / "again.md").write_text("Prints?\n{{ program }}\n{{ said.reader }} {{ said.environment | length }}")
    scenario = load(RECIPE, (f"graph={ITERATE}".replace("again.md", str(tmp_path / "again.md")),))
    episode = lesson(61, 62, 8, *[8] * 8, scenario=scenario)
    second = [turn for turn in episode.turns if turn.node == "teach_again"]
    assert len(second) == 4 and {turn.task for turn in second} == {taught().key}
    assert all(score.value == 1.0 for turn in second if (score := episode.score(turn.index, "exam")) is not None)
    assert all(episode.score(turn.index, "verifier") is not None for turn in second)
    first = {turn.said: episode.score(turn.index, "exam") for turn in episode.turns if turn.node == "teach"}
    assert [score.value for score in first.values() if score is not None] == [0.0, 0.0, 1.0]
