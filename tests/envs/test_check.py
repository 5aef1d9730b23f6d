"""Every registered environment keeps the contract; an environment that breaks a point is caught at that point."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sparring.envs.base import Environment
from sparring.envs.check import check_environment, inspect_environment
from sparring.envs.code.env import CodeEnvironment
from sparring.envs.echo import EchoEnvironment
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.registry import environments


@pytest.mark.parametrize("name", environments.names())
def test_registered_environments_keep_the_contract(name: str) -> None:
    report = check_environment(environments.get(name))
    assert len(report.findings) == 7 and all(finding.kept for finding in report.findings)


@pytest.mark.parametrize("environment", [EchoEnvironment({"tries": 3}), CodeEnvironment({"tries": 1})])
def test_options_do_not_break_it(environment: Environment) -> None:
    assert check_environment(environment).broken == ()


class Unseeded(EchoEnvironment):
    def begin(self, task: Task) -> str:
        super().begin(task)
        return f"{task.payload['text']}{random.random()}"


class Generous(EchoEnvironment):
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "right", 1.0, True, False, {"scores": [Score.valued("verifier", 1.0, by="generous")]}


class Sharing(EchoEnvironment):
    shared = 0

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        Sharing.shared += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return f"{observation} {Sharing.shared}", reward, terminated, truncated, info


class Forgetful(EchoEnvironment):
    def state(self) -> object:
        return 0


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
        return 3  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("broken", "point"),
    [
        (Unseeded, "same seed, same episode"),
        (Generous, "verifier refuses junk"),
        (Sharing, "instances do not disturb each other"),
        (HashOrdered, "same after a restart"),
        (Constant, "other seed, other task"),
        (Numeric, "gymnasium"),
    ],
)
def test_a_broken_environment_is_caught(broken: type[Environment], point: str) -> None:
    with pytest.raises(ContractBroken, match=point):
        check_environment(broken)


def test_a_snapshot_that_forgets_is_caught() -> None:
    class Counting(Forgetful):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            observation, reward, _, truncated, info = super().step(action)
            return f"{observation} {self.used}", reward, self.used > 2, truncated, info

        def set_state(self, state: Any) -> None:
            return

    names = {finding.name for finding in inspect_environment(Counting).broken}
    assert "snapshot and restore" in names


def test_an_environment_that_raises_is_reported_not_raised() -> None:
    class Raising(EchoEnvironment):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            raise ZeroDivisionError("inside step")

    assert any("inside step" in finding.detail for finding in inspect_environment(Raising).broken)
