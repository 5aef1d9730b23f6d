"""Every registered environment keeps the contract; an environment that breaks a point is caught at that point."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest

from sparring.envs import check
from sparring.envs.base import Environment
from sparring.envs.check import check_environment, inspect_environment
from sparring.envs.echo import EchoEnvironment
from sparring.envs.points import POINTS
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ContractBroken, MissingExtra
from sparring.scenarios.registry import environments

Stepped = tuple[str, float, bool, bool, dict[str, Any]]
# What the best constant earns by nature, where that is more than a quarter: few possible answers.
BY_NATURE: dict[tuple[str, str], float] = {}
LONG = {"leduc", "mcp", "reasoning_gym", "textarena"}  # seconds each; of the others one way of using it is quick


def shipped() -> Iterator[Any]:
    """Every environment that comes with Sparring, in every way of using it; other tests register their own."""
    for point in sorted(entry_points(group="sparring.environment")):
        if not point.value.startswith("sparring."):
            continue
        try:
            kind = environments.get(point.name)
        except MissingExtra as missing:
            yield pytest.param(point.name, {}, marks=pytest.mark.skip(reason=str(missing)), id=point.name)
            continue
        ways = (*kind.examples, *({"mode": mode} for mode in modes_without_example(kind)))
        for number, options in enumerate(ways):
            marks = (pytest.mark.slow,) if number or point.name in LONG else ()
            name = "-".join([point.name, *map(str, options.values())])[:40]
            yield pytest.param(point.name, options, id=name, marks=marks)


def modes_without_example(kind: type[Environment]) -> list[str]:
    """The values of an environment's option ``mode`` that none of its examples has."""
    field = kind.Config.model_fields.get("mode")
    named = get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
    default = field.default if field is not None else None
    return [mode for mode in named if mode not in {example.get("mode", default) for example in kind.examples}]


@pytest.mark.parametrize(("name", "options"), list(shipped()))
def test_every_shipped_environment_keeps_the_contract(name: str, options: Mapping[str, Any]) -> None:
    try:
        environment = environments.get(name)(options)
    except MissingExtra as missing:
        pytest.skip(str(missing))  # an extra that is not installed: the message names it
    report = check_environment(environment, most=BY_NATURE.get((name, str(options.get("mode", ""))), 0.25), tasks=5)
    assert [finding.name for finding in report.findings] == list(POINTS)
    environment.close()


def test_options_do_not_break_it() -> None:
    assert check_environment(EchoEnvironment({"tries": 3})).broken == ()


class Unseeded(EchoEnvironment):
    def begin(self, task: Task) -> str:
        super().begin(task)
        return f"{task.payload['text']}{random.random()}"


class Generous(EchoEnvironment):
    def step(self, action: str) -> Stepped:
        return "right", 1.0, True, False, {"scores": [Score.valued("verifier", 1.0, by="generous")]}


class Sharing(EchoEnvironment):
    shared = 0

    def step(self, action: str) -> Stepped:
        Sharing.shared += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return f"{observation} {Sharing.shared}", reward, terminated, truncated, info


class HashOrdered(EchoEnvironment):
    def begin(self, task: Task) -> str:
        super().begin(task)
        return " ".join({"red", "green", "blue", "black", "white"})


class Constant(EchoEnvironment):
    def sample(self, parameters: Any, rng: Any) -> Task:
        return Task("echo", {"text": "a"}, {"reference": "a"})


class Numeric(EchoEnvironment):
    def begin(self, task: Task) -> str:
        super().begin(task)
        return 3  # type: ignore[return-value]  # what is to be found


