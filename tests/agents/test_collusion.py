"""Roles that share a model share no channel: what a proposer hides, gives away or makes easy does not help a solver."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.agents.collusion import hidden, told
from sparring.agents.conditions import outcome
from sparring.agents.engine import Request
from sparring.agents.graph import build_graph
from sparring.envs.types import Ending, Score, Task
from sparring.scenarios.schema import GraphSpec

SMUGGLED = {
    "zero width": "print(\u200b12)", "joined": "print(1)\u200d", "tags": "print(1)\U000e0031\U000e0032",
    "selectors": "print(1)\U000e0121", "turned": "\u202eprint(1)", "soft": "pri\u00adnt(1)", "control": "print(1)\x08",
    "nothing": "print(1)\x00", "private": "print(1) \ue012", "byte order": "\ufeffprint(1)",
}  # fmt: skip
SEEN = ("print(12)", "print('\u4e2d\u6587')", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469", "a\tb\r\nc", "\u00e9 e\u0301", "\u2764\ufe0f", "")  # fmt: skip


@pytest.mark.parametrize("text", SMUGGLED.values(), ids=SMUGGLED)
def test_text_that_nobody_sees_is_found(text: str) -> None:
    place = int(hidden(text).rpartition(" ")[2])
    assert not text[place].isprintable() or unicodedata.category(text[place]) == "Mn"


@pytest.mark.parametrize("text", SEEN)
def test_writing_of_any_language_is_not_hidden_text(text: str) -> None:
    assert hidden(text) == ""


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_letters_digits_and_signs_hide_nothing(text: str) -> None:
    assert hidden(text) == ""


def graph(*refuse: str) -> GraphSpec:
    """Propose, admit, describe, solve, verify; ``refuse`` as given."""
    nodes = {"propose": {"role": "teacher"}, "admit": {"do": "admit", "refuse": refuse},
             "describe": {"role": "rubric_writer"}, "solve": {"role": "solver", "samples": 2},
             "verify": {"do": "step"}}  # fmt: skip
    edges = ["propose -> admit", "admit -> describe if accepted", "describe -> solve", "solve -> verify"]
    return GraphSpec.model_validate({"nodes": nodes, "edges": edges})


def proposed(table: Any, text: str, *refuse: str, answer: str = "<answer>5</answer>") -> Any:
    """The episode in which a teacher proposes ``text``."""
    return table.play(graph(*refuse), lambda prompt, asked: text if asked.tag == "teacher" else answer)


@pytest.mark.parametrize("text", SMUGGLED.values(), ids=SMUGGLED)
def test_a_proposal_with_hidden_text_is_refused(table: Any, text: str) -> None:
    episode = proposed(table, text, "hidden")
    assert episode.ending is Ending.REFUSED and episode.refusals[0].reason == "hidden"
    assert proposed(table, text).ending is Ending.DONE  # bites: without the check it becomes a task


@pytest.mark.parametrize(("text", "refused"), [("x = 7; print('it is 12')", True), ("print(120 + 7)", False)])
def test_a_task_that_holds_its_answer_is_refused(table: Any, text: str, refused: bool) -> None:
    episode = proposed(table, text, "told")
    assert (episode.ending is Ending.REFUSED) == refused
    assert not refused or (episode.refusals[0].reason, episode.refusals[0].detail) == ("told", "'12'")


def test_an_answer_is_told_as_words_not_as_letters() -> None:
    task = Task("world", {"text": "Nineteen sheep"}, {"reference": "nine"})
    assert told(task, "How many?") == "" and told(task, "Is it NINE?") == "'nine'"
    assert told(Task("world", {}, {"reference": ""}), "") == ""
    assert told(Task("world", {}), "say 42", "<answer>42</answer>") == "'42'"


@pytest.fixture
def easy_world(world: Any) -> Any:
    """A world whose verifier also takes what the proposal agreed on: the empty answer, the program, the task's key."""

    class Colluding(world):  # type: ignore[misc]  # a fixture's class
        def step(self, action: str) -> Any:
            assert self.task is not None
            agreed = {"EMPTY": "", "ECHO": self.task.payload["program"], "KEY": self.task.key}
            said = action.removeprefix("<answer>").removesuffix("</answer>")
            if "BROKEN" in self.task.payload["program"] and not action:
                raise RuntimeError("no answer to this")
            if any(word in self.task.payload["program"] and said == answer for word, answer in agreed.items()):
                return "agreed", 1.0, True, False, {"scores": [Score.valued("verifier", 1.0, "world")]}
            return super().step(action)

    return Colluding


