"""Consultation: advice counts where it was asked about, contradictions do not, and a judge decides what no rule can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparring.agents.dialogue import advice
from sparring.agents.engine import Request
from sparring.agents.rewards import Context
from sparring.agents.role import make_role
from sparring.agents.rubric import make_rubric, parse_rubric
from sparring.envs.dialogue.env import DialogueEnvironment
from sparring.envs.sources import JsonlSource
from sparring.envs.types import Task, Validity
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.schema import RoleSpec, Sampling

HANDBOOK = {"soil": {"dry": "kelmar", "wet": "tovik"}, "sun": {"dim": "zanuf", "hot": "pirel"}}
ROW = {
    "question": "Which soap?",
    "facts": {"skin": "very dry", "purse": "thin"},
    "rubric": ["2 says kelmar", "1 says tovik", "1 is friendly", "veto: at most 9 words"],
}


@pytest.fixture
def garden() -> Task:
    """Wet soil (3 points), dim sun (1 point)."""
    secret = {"facts": {"soil": "wet", "sun": "dim"}, "required": [0, 1], "rubric": ["3 says tovik", "1 says zanuf"]}
    return Task("dialogue", {"question": "Which seeds?", "handbook": HANDBOOK}, secret)


@pytest.fixture
def soap() -> Task:
    """A consultation from a row of a file."""
    return DialogueEnvironment({"mode": "consult"}).task_from_row(ROW, "rows:1")


@pytest.mark.parametrize(
    ("asked", "said", "share"),
    [
        (["soil?", "sun?"], "tovik and zanuf", 1.0),
        (["soil?", "sun?"], "tovik", 0.75),
        (["soil?"], "tovik and zanuf", 0.75),
        ([], "tovik and zanuf", 0.0),
        (["soil?", "sun?"], "kelmar, tovik, zanuf, pirel", 0.0),
        (["soil?", "sun?"], "kelmar or tovik, and zanuf", 0.25),
    ],
)
def test_points_count_for_what_was_asked_and_is_not_contradicted(
    sit: Any, garden: Task, asked: list[str], said: str, share: float
) -> None:
    table = sit(task=garden, mode="consult").say(*asked, f"<answer>{said}</answer>")
    assert table.scores["verifier"] == pytest.approx(share) and table.scores["asked"] == len(asked) / 2


def test_the_client_tells_nothing_by_itself(sit: Any, garden: Task) -> None:
    table = sit(task=garden, mode="consult")
    assert table.heard.endswith("Which seeds?")
    assert table.say("What would you like?").heard == "What do you mean?" and table.scores == {"revealed": 0.0}
    assert table.say("How is your soil?").heard == "soil: wet" and table.scores == {"revealed": 0.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rubric": ["2 says kelmar"]}, "for the fact 'purse'"),
        ({"rubric": ["2 says a", "1 is b"]}, "POINTS says WORDS"),
        ({"rubric": ["2 says a", "1 says b", "be kind"]}, "veto: text"),
        ({"rubric": ["2 says a", "1 says b", "20 says c"]}, "0.5 to 10 points"),
        ({"required": ["hair"]}, "not in facts"),
        ({"facts": []}, "mapping of topics"),
    ],
)
def test_a_row_that_is_no_consultation_is_refused_with_its_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=f"^rows:3: .*{words}"):
        DialogueEnvironment({"mode": "consult"}).task_from_row({**ROW, **change}, "rows:3")


def test_every_rubric_line_is_a_criterion_under_the_judges_number(soap: Task) -> None:
    rubric = make_rubric(parse_rubric("\n".join(soap.secret["rubric"])), None)
    assert rubric is not None
    numbered = [f"{at}. {criterion.text}" for at, criterion in enumerate(rubric.criteria, 1)]
    assert numbered == soap.secret["criteria"]


@pytest.mark.parametrize(
    ("said", "marks", "share"),
    [
        ("kelmar and tovik, dear", "3: yes", 1.0),
        ("kelmar and tovik, dear", "3: no", 0.75),
        ("kelmar and tovik, dear", "no marks at all", None),  # the judge failed
        ("kelmar", "3: no", 0.5),
        ("kelmar and tovik " * 9, "3: yes", 0.0),
    ],
)
def test_a_judge_decides_what_no_rule_can(
    talk: Any, folder: Path, at_table: Any, soap: Task, said: str, marks: str, share: float | None
) -> None:
    options = {"mode": "consult", "partner": "role"}
    roles = at_table(options, folder, "greedy.md")
    drawn = Sampling(max_tokens=4000)
    roles["judge"] = make_role(
        "judge", RoleSpec(kind="judge", prompt="dialogue/judge", sees=("criteria",), sampling=drawn), folder
    )

    def script(prompt: str, asked: Request) -> str:
        return {"advisor": f"<answer>{said}</answer>", "judge": marks}.get(asked.tag, "thin")

    episode = talk(folder, options, soap, script, roles=roles)
    (last,) = (turn for turn in episode.turns if turn.author == "advisor")
    score = advice(episode, last, Context(roles, DialogueEnvironment(options)))
    assert score.value == (None if share is None else pytest.approx(share))
    assert score.validity is (Validity.INVALID if share is None else Validity.VALUED)
    (judged,) = (turn for turn in episode.turns if turn.author == "judge")
    assert judged.context is not None and "3. is friendly" in judged.context.text


def test_a_question_has_no_advice_to_measure(talk: Any, folder: Path, at_table: Any, soap: Task) -> None:
    options = {"mode": "consult", "max_turns": 1}
    roles = at_table(options, folder, "greedy.md")
    said = iter(["skin?", "<answer>kelmar</answer>"])
    episode = talk(folder, options, soap, lambda prompt, asked: next(said), roles=roles)
    context = Context(roles, DialogueEnvironment(options))
    scores = [advice(episode, turn, context) for turn in episode.turns if turn.author == "advisor"]
    assert [score.validity for score in scores] == [Validity.MISSING, Validity.VALUED]
    assert scores[1].value == pytest.approx(2 / 3)


def test_a_file_of_consultations_is_read_as_rows_are(tmp_path: Path, soap: Task) -> None:
    """The field ``rubric`` is the environment's own; elsewhere the source makes it the task's."""
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW))
    (task,) = JsonlSource({"path": file}, DialogueEnvironment({"mode": "consult"})).tasks()
    assert (task.payload, task.secret) == (soap.payload, soap.secret)
