"""Schedules: exact at their ends, bounded and monotone between, allowed where a number may change, kept by a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import from_resolved
from sparring.scenarios.registry import losses
from sparring.scenarios.schedule import KINDS, Now, Schedule
from sparring.scenarios.schema import Scenario

Small = Callable[..., Scenario]
LR = "training.optimizer.lr"
numbers = st.floats(-1e6, 1e6, allow_nan=False)
places = st.lists(st.floats(-2, 3), min_size=2, max_size=20).map(sorted)


@losses("toy-schedules")
class ToyLoss:
    """Stands for a loss with options of every form; no formula, no source."""

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        high: float = Field(default=0.2, gt=0, le=1)
        kl: float | None = None
        passes: int = 3
        heads: int = Field(default=1, json_schema_extra={"fixed": "the heads are built once"})
        many: dict[str, float] = Field(default_factory=dict)
        pair: tuple[float, float] = (0.0, 1.0)


def curve(kind: str, **form: Any) -> Any:
    """One curve, its keys as in YAML."""
    return KINDS[kind].model_validate({key.rstrip("_"): value for key, value in form.items()})


def at(scenario: Scenario, step: int, steps: int = 100, **more: Any) -> Scenario:
    """The scenario at one step."""
    return scenario.at(Now(step, steps, **more))


@given(kind=st.sampled_from(["linear", "cosine", "exponential"]), start=numbers, stop=numbers, over=st.floats(0.01, 2))
def test_a_ramp_has_its_ends_exactly_and_stays_there(kind: str, start: float, stop: float, over: float) -> None:
    more = {"rate": 4.0} if kind == "exponential" else {}
    ramp = curve(kind, from_=start, to=stop, over=over, after=0.25, **more)
    assert [ramp.value(x) for x in (-1.0, 0.0, 0.25)] == [start] * 3
    assert [ramp.value(x) for x in (0.25 + over + 1e-9, 9.0)] == [stop] * 2


SHAPES = st.sampled_from(
    [
        ("linear", {}), ("linear", {"after": 0.5, "over": 0.1}), ("cosine", {}), ("cosine", {"over": 0.3}),
        ("exponential", {"rate": 4.0}), ("exponential", {"rate": 0.01}), ("exponential", {"rate": 1.0}),
        ("sigmoid", {}), ("sigmoid", {"centre": 0.2, "steepness": 125}), ("sigmoid", {"steepness": 1e300}),
    ]
)  # fmt: skip


@given(shape=SHAPES, start=numbers, stop=numbers, places=places)
def test_curves_from_one_number_to_another_are_monotone_and_bounded(
    shape: tuple[str, dict[str, float]], start: float, stop: float, places: list[float]
) -> None:
    values = [curve(shape[0], from_=start, to=stop, **shape[1]).value(x) for x in places]
    assert all(min(start, stop) <= value <= max(start, stop) for value in values)
    slack = 1e-12 * (abs(start) + abs(stop))  # a wave's rounding
    assert all((b - a) * (stop - start) >= -slack * abs(stop - start) for a, b in pairwise(values))


@given(start=st.floats(1e-9, 1e3), stop=st.floats(1e-9, 1e3), share=st.floats(0, 1))
def test_exponential_without_a_rate_multiplies_by_one_factor(start: float, stop: float, share: float) -> None:
    value = curve("exponential", from_=start, to=stop).value(share)
    assert math.isclose(value, start * (stop / start) ** share, rel_tol=1e-6)


def test_exponential_with_rate_4_is_zerosearchs_noise() -> None:
    noise = curve("exponential", from_=0.25, to=0.75, rate=4)
    assert noise.value(0.5) == pytest.approx(0.25 + (4**0.5 - 1) / (4 - 1) * 0.5)


def test_sigmoid_is_ruscarls_decay() -> None:
    decay = curve("sigmoid", from_=1, to=0, centre=0.2, steepness=125)
    assert decay.value(0.2) == 0.5
    assert decay.value(0.21) == pytest.approx(1 / (1 + math.exp(125 * 0.01)))
    assert decay.value(0.0) == pytest.approx(1.0, abs=1e-10) and decay.value(1.0) == pytest.approx(0.0, abs=1e-40)


@given(start=numbers, stop=numbers, period=st.floats(0.01, 5), x=st.floats(0, 3))
def test_cyclic_comes_back_every_period(start: float, stop: float, period: float, x: float) -> None:
    wave = curve("cyclic", from_=start, to=stop, period=period)
    assert min(start, stop) <= wave.value(x) <= max(start, stop)
    assert wave.value(0.0) == start and wave.value(period / 2) == stop
    assert wave.value(x + period) == pytest.approx(wave.value(x), abs=1e-8 * (1 + abs(start) + abs(stop)))


@given(levels=st.dictionaries(st.integers(-50, 50), numbers, min_size=1), step=st.integers(-60, 60))
def test_steps_hold_the_number_of_the_greatest_key_reached(levels: dict[int, float], step: int) -> None:
    reached = [key for key in levels if key <= step] or [min(levels)]
    assert curve("steps", **{str(key): level for key, level in levels.items()}).value(step) == levels[max(reached)]


@given(seen=st.lists(st.floats(-5, 5), max_size=30), gain=st.floats(-3, 3))
def test_a_controller_integrates_and_stays_inside_its_bounds(seen: list[float], gain: float) -> None:
    rule = {"metric": "entropy", "target": 0.4, "gain": gain, "from": 0.05, "low": 0.0, "high": 0.1}
    schedule, expected = Schedule("controller", curve("controller", **rule)), 0.05
    state: dict[str, Any] = {}
    for step, value in enumerate(seen, 1):
        moment = Now(step, 30, {"entropy": value}, state)
        expected = min(0.1, max(0.0, expected + gain * (value - 0.4)))
        assert schedule.at(moment, ("a",)) == schedule.at(moment, ("a",)) == expected  # asking twice moves once
        state = json.loads(json.dumps(state))  # what a resume brings back


@pytest.mark.parametrize("nothing", [{}, {"entropy": None}, {"entropy": math.nan}, {"entropy": math.inf}])
def test_a_controller_without_news_holds(nothing: dict[str, Any]) -> None:
    rule = curve("controller", metric="entropy", target=0, gain=1, from_=0.5, low=0, high=9)
    state: dict[str, Any] = {}
    assert rule.moved(Now(1, 9, {"entropy": 1.0}, state), "a") == 1.5
    assert rule.moved(Now(2, 9, nothing, state), "a") == 1.5


def test_a_metric_without_news_keeps_its_last_value() -> None:
    ramp = curve("linear", from_=1, to=0, of="accuracy", after=0.5, over=0.5)
    state: dict[str, Any] = {}
    values = [ramp.moved(Now(i, 9, {"accuracy": seen}, state), "a") for i, seen in enumerate([None, 0.75, None, 2.0])]
    assert values == [1, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("written", "read", "expected"),
    [
        ("roles.solver.weight={steps: {0: 1.0, 20: 0.1}}", lambda s: s.roles["solver"].weight, [1.0, 0.1, 0.1]),
        ("roles.solver.reward={verifier: {linear: {from: 1, to: 0}}}",
         lambda s: s.roles["solver"].reward["verifier"], [1.0, 0.5, 0.0]),
        ("roles.solver.sampling.temperature={linear: {from: 1.5, to: 0.5, over: 0.5}}",
         lambda s: s.roles["solver"].sampling.temperature, [1.5, 0.5, 0.5]),
        ("roles.solver.sampling.max_tokens={linear: {from: 10, to: 21}}",
         lambda s: s.roles["solver"].sampling.max_tokens, [10, 16, 21]),
        (f"{LR}={{cosine: {{from: 1e-3, to: 1e-5, over: 0.5}}}}",
         lambda s: s.training.optimizer.lr, [1e-3, 1e-5, 1e-5]),
        ("training.optimizer.betas=[0.9, {linear: {from: 0.5, to: 0.9}}]",
         lambda s: s.training.optimizer.betas[1], [0.5, 0.7, 0.9]),
        ("training.trainers={rl: {weight: {linear: {from: 0, to: 1}}}}",
         lambda s: s.training.trainers["rl"].weight, [0.0, 0.5, 1.0]),
        ("training.loss={kind: toy-schedules, high: {linear: {from: 0.25, to: 0.75}}}",
         lambda s: s.training.loss.options["high"], [0.25, 0.5, 0.75]),
        ("training.loss={kind: toy-schedules, kl: {constant: 0.5}}",
         lambda s: s.training.loss.options["kl"], [0.5, 0.5, 0.5]),
        ("training.loss={kind: toy-schedules, many: {a: {linear: {of: step, from: 0, to: 5, over: 5}}, b: 2}}",
         lambda s: 10 * s.training.loss.options["many"]["a"] + s.training.loss.options["many"]["b"], [2, 52, 52]),
        ("training.trainers={rl: {loss: {kind: toy-schedules, high: {linear: {from: 0.25, to: 0.75}}}}}",
         lambda s: s.training.trainers["rl"].options["loss"]["high"], [0.25, 0.5, 0.75]),
        ("training.loss={kind: toy-schedules, pair: [0, {linear: {from: 2, to: 4}}]}",
         lambda s: s.training.loss.options["pair"][1], [2, 3, 4]),
        ("group={stages: [{kind: band, low: {linear: {from: 0, to: 0.5}}}]}",
         lambda s: s.group.stages[0].options["low"], [0, 0.25, 0.5]),
        ("curriculum={kind: sec, arms: {depth: [1, 2]}, rate: {linear: {from: 0.5, to: 0.1}}}",
         lambda s: s.curriculum.options["rate"], [0.5, 0.3, 0.1]),
        ("training.loss={kind: toy-schedules, passes: {steps: {0: 1, 50: 2}}}",
         lambda s: s.training.loss.options["passes"], [1, 2, 2]),
    ],
)  # fmt: skip
def test_numbers_of_every_place_move(small: Small, written: str, read: Any, expected: list[Any]) -> None:
    scenario = small(overrides=(written,))
    assert [read(at(scenario, step)) for step in (0, 50, 100)] == pytest.approx(expected)


def test_a_scenario_without_schedules_is_every_moment_itself(small: Small) -> None:
    scenario = small()
    assert at(scenario, 3) is scenario and scenario.scheduled == ()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{LR}={{linear: {{from: 1, to: -0.1}}}}", f"{LR}: found -0.1; at least 0.0 is needed (its schedule goes"),
        (f"{LR}={{cosin: {{from: 1, to: 0}}}}", f"{LR}: unknown schedule 'cosin'; did you mean 'cosine'?"),
        (f"{LR}={{linear: {{from: 1, to: 0, ovr: 1}}}}", f"{LR}.linear.ovr: unknown key 'ovr'; did you mean 'over'"),
        (f"{LR}={{linear: {{from: 1}}}}", f"{LR}.linear.to: is required and missing"),
        (f"{LR}={{linear: {{from: 1, to: x}}}}", f"{LR}.linear.to: found 'x'; a number is needed"),
        (f"{LR}={{linear: {{from: 1, to: 0}}, of: step}}", "a number, or one of constant, linear"),
        (f"{LR}={{}}", "a number, or one of constant, linear"),
        (f"{LR}={{linear: {{from: 1, to: 0, of: step}}}}", "over: is needed, how much of step"),
        (f"{LR}={{linear: {{from: 1, to: 0, after: 1}}}}", "over: is needed"),
        (f"{LR}={{exponential: {{from: 1, to: 0}}}}", "rate: is needed unless"),
        (f"{LR}={{linear: {{from: -1.7e308, to: 1.7e308}}}}", "too far apart"),
        (f"{LR}={{constant: {{a: 1}}}}", f"{LR}.constant: a number is needed"),
        (f"{LR}={{constant: -1}}", f"{LR}: found -1.0; at least 0.0 is needed"),
        (f"{LR}={{steps: {{0: 1, x: 2}}}}", "every key but of: is a number"),
        (f"{LR}={{steps: {{0: 1, 0.0: 2}}}}", "a key is there twice"),
        (f"{LR}={{steps: {{0: yes}}}}", "found 'yes'; a number is needed"),
        (f"{LR}={{steps: {{}}}}", "is empty"),
        (f"{LR}={{controller: {{metric: a, target: 0, gain: 1, from: 2, low: 0, high: 1}}}}", "low <= from <= high"),
        (f"{LR}={{controller: {{metric: step, target: 0, gain: 1, from: 0, low: 0, high: 1}}}}", "is no metric"),
        (f"{LR}=0", f"{LR}: found 0; more than 0 is needed"),
        ("roles.solver.sampling.temperature={linear: {from: 1, to: 0}}", "nothing to compare"),
        ("roles.solver.sampling.max_tokens={linear: {from: 5, to: 0}}", "max_tokens: found 0; at least 1"),
        ("training.loss={kind: toy-schedules, high: {linear: {from: 0.1, to: 2}}}", "loss.high: found 2.0; at most 1"),
        ("training.loss={kind: toy-schedules, heads: {constant: 2}}", "the heads are built once; numbers that can: a"),
        ("training.loss={kind: toy-schedules, hihg: {constant: 2}}", "option of 'toy-schedules' 'hihg'; did you mean"),
        ("rollout={picks: {steps: {0: 1, 9: 8}}, episodes: 4}", "picks: 8 decisions cannot share episodes: 4"),
        ("seed={constant: 1}", "seed: cannot follow a schedule: one seed names every random number"),
        ("training.steps={constant: 1}", "training.steps: cannot follow a schedule: schedules are measured by it"),
        ("rollout.workers={constant: 1}", "rollout.workers: cannot follow a schedule: it is read once"),
        ("training.optimizer.warmup={constant: 1}", "is a schedule itself"),
        ("evaluation.temperature={constant: 1}", "are compared with each other"),
        ("budget.minutes={constant: 1}", "budget.minutes: cannot follow a schedule"),
        ("graph.nodes.solve.samples={constant: 1}", "the graph is compiled once"),
        ("training.trainers={rl: {every: {constant: 1}}}", "it says when the trainer runs"),
        ("name={constant: 1}", "name: found {'constant': 1}; text is needed"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_told_in_one_line(small: Small, override: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        small(overrides=(override,))
    told = str(caught.value)
    assert words in told and told.startswith(f"-s {override.partition('=')[0]}") and "\n" not in told, told


def test_a_wrong_schedule_is_told_with_its_line(small: Small) -> None:
    with pytest.raises(ScenarioError, match=r"^small.yaml:4: roles.solver.weight: found -2.0; at least 0"):
        small(("[verifier]}", "[verifier], weight: {linear: {from: 1, to: -2}}}"))


def test_names_that_look_like_schedules_stay_names(small: Small) -> None:
    scenario = small(("critic: {prompt", "linear: {kind: critic, prompt"), ("role: critic", "role: linear"))
    assert scenario.scheduled == () and list(scenario.roles) == ["solver", "linear"]
    assert small(overrides=("training={steps: 3}",)).training.steps == 3


FORMS = st.one_of(
    st.builds(lambda a: {"constant": a}, st.floats(0.01, 1)),
    st.builds(lambda k, a, b, o: {k: {"from": a, "to": b, "over": o}},
              st.sampled_from(["linear", "cosine", "exponential"]),
              st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.1, 1)),
    st.builds(lambda a, b, p: {"cyclic": {"from": a, "to": b, "period": p}}, st.floats(0.01, 1), st.floats(0.01, 1),
              st.floats(0.1, 1)),
    st.builds(lambda a, b, c: {"sigmoid": {"from": a, "to": b, "centre": c}}, st.floats(0.01, 1), st.floats(0.01, 1),
              st.floats(-1, 2)),
    st.dictionaries(st.floats(0, 99).map(repr), st.floats(0.01, 1), min_size=1).map(lambda levels: {"steps": levels}),
    st.builds(lambda a, g: {"controller": {"metric": "m", "target": 1, "gain": g, "from": a, "low": 0, "high": 1}},
              st.floats(0, 1), st.floats(-9, 9)),
)  # fmt: skip


@given(form=FORMS, steps=st.integers(1, 50))
def test_schedules_survive_being_stored(small: Small, form: dict[str, Any], steps: int) -> None:
    assume(len({float(key) for key in form.get("steps", {})}) == len(form.get("steps", {})))
    scenario = small(overrides=(f"{LR}={json.dumps(form)}",))
    again = from_resolved(json.loads(json.dumps(scenario.resolved(), allow_nan=False)))
    assert again == scenario and again.digest == scenario.digest and again.scheduled == scenario.scheduled
    shape = from_resolved(scenario.resolved(), checked=False)
    assert shape.resolved() == scenario.resolved()
    for step in range(1, steps + 1):
        now, later = (at(one, step, steps, metrics={"m": 0.5}) for one in (scenario, again))
        assert now.training.optimizer.lr == later.training.optimizer.lr
        assert now.digest == scenario.digest and now.resolved() == scenario.resolved()


def test_a_schedule_makes_another_scenario(small: Small) -> None:
    digests = {small(overrides=(f"{LR}={form}",)).digest for form in (
        "1e-3", "{constant: 1e-3}", "{linear: {from: 1e-3, to: 1e-4}}", "{linear: {from: 1e-3, to: 0}}",
    )}  # fmt: skip
    assert len(digests) == 4
