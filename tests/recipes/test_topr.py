"""What TOPR promises (arXiv 2503.14286): gradients in closed form, and training from rows that other policies made."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.recipes.conftest import Play
from torch import Tensor

import sparring.scenarios
from sparring.scenarios.load import load
from sparring.scenarios.registry import advantages, losses, make
from sparring.storage.queries import select_rows
from sparring.storage.store import Store
from sparring.training import offline
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.groups import Group, Member, Place
from sparring.training.losses.base import Tokens
from sparring.training.losses.presets import Reinforce

RECIPE = Path(sparring.scenarios.__file__).parent / "recipes" / "topr.yaml"
SMALL = (
    "training.steps=2", "training.epochs=1", "training.minibatches=1", "evaluation.every=0", "rollout.episodes=2",
    "rollout.picks=2", "audit.tasks=1",
    "canary.every=0", "curriculum.arms.depth=[2, 3]",
)  # fmt: skip
ratios = st.floats(-8, 8)  # log pi - log mu of one token


def slopes(loss: Any, gap_N: list[float], advantage: float) -> list[float]:
    """-dL/dlogp of one trajectory whose tokens are at these log-ratios to the policy that sampled them."""
    logprob_N = torch.full((len(gap_N),), -2.0, dtype=torch.float64, requires_grad=True)
    index_N = torch.zeros(len(gap_N), dtype=torch.long)
    streams = {
        "advantage": torch.full((len(gap_N),), advantage, dtype=torch.float64),
        "logprob_old": logprob_N.detach() - torch.tensor(gap_N, dtype=torch.float64),
    }
    value = loss(Tokens(logprob_N, torch.ones_like(logprob_N), index_N, index_N, streams))
    gradient_N: Tensor = torch.autograd.grad(value, logprob_N)[0]
    return [-number for number in gradient_N.tolist()]


def topr() -> Any:
    """The recipe's loss."""
    return make(losses, load(RECIPE).training.loss)


def signed(baseline: float = 0.0) -> Any:
    """The recipe's advantage, with another baseline."""
    ref = load(RECIPE).training.advantage
    return make(advantages, ref.model_copy(update={"options": {"baseline": baseline}}))


def group(n_right: int, n_wrong: int) -> Group:
    rewards = [1.0] * n_right + [0.0] * n_wrong
    return Group.of("solver", "solve", "siblings", [Member(Place(0, at), one) for at, one in enumerate(rewards)])


# -- the gradient ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.sampled_from([-1.0, 1.0, 0.3, -2.0]))
def test_on_policy_rows_give_the_gradient_of_reinforce(n: int, advantage: float) -> None:
    assert slopes(topr(), [0.0] * n, advantage) == slopes(Reinforce(), [0.0] * n, advantage)


@given(st.lists(ratios, min_size=1, max_size=4))
def test_a_wrong_attempt_pushes_by_its_trajectory_ratio_and_never_more_than_once(gap_N: list[float]) -> None:
    ratio = min(1.0, math.exp(sum(gap_N)))
    assert slopes(topr(), gap_N, -1.0) == pytest.approx([-ratio] * len(gap_N), rel=1e-9)


@given(st.lists(ratios, min_size=1, max_size=4))
def test_a_right_attempt_is_learnt_in_full_wherever_the_policy_stands(gap_N: list[float]) -> None:
    assert slopes(topr(), gap_N, 1.0) == [1.0] * len(gap_N)


def test_a_wrong_attempt_that_the_policy_has_left_pushes_no_more() -> None:
    assert max(map(abs, slopes(topr(), [-10.0, -10.0], -1.0))) < 1e-8


# -- the baseline ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(0, 20), st.floats(-0.95, 0.95))
def test_the_logged_share_of_positive_pull_is_the_formula(n_right: int, n_wrong: int, c: float) -> None:
    if not n_right + n_wrong:
        return
    p = n_right / (n_right + n_wrong)
    found = signed(c).figures([group(n_right, n_wrong)])
    assert found["positive_share"] == pytest.approx(p)
    assert found["positive_pull"] == pytest.approx(p * (1 - c) / (1 + (1 - 2 * p) * c))