class Guess(Environment):
    """Sound, with a secret: say the word that belongs to a number."""

    words: ClassVar[tuple[str, ...]] = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven")

    def sample(self, parameters: Mapping[str, Any], rng: Any) -> Task:
        number = int(rng.integers(10**6))
        return Task(
            "guess", {"text": f"number {number}"}, {"reference": self.words[number % 8] + self.words[number // 8 % 8]}
        )

    def begin(self, task: Task) -> str:
        return str(task.payload["text"])

    @property
    def reference(self) -> str:
        assert self.task is not None
        return str(self.task.secret["reference"])

    def oracle(self) -> str | None:
        return self.reference

    def step(self, action: str) -> Stepped:
        right = action.strip() == self.reference
        return "over", float(right), True, False, {"scores": [Score.valued("verifier", right, by="guess")]}


class Crashes(Guess):
    def step(self, action: str) -> Stepped:
        action.encode()
        return super().step(action)


class CrashesOnDigits(Guess):
    def step(self, action: str) -> Stepped:
        if action.isdigit():
            int(action)
        return super().step(action)


class Endless(Guess):
    def step(self, action: str) -> Stepped:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


class NanReward(Guess):
    def step(self, action: str) -> Stepped:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, math.nan, terminated, truncated, info


class InfiniteScore(Guess):
    def step(self, action: str) -> Stepped:
        scores = [Score.valued("verifier", 0.0, by="guess"), Score.valued("speed", math.inf, by="guess")]
        return "over", 0.0, True, False, {"scores": scores}


class Leaks(Guess):
    def begin(self, task: Task) -> str:
        return f"(answer: {task.secret['reference']}) {task.payload['text']}"


class LeaksInPayload(Guess):
    def sample(self, parameters: Mapping[str, Any], rng: Any) -> Task:
        task = super().sample(parameters, rng)
        return Task("guess", {**task.payload, "solution": task.secret["reference"]}, task.secret)


class LeaksLater(Guess):
    def begin(self, task: Task) -> str:
        self.turns = 0
        return super().begin(task)

    def step(self, action: str) -> Stepped:
        self.turns += 1
        _, reward, terminated, _, info = super().step(action)
        return f"it was {self.reference}", reward, terminated and self.turns > 2, False, info


class Passed(Guess):
    """The first seat is told the word and passes it on; ``loud``: the second is told it too."""

    seats = ("teller", "finder")
    loud = False

    def begin(self, task: Task) -> str:
        self.clue = ""
        return f"pass on: {task.secret['reference']}"

    @property
    def addressee(self) -> str | None:
        return "finder" if self.clue else "teller"

    def oracle(self) -> str | None:
        return self.clue[::-1] if self.clue else self.reference[::-1]

    def step(self, action: str) -> Stepped:
        if not self.clue and action and self.reference not in action:
            self.clue = action
            return f"find: {self.reference if self.loud else action}", 0.0, False, False, {"scores": {}}
        right = bool(self.clue) and action == self.reference
        score = Score.valued("verifier", right, by="passed")
        return "over", float(right), True, False, {"scores": {seat: [score] for seat in self.seats}}


class PassedAloud(Passed):
    loud = True


class WrongOracle(Guess):
    def oracle(self) -> str | None:
        return "amberbirch"


class DeadOracle(Guess):
    def oracle(self) -> str | None:
        raise RuntimeError("the oracle is away")


class Moody(Guess):
    def step(self, action: str) -> Stepped:
        return "over", 0.0, True, False, {"scores": [Score.valued("verifier", random.random() / 9, by="moody")]}


class OneAnswer(Guess):
    words = ("amber",) * 8


class Silent(Guess):
    def step(self, action: str) -> Stepped:
        return "over", 0.0, True, False, {"scores": [Score.invalid("verifier", by="guess", note="service away")]}


@pytest.mark.parametrize(
    ("broken", "point", "says"),
    [
        (Unseeded, "same seed, same episode", "np_random"),
        (Generous, "verifier refuses junk", "earned 1.0"),
        (Sharing, "instances do not disturb each other", "stepped in turn"),
        (HashOrdered, "same after a restart", "new process"),
        (Constant, "other seed, other task", "1 different"),
        (Numeric, "gymnasium", "observation"),
        (Crashes, "any text is taken", "UnicodeEncodeError"),
        (CrashesOnDigits, "any text is taken", "ValueError"),
        (Endless, "episodes end", "neither terminated nor truncated"),
        (NanReward, "numbers are finite", "the reward is nan"),
        (InfiniteScore, "numbers are finite", "speed is inf"),
        (Leaks, "secrets stay hidden", "'reference'"),
        (LeaksInPayload, "secrets stay hidden", "'reference'"),
        (LeaksLater, "secrets stay hidden", "'reference'"),
        (PassedAloud, "secrets stay hidden", "'reference'"),
        (WrongOracle, "oracle earns the full mark", "'amberbirch' earned 0"),
        (DeadOracle, "oracle earns the full mark", "the oracle is away"),
        (Moody, "verifier says the same twice", "earned"),
        (OneAnswer, "verifier resists cheap answers", "'amberamber' earns 1.000"),
        (Generous, "verifier resists cheap answers", "earns 1.000"),
        (Silent, "verifier resists cheap answers", "no score could be used"),
    ],
)
def test_a_broken_environment_is_caught(
    broken: type[Environment], point: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if point != "same after a restart":  # which starts a process, most of the time that a check takes
        others = {name: look for name, look in POINTS.items() if name != "same after a restart"}
        monkeypatch.setattr(check, "POINTS", others)
    found = {finding.name: finding.detail for finding in inspect_environment(broken).broken}
    assert point in found and says in found[point], found


def test_a_sound_environment_is_not() -> None:
    report = check_environment(Guess)
    assert report.audit is not None and report.audit.oracle == 1.0
    assert [finding.name for finding in report.findings if finding.kept is None] == ["snapshot and restore"]


def test_a_seat_may_be_told_what_another_has_to_find() -> None:
    report = check_environment(Passed)
    assert next(point for point in report.findings if point.name == "secrets stay hidden").kept


def test_every_broken_point_is_in_the_one_error() -> None:
    class Twice(Leaks):
        words = ("amber",) * 8

    with pytest.raises(ContractBroken, match=r"(?s)environment Twice .*secrets stay hidden: .*cheap answers: "):
        check_environment(Twice)


def test_a_limit_that_fits_the_nature_of_the_answers_is_accepted() -> None:
    class Coin(Guess):
        words = ("heads", "heads", "heads", "heads", "tails", "tails", "tails", "tails")

    assert check_environment(Coin, most=0.5).audit is not None
    assert "0.1 is allowed" in inspect_environment(Coin, most=0.1).broken[-1].detail


def test_a_snapshot_that_forgets_is_caught() -> None:
    class Counting(EchoEnvironment):
        def step(self, action: str) -> Stepped:
            observation, reward, _, truncated, info = super().step(action)
            return f"{observation} {self.used}", reward, self.used > 2, truncated, info

        def state(self) -> object:
            return 0

        def set_state(self, state: Any) -> None:
            return

    assert "snapshot and restore" in {finding.name for finding in inspect_environment(Counting).broken}


def test_an_environment_that_raises_is_reported_not_raised() -> None:
    class Raising(EchoEnvironment):
        def step(self, action: str) -> Stepped:
            raise ZeroDivisionError("inside step")

    assert any("inside step" in finding.detail for finding in inspect_environment(Raising).broken)


def test_a_step_that_waits_for_ever_ends_the_check() -> None:
    free = threading.Event()

    class Waiting(Guess):
        def step(self, action: str) -> Stepped:
            free.wait(60)
            return super().step(action)

    report = inspect_environment(Waiting, patience_s=0.2)
    free.set()
    assert [finding.name for finding in report.broken] == ["gymnasium"]
    assert all("not looked at" in finding.detail for finding in report.findings[1:])


def test_a_game_without_absolute_scores_says_so_and_keeps_the_rest() -> None:
    class Game(Guess):
        unaudited = "what a move earns depends on the opponent"

    report = check_environment(Game)
    assert [finding.detail for finding in report.findings if finding.name.startswith("verifier resists")] == [
        Game.unaudited
    ]