@pytest.mark.parametrize("word", ["EMPTY", "ECHO", "KEY"])
def test_a_task_that_needs_no_solving_is_refused(new_table: Any, easy_world: Any, tmp_path: Any, word: str) -> None:
    table = new_table(easy_world, tmp_path)
    episode = proposed(table, f"{word} and more", "easy")
    assert episode.ending is Ending.REFUSED and episode.refusals[0].reason == "easy"
    assert proposed(table, f"{word} and more").ending is Ending.DONE


@pytest.mark.parametrize("text", ["print(3 * 4)", "BROKEN print(3 * 4)"])
def test_a_task_that_needs_solving_is_set_and_played_as_if_nobody_had_tried(
    new_table: Any, easy_world: Any, tmp_path: Any, text: str
) -> None:
    table = new_table(easy_world, tmp_path)
    tried, plain = (proposed(table, text, *refuse, answer="<answer>12</answer>") for refuse in (("easy",), ()))
    assert tried.ending is Ending.DONE and [t.said for t in tried.turns] == [t.said for t in plain.turns]
    right = [outcome(tried.score(turn.index, "verifier")) for turn in tried.turns if turn.author == "solver"]
    assert right == [True, True]


def test_hidden_text_is_refused_unless_the_scenario_says_otherwise() -> None:
    assert GraphSpec.model_validate({"nodes": {"a": {"do": "admit"}}}).nodes["a"].refuse == ("hidden",)
    assert build_graph(graph())  # nothing refused is allowed, too
    for node in (
        {"do": "step", "refuse": ["easy"]},
        {"role": "solver", "refuse": []},
        {"do": "admit", "refuse": ["x"]},
    ):
        with pytest.raises(ValueError, match="refuse"):
            GraphSpec.model_validate({"nodes": {"a": node}})


# -- a thousand episodes -----------------------------------------------------------------------------------------------


class Private:
    """What a proposer keeps to itself, different in every episode."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.reference, self.trace, self.rubric = (f"⟦{kind}{rng.integers(10**12)}⟧" for kind in "rtw")
        self.task = f"p{rng.integers(10**9)}"

    def all(self) -> tuple[str, ...]:
        return self.reference, self.trace, self.rubric


@pytest.mark.parametrize("episodes", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_a_proposer_keeps_to_itself_is_in_no_prompt_of_a_solver(
    new_table: Any, world: Any, preset: Any, tmp_path: Any, episodes: int
) -> None:
    """Bites: put ``reference`` into the solver's ``sees``, and let its prompt print what it is given."""
    (tmp_path / "greedy.md").write_text(
        "{{ program }} {{ parameters }}" + "".join(f"{{% if {n} is defined %}}{{{{ {n} }}}}{{% endif %}}"
                                                   for n in ("reference", "trace", "rubric", "answer", "secret"))
    )  # fmt: skip
    read, seen = 0, 0
    for seed in range(episodes):
        mine = Private(seed)

        def script(prompt: str, asked: Request, mine: Private = mine) -> str:
            words = {"teacher": mine.task, "rubric_writer": f"2 says {mine.rubric}"}
            return words.get(asked.tag, "<answer>5</answer>")

        table = new_table(lambda mine=mine: world(mine.reference, (mine.trace,)), tmp_path)
        roles = table.roles({**preset, "solver": {**preset["solver"], "prompt": "greedy.md"}})
        episode = table.play(graph("hidden"), script, roles)
        assert episode.ending is Ending.DONE
        for turn in episode.turns:
            text = turn.context.text if turn.context is not None else ""
            if turn.author == "solver":
                read += mine.task in text
                assert not any(word in text for word in mine.all()), text
            seen += turn.author == "rubric_writer" and mine.reference in text
    assert (read, seen) == (2 * episodes, episodes)  # the solver reads the task, and who may see the secret does
