"""What a step's trainers make of it together: records of turns whose credit was spread over their tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.envs.types import Episode
from sparring.scenarios.schema import RoleSpec
from sparring.storage.records import AdvantageRow
from sparring.training.advantages.tokens import Gae, ReturnToGo
from sparring.training.losses.presets import ReinforcePlusPlus
from sparring.training.pack import pack
from sparring.training.plan import with_tokens
from sparring.training.rows import ADVANTAGE, VALUE, Row, Span
from sparring.training.shape import shaped

numbers = st.floats(-3, 3, width=32)
turns = st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 2)), min_size=1, max_size=3)


def record(turn: int, value: float, weight: float, n_tokens: int, pull: float = 0.0) -> AdvantageRow:
    return AdvantageRow(0, turn, "solver", 0, value, value, weight, n_tokens, pull)


def test_a_turn_of_reward_0_pulls_by_what_its_tokens_got() -> None:
    """Generalised advantages of a turn that earned 0 are not 0: the value head expected something."""
    row = Row("solver", [7, 8, 9], [0.0, 0.25, 0.25], {ADVANTAGE: [0.0] * 3, VALUE: [0.0, 0.5, 0.25]}, loss="rl",
              spans=(Span(0, 1, 1, 3),))  # fmt: skip
    spread = shaped([row], {"rl": Gae(Gae.Config(whiten=False, lam=0.0))})  # (0.25 - 0.5, 0 - 0.25)
    [found] = with_tokens([record(1, 0.0, 1.0, 2)], spread, {"rl": None})
    assert found.tokens == (-0.25, -0.25) and found.value == -0.25
    assert found.pull == pytest.approx(-0.125)


@given(turns, st.data())
def test_pull_is_the_sum_of_coefficient_times_advantage(said: list[tuple[int, float]], data: st.DataObject) -> None:
    ids, share, value, spans, records = [1], [0.0], [0.0], list[Span](), list[AdvantageRow]()
    for turn, (n, weight) in enumerate(said):
        spans.append(Span(0, turn, len(ids), len(ids) + n))
        ids, share = [*ids, *range(n)], [*share, *[weight / n] * n]
        value += data.draw(st.lists(numbers, min_size=n, max_size=n))
        records.append(record(turn, data.draw(st.sampled_from([0.0, 0.5])), weight, n, 0.5))
    row = Row("solver", ids, share, {ADVANTAGE: value}, loss="rl", spans=tuple(spans))
    found = with_tokens(records, [row], {"rl": None})
    whole = sum(one * other for one, other in zip(share, value, strict=True))
    assert sum(one.pull for one in found) == pytest.approx(whole, abs=1e-6)
    for one, span in zip(found, spans, strict=True):
        assert one.tokens == tuple(value[span.start : span.stop])


def test_spread_evenly_the_pull_is_what_it_was_before(episode: Callable[..., Episode]) -> None:
    roles = {"solver": RoleSpec.model_validate({"kind": "plain", "reward": ["r"]})}
    played = episode([{"author": "solver", "tokens": 3}, {"author": "solver", "parent": 0, "tokens": 2}], {})
    records = [record(0, 0.75, 1.0, 3), record(1, 0.75, 1.0, 2)]
    loss = ReinforcePlusPlus()
    packed = pack([played], records, roles, {"policy": loss}, shaped={"policy"})
    rows = [replace(row, loss="rl") for row in packed.rows]
    found = with_tokens(packed.advantages, rows, {"rl": ReturnToGo()})
    assert [one.pull for one in found] == pytest.approx([one.pull for one in packed.advantages])
    assert with_tokens(packed.advantages, rows, {}) == list(packed.advantages)
