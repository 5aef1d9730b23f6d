"""Two seats of one environment: each hears what the environment tells it, speaks in turn, and gets its own scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sparring.agents.settle import settle
from sparring.envs.base import Environment
from sparring.envs.types import Ending, Episode, Score, Task
from sparring.scenarios.schema import GraphSpec


class Cards(Environment):
    """Each seat gets a card and says one word; the higher card wins. ``second_begins`` turns the order round."""

    seats = ("first", "second")

    def sample(self, parameters: Mapping[str, Any], rng: Any) -> Task:
        return Task("cards", {"deal": int(rng.integers(100))}, {"cards": {"first": "ACE", "second": "TEN"}})

    def begin(self, task: Task) -> str:
        order = ["second", "first"] if task.payload.get("second_begins") else ["first", "second"]
        self.waiting = order
        return self._shown()

    @property
    def addressee(self) -> str | None:
        return self.waiting[0] if self.waiting else None

    @property
    def stamp(self) -> str:
        return "cards v1"

    def _shown(self) -> str:
        assert self.task is not None
        return f"your card: {self.task.secret['cards'][self.waiting[0]]}" if self.waiting else "over"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.waiting = self.waiting[1:]
        if self.waiting:
            return self._shown(), 0.0, False, False, {"scores": {}}
        told = {seat: [Score.valued("verifier", 1.0 if seat == "first" else -1.0, "cards")] for seat in self.seats}
        return self._shown(), 0.0, True, False, {"scores": told}

    def state(self) -> object:
        return list(self.waiting)

    def set_state(self, state: Any) -> None:
        self.waiting = list(state)


NODES = {"one": {"role": "first"}, "two": {"role": "second"}, "deal": {"do": "step"}}
GRAPH = GraphSpec.model_validate(
    {"nodes": NODES, "edges": ["one -> deal", "two -> deal", "deal -> one, two if unfinished"]}
)
PROMPT = "{% for one in heard %}{{ one.author }}: {{ one.text }}\n{% endfor %}"


@pytest.fixture
def cards(new_table: Any, tmp_path: Any) -> Any:
    """The table, and the two roles that sit at it."""
    (tmp_path / "hear.md").write_text(PROMPT)
    table = new_table(Cards, tmp_path)
    table.seated = table.roles({name: {"kind": "plain", "prompt": "hear.md"} for name in ("first", "second")})
    return table


def played(cards: Any, second_begins: bool = False, graph: GraphSpec = GRAPH, **more: Any) -> Episode:
    task = Task("cards", {"second_begins": second_begins}, {"cards": {"first": "ACE", "second": "TEN"}})
    episode: Episode = cards.play(
        graph, lambda prompt, request: f"I am {request.tag}", {**cards.seated, **more}, task=task
    )
    assert episode.ending is Ending.DONE, episode.error
    return episode


def heard(episode: Episode, author: str) -> str:
    return "".join(turn.context.text for turn in episode.turns if turn.author == author and turn.context)


def test_seats_speak_in_the_order_the_environment_addresses_them(cards: Any) -> None:
    authors = [turn.author for turn in played(cards).turns if turn.author != "environment"]
    assert authors == ["first", "second"]
    assert [t.author for t in played(cards, second_begins=True).turns if t.token_ids] == ["second", "first"]


def test_no_seat_reads_the_other_ones_card_or_words(cards: Any) -> None:
    episode = played(cards)
    assert "ACE" in heard(episode, "first") and "TEN" not in heard(episode, "first")
    assert "TEN" in heard(episode, "second") and "ACE" not in heard(episode, "second")
    assert "I am first" not in heard(episode, "second")


def test_a_role_without_a_seat_hears_everything(cards: Any) -> None:
    nodes = {**NODES, "watch": {"role": "critic"}}
    edges = ["one -> deal", "two -> deal", "deal -> one, two if unfinished", "deal -> watch"]
    graph = GraphSpec.model_validate({"nodes": nodes, "edges": edges})
    critic = cards.roles({"critic": {"kind": "plain", "prompt": "hear.md"}})
    said = heard(played(cards, graph=graph, **critic), "critic")
    assert "ACE" in said and "TEN" in said and "I am first" in said


def test_each_seat_gets_its_own_score_for_its_newest_turn(cards: Any) -> None:
    episode = settle(played(cards), cards.seated, Cards())
    assert {
        turn.author: score.value for turn in episode.turns if (score := episode.score(turn.index, "verifier"))
    } == {"first": 1.0, "second": -1.0}


def test_environment_turns_say_whom_they_are_for_and_where_they_come_from(cards: Any) -> None:
    told = [(turn.addressee, turn.engine) for turn in played(cards).turns if turn.author == "environment"]
    assert told == [("first", "cards v1"), ("second", "cards v1"), (None, "cards v1")]
