"""Estimators per token against slow double loops over the definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.advantages.base import Trace
from sparring.training.advantages.group import LeaveOneOut
from sparring.training.advantages.tokens import Gae, ImplicitProcess, ReturnToGo
from sparring.training.groups import Group

Row = Callable[..., Trace]
numbers = st.floats(-3, 3, width=32)
columns = st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.lists(numbers, min_size=n, max_size=n)] * 2))
discounts = st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0])


def plain(kind: Any, **options: Any) -> Any:
    return kind(kind.Config(whiten=False, **options))


def slow_gae(reward: Sequence[float], value: Sequence[float], gamma: float, lam: float) -> list[float]:
    n = len(reward)
    delta = [reward[t] + gamma * (value[t + 1] if t + 1 < n else 0.0) - value[t] for t in range(n)]
    return [sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, n)) for t in range(n)]


@given(columns, discounts, discounts)
def test_gae_equals_the_double_loop(trace: Row, pair: Any, gamma: float, lam: float) -> None:
    reward, value = pair
    [found] = plain(Gae, gamma=gamma, lam=lam).shape([trace(reward, value=value)])
    assert found.advantage_n.tolist() == pytest.approx(slow_gae(reward, value, gamma, lam), abs=1e-9)
    assert found.return_n is not None
    assert (found.return_n - found.advantage_n).tolist() == pytest.approx(value, abs=1e-9)


@given(columns)
def test_gae_at_its_ends_is_the_return_less_the_value_and_the_one_step_error(trace: Row, pair: Any) -> None:
    reward, value = pair
    [whole] = plain(Gae, gamma=1.0, lam=1.0).shape([trace(reward, value=value)])
    returns = np.cumsum(np.asarray(reward)[::-1])[::-1]
    assert whole.advantage_n.tolist() == pytest.approx((returns - value).tolist(), abs=1e-9)
    [step] = plain(Gae, gamma=1.0, lam=0.0).shape([trace(reward, value=value)])
    assert step.advantage_n.tolist() == pytest.approx(slow_gae(reward, value, 1.0, 0.0), abs=1e-9)


@given(columns, discounts)
def test_return_to_go_equals_the_double_loop(trace: Row, pair: Any, gamma: float) -> None:
    reward, logprob = pair
    kl = plain(ReturnToGo, gamma=gamma, kl=0.1)
    [found] = kl.shape([trace(reward, logprob=logprob, reference=[0.5] * len(reward))])
    less = [r - 0.1 * (new - 0.5) for r, new in zip(reward, logprob, strict=True)]
    slow = [sum(gamma ** (s - t) * less[s] for s in range(t, len(less))) for t in range(len(less))]
    assert found.advantage_n.tolist() == pytest.approx(slow, abs=1e-9)


def test_a_discount_counts_sampled_tokens_over_the_turns_of_a_conversation(trace: Row) -> None:
    """An observation between two turns is not in the trace, so it discounts nothing (verl core_algos.py:693)."""
    [found] = plain(ReturnToGo, gamma=0.5).shape([trace([0.0, 1.0, 0.0, 4.0], turn=[0, 0, 1, 1])])
    assert found.advantage_n.tolist() == [1.0, 2.0, 2.0, 4.0]


@pytest.mark.parametrize("kind", [Gae, ReturnToGo])
def test_whitening_is_over_the_tokens_of_each_role_and_leaves_returns_alone(kind: Any, trace: Row) -> None:
    rows = [trace([0.0, 1.0], value=[0.1, 0.2]), trace([0.0, 0.0, 5.0], value=[0.3, 0.1, 0.0])]
    other = trace([100.0, -50.0], value=[0.0, 0.0], role="other")
    found = kind().shape([*rows, other])
    tokens = np.concatenate([found[0].advantage_n, found[1].advantage_n])
    assert tokens.mean() == pytest.approx(0, abs=1e-9) and tokens.var() == pytest.approx(1, abs=1e-6)
    assert found[2].advantage_n.mean() == pytest.approx(0, abs=1e-9)
    assert [row.return_n.tolist() for row in found] == [
        row.return_n.tolist() for row in plain(kind).shape([*rows, other])
    ]


@pytest.mark.parametrize("n", range(2, 9))
def test_without_its_process_part_prime_is_leave_one_out(n: int, trace: Row) -> None:
    rewards = [float(i % 3) for i in range(n)]
    outcome = LeaveOneOut()([_group(rewards)])[0]
    estimator = plain(ImplicitProcess, process=0.0)
    rows = [trace([0.0, 0.0, reward], advantage=[value] * 3, process=[-1.0] * 3, reference=[-2.0, -1.0, -5.0])
            for reward, value in zip(rewards, outcome, strict=True)]  # fmt: skip
    for row, value in zip(estimator.shape(rows), outcome, strict=True):
        assert row.advantage_n.tolist() == pytest.approx([value] * 3)


def test_process_rewards_have_a_baseline_of_their_own(trace: Row) -> None:
    """r' = n / (n - 1) (r - mean of the turns' means), then summed from the end (PRIME, arXiv 2502.01456)."""
    a = trace([0.0, 0.0], process=[-1.0, -1.0], reference=[-3.0, -1.0])  # beta 0.5: 1, 0, mean 0.5
    b = trace([0.0], process=[-1.0], reference=[-2.0])  # 0.5, mean 0.5
    first, second = plain(ImplicitProcess, beta=0.5).shape([a, b])
    assert first.advantage_n.tolist() == pytest.approx([0.0, -1.0])
    assert second.advantage_n.tolist() == pytest.approx([0.0])


def test_process_rewards_of_different_groups_do_not_meet_and_a_lone_turn_has_none(trace: Row) -> None:
    one = trace([0.0, 0.0, 0.0], process=[5.0, 5.0, -5.0], reference=[0.0] * 3, turn=[0, 0, 1], group=[0, 0, 7])
    two = trace([0.0], process=[3.0], reference=[0.0])
    found = plain(ImplicitProcess, beta=1.0).shape([one, two])
    assert found[0].advantage_n.tolist() == pytest.approx([4.0, 2.0, 0.0])
    assert found[1].advantage_n.tolist() == pytest.approx([-2.0])


def test_what_an_estimator_needs_and_does_not_get_is_named(trace: Row) -> None:
    with pytest.raises(ValueError, match="value head"):
        Gae().shape([trace([1.0])])
    with pytest.raises(ValueError, match="reference"):
        ReturnToGo(ReturnToGo.Config(kl=0.1)).shape([trace([1.0])])
    with pytest.raises(ValueError, match="process model"):
        ImplicitProcess().shape([trace([1.0])])
    assert Gae(Gae.Config(kl=0.1)).needs == {"value", "reference"}


@pytest.mark.parametrize("name", ["value", "logprob", "reference"])
def test_a_number_that_is_not_finite_is_refused_by_place(name: str, trace: Row) -> None:
    """A NaN whitened over the step would reach every row (ms-swift and verl train on)."""
    good = trace([1.0, 0.0], value=[0.0, 0.0])
    bad = trace([1.0, 0.0], **({"value": [0.0, 0.0]} | {name: [0.0, float("nan")]}))
    with pytest.raises(ValueError, match=rf"row 1 of role 'role': {name}_n is not finite at trained token 1"):
        Gae().shape([good, bad])


@pytest.mark.parametrize("kind", [Gae, ReturnToGo, ImplicitProcess])
def test_no_rows_are_fine(kind: Any) -> None:
    assert kind().shape([]) == []


def _group(rewards: Sequence[float]) -> Group:
    from sparring.training.groups import Member, Place

    return Group.of("role", "node", "", [Member(Place(0, i), reward) for i, reward in enumerate(rewards)])
