"""Try again: a wrong answer is followed by that word alone; success at answer t earns 1/2^(t-1), repetition costs."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from sparring.agents.conditions import VERIFIER, outcome
from sparring.envs.retry import answered
from sparring.envs.types import Episode
from sparring.scenarios.load import load
from sparring.storage.queries import stored_episodes
from sparring.storage.store import Store
from sparring.training.session import start

SHORT = ["training.steps=1", "evaluation.every=0", "rollout={episodes: 2, picks: 2}", "seed=3"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    """One step of the recipe, as it was stored."""
    from sparring.training.loop import learn

    with closing(Store(str(tmp_path_factory.mktemp("played") / "run.db"))) as store:
        session = start(load("ufo", SHORT), store)
        asyncio.run(learn(session))
        found = [one.episode for one in stored_episodes(store, session.run, range(1, 2))]
        session.close()
    return found


def test_nothing_but_the_feedback_follows_an_answer(played: list[Episode]) -> None:
    feedback = load("ufo").environment.options["retry"]["feedback"]
    heard = {turn.said for episode in played for turn in episode.turns if turn.node == "verify"}
    assert feedback in heard and heard <= {feedback, ""}
    read = "".join(turn.context.text for episode in played for turn in episode.turns if turn.context is not None)
    assert "right" not in read


def test_a_conversation_ends_with_the_first_right_answer_or_the_third(played: list[Episode]) -> None:
    for episode in played:
        parents = {turn.parent for turn in episode.turns}
        for turn in episode.turns:
            if turn.node == "verify" and turn.index not in parents:
                chain = [one for one in episode.ancestors(turn.index) if one.author == "solver"][::-1]
                right = [outcome(episode.score(one.index, VERIFIER)) for one in chain]
                assert right[:-1] == [False] * (len(chain) - 1)
                assert right[-1] or len(chain) == 3


def test_the_last_answer_alone_earns_and_what_the_formula_says(played: list[Episode]) -> None:
    for episode in played:
        for turn in episode.turns:
            score = episode.score(turn.index, "attempts")
            if turn.author != "solver" or score is None or score.value is None:
                continue
            chain = [one for one in episode.ancestors(turn.index) if one.author == "solver"]
            given = [answered(one.said) for one in chain]
            success = 0.5 ** (len(chain) - 1) if outcome(episode.score(turn.index, VERIFIER)) else 0.0
            assert score.value == pytest.approx(success - 0.1 * (1 - len(set(given)) / len(given)))


def test_an_environment_gains_it_by_one_key() -> None:
    for name in ("quickstart", "smoke", "reasoning-gym"):
        scenario = load(name, ["environment.retry={attempts: 2}"])
        assert scenario.environment.options["retry"]["attempts"] == 2


def test_the_control_answers_once(tmp_path: Path) -> None:
    recipe = load("ufo").recipe
    assert recipe is not None and recipe.controls["single"]["environment.retry"] is None
