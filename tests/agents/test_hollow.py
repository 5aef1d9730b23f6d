"""Answers without content are turned down before a judge is asked, and counted; answers with any are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.engine import Request
from sparring.agents.hollow import hollow
from sparring.agents.settle import settle
from sparring.agents.stage import EMPTY, RULE
from sparring.envs.types import Validity
from sparring.scenarios.schema import GraphSpec
from sparring.training.summary import summarise

QUESTION = "A farmer has 17 sheep. All but 9 run away; how many are left?"
KEYS = (
    "", " ", "\n\n", ":", ".", ",", "...", "\u200b", "**", "\u3002", "Thought process:", "Thinking Process:\n",
    "Let's solve this problem step by step.", "Let\u2019s think step by step", "Solution",
    "**Solution:**", "\u89e3", "\u89e3:",
    "\u304b\u3044\u305b\u3064", "Respuesta", "The answer is:", "<answer></answer>", "<answer>:</answer>", QUESTION,
    QUESTION * 3, f"<answer>{QUESTION}</answer>", "I am correct. " * 200, "This is absolutely correct!",
    "my answer is right",
    "<think>a long chain of thought, 9</think>", "<think>nine</think>.", "\uff33olution\uff1a", "\u2060Solution\u2060",
)  # fmt: skip
ANSWERS = (
    "9", "nine", "True", "right", "correct", "no", "B", "\u4e5d", "[]", "{}", "()", "+", "==", "<answer>9</answer>",
    "x = 9",
    "Solution: 9", "The answer is 9", "Let's solve this problem step by step. 17 - 8 = 9", f"{QUESTION} 9", "\u89e3: 9",
    "I am correct that 9 are left", "it is true that the left is correct and 9", "\u00bd", "\U0001f411", "0", "-1",
    "a.b",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_master_key_is_no_answer(key: str) -> None:
    assert hollow(key, QUESTION)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_not_turned_down_for_being_short_or_odd(answer: str) -> None:
    assert hollow(answer, QUESTION) == ""


@given(st.text(), st.text(max_size=60))
def test_no_text_breaks_the_rules_and_a_digit_is_content(text: str, question: str) -> None:
    hollow(text, question)
    assert hollow(f"{text} 4711 {text}".replace("</think>", ""), question) == "" or "4711" in question


GRAPH = GraphSpec.model_validate(
    {
        "nodes": {
            "propose": {"role": "teacher"}, "admit": {"do": "admit"}, "describe": {"role": "rubric_writer"},
            "solve": {"role": "solver"}, "verify": {"do": "step"},
            "critique": {"role": "critic", "samples": 2}, "mark": {"role": "judge"},
        },
        "edges": ["propose -> admit", "admit -> describe if accepted", "describe -> solve", "solve -> verify",
                  "verify -> critique, mark"],
    }
)  # fmt: skip
SOLVING = "You are asked what this prints: print(3 * 4)"


@pytest.fixture
def judged(table: Any, preset: Any, tmp_path: Any) -> Any:
    """``judged(answer, refuse_empty)``: the episode in which this was the answer, and whom the engine was asked as."""
    (tmp_path / "ask.md").write_text(SOLVING)
    preset["solver"]["prompt"] = "ask.md"

    def play(answer: str, refuse: bool) -> tuple[Any, list[str]]:
        asked: list[str] = []
        words = {"teacher": "p", "rubric_writer": "2 is a good answer\n1 is short", "solver": answer}

        def believing(prompt: str, request: Request) -> str:
            asked.append(request.tag)
            return words.get(request.tag, "<verdict>right</verdict>\n1: yes\n2: yes")

        apart = {"trainable": False, "refuse_empty": refuse}
        critic = {"prompt": "brief/critic", **apart}
        judge = {"prompt": "full/judge", "sees": ["rubric"], **apart}
        roles = table.roles({**preset, "critic": critic, "judge": judge}, max_tokens=3000)
        episode = table.play(GRAPH, believing, roles)
        return settle(episode, roles, table.world()), asked

    return play


@pytest.mark.parametrize("key", [*(key for key in KEYS if QUESTION not in key), SOLVING, SOLVING * 3])
def test_no_master_key_reaches_a_judge_that_believes_everything(judged: Any, key: str) -> None:
    """Bites: without the rule this judge says right, and yes to both criteria, of all of them."""
    episode, asked = judged(key, True)
    assert "critic" not in asked and "judge" not in asked and "solver" in asked
    judges = [turn for turn in episode.turns if turn.author in ("critic", "judge")]
    assert [turn.parsed.value for turn in judges] == ["wrong", "wrong", {"1": False, "2": False}]
    told = [episode.score(turn.index, EMPTY) for turn in judges]
    assert all(one.validity is Validity.MISSING and one.by == RULE and one.note for one in told)
    assert summarise([episode])[f"{EMPTY}/critic"] == 2.0
    solver = next(turn for turn in episode.turns if turn.author == "solver")
    assert episode.score(solver.index, "rubric").value == 0.0


def test_a_judge_that_is_told_to_answers_all_the_same(judged: Any) -> None:
    episode, asked = judged("Solution", False)
    assert asked.count("critic") == 2 and f"{EMPTY}/critic" not in summarise([episode])
    assert {turn.parsed.value for turn in episode.turns if turn.author == "critic"} == {"right"}


@pytest.mark.parametrize("answer", ["12", "<answer>12</answer>", "Solution: 12", "[]"])
def test_an_answer_reaches_the_judge(judged: Any, answer: str) -> None:
    _, asked = judged(answer, True)
    assert asked.count("critic") == 2 and asked.count("judge") == 1