def test_right_is_plus_one_and_wrong_minus_one_less_the_baseline() -> None:
    assert signed(0.25)([group(1, 1)]) == [[0.75, -1.25]]
    assert signed().figures([]) == {}


# -- stored rows -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(play: Play) -> Path:
    """Two small steps of the recipe, the second by a policy that has learnt from the first."""
    path = play(RECIPE, SMALL).store.path
    assert path is not None
    return path


def course(played: Path) -> offline.Study:
    """A run that has begun to learn from the stored ones."""
    made = offline.start(load(RECIPE, SMALL), Store(played), "r1")
    made.stored = (1,)
    return made


def test_every_stored_row_says_which_policy_made_it_and_how_likely_it_was(played: Path) -> None:
    query = "SELECT v.number, count(*) FROM turns t JOIN policy_versions v ON v.id = t.policy_version_id"
    with Store(played) as store:
        rows = select_rows(store, f"{query} WHERE t.author = 'solver' GROUP BY 1 ORDER BY 1").rows
        (bare,) = select_rows(store, "SELECT count(*) FROM turns WHERE n_tokens > 0 AND logprobs IS NULL").rows
    assert rows == ((0, 16), (1, 16)) and bare == (0,)


def test_rows_of_several_policies_are_learnt_from_without_an_engine(
    played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr(TransformersEngine, "__init__", none)
    made = offline.start(load(RECIPE, (*SMALL, "training.steps=2")), Store(played), "r1")
    assert offline.study(made) == "done"
    with made.store as store:
        query = (
            "SELECT DISTINCT v.number FROM advantages a JOIN steps s ON s.id = a.step_id JOIN turns t ON t.id = "
            f"a.turn_id JOIN policy_versions v ON v.id = t.policy_version_id WHERE s.run_id = {made.run[1:]}"
        )
        assert sorted(select_rows(store, query).rows) == [(0,), (1,)]


def test_the_loss_reads_the_stored_log_probs(played: Path) -> None:
    def taught(shift: float) -> tuple[dict[str, Any], str]:
        """Figures and weights after an update on rows whose first wrong attempt was sampled at other log-probs."""
        made = course(played)
        episodes, ids = made.episodes(1)
        at, wrong = next(
            (number, turn)
            for number, episode in enumerate(episodes)
            for turn in episode.turns
            if (score := episode.score(turn.index, "verifier")) is not None and score.value == 0.0
        )
        tampered = replace(wrong, logprobs=tuple(one + shift for one in wrong.logprobs))
        turns = tuple(tampered if turn.index == wrong.index else turn for turn in episodes[at].turns)
        episodes[at] = replace(episodes[at], turns=turns)
        lesson = made.update(made.follow(1), episodes, 1, ids)
        sha = made.learner.weights_sha()
        made.close()
        return dict(lesson.figures), sha

    (as_stored, first), (likelier, second) = taught(0.0), taught(3.0)
    assert as_stored["rl/weight_down"] == pytest.approx(1.0, abs=1e-3)  # the start policy made these rows
    assert likelier["rl/weight_down"] < 0.99 and likelier["rl/fallen"] > as_stored["rl/fallen"] + 0.1
    assert first != second


def test_the_share_of_positive_pull_is_among_the_figures_of_the_step(played: Path) -> None:
    with Store(played) as store:
        query = "SELECT s.metrics FROM steps s WHERE s.number = 1 AND s.run_id = 1"
        (text,) = select_rows(store, query).rows[0]
        right = (
            "SELECT avg(c.value) FROM scores c JOIN turns t ON t.id = c.turn_id JOIN episodes e ON e.id = t.episode_id "
            "JOIN steps s ON s.id = e.step_id WHERE c.name = 'verifier' AND s.number = 1 AND s.run_id = 1"
        )
        (p,) = select_rows(store, right).rows[0]

    figures = text if isinstance(text, dict) else json.loads(text)
    assert figures["rl/positive_pull/solver"] == pytest.approx(p)  # the recipe's baseline is 0
