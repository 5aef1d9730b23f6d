"""Environments of the verifiers library that the tests load by ``module:function``."""

from __future__ import annotations

import random
import time
from typing import Any

import verifiers as vf
from datasets import Dataset


def sums(count: int = 10, judge: str = "") -> Any:
    """Single turn: add two numbers. ``judge`` says how the rubric fails."""
    rows = [
        {"prompt": [{"role": "user", "content": f"{a} + {a + 1}?"}], "answer": str(2 * a + 1)} for a in range(count)
    ]

    async def right(completion: Any, answer: str) -> float:
        if judge == "raises":
            raise OSError("no judge")
        if judge == "hangs":
            time.sleep(60)
        return float("nan") if judge == "nan" else float(answer == str(completion[-1].content).strip())

    def short(completion: Any) -> float:
        return float(len(str(completion[-1].content)) < 5)

    rubric = vf.Rubric(funcs=[right, short], weights=[1.0, 0.5])
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=rubric, system_prompt="Add.")


def fruit() -> Any:
    """Tools: what fruit costs."""

    prices = {"apple": 3, "pear": 4, "plum": 1, "melon": 9, "fig": 2, "peach": 5, "quince": 7, "date": 6}

    def price(name: str) -> int:
        """Price of a fruit."""
        return prices[name]

    rows = [{"question": f"Cost of one {name}?", "answer": str(cost)} for name, cost in prices.items()]

    def right(completion: Any, answer: str) -> float:
        return float(str(completion[-1].content).strip() == answer)

    return vf.ToolEnv(dataset=Dataset.from_list(rows), tools=[price], rubric=vf.Rubric(funcs=[right]), max_turns=5)


class Guess(vf.MultiTurnEnv):  # type: ignore[misc]  # the library has no stubs
    """Guess a number with hints; draws from the global generator, as foreign code does."""

    async def setup_state(self, state: Any) -> Any:
        state["number"] = random.randint(0, 9)
        return state

    async def env_response(self, messages: Any, state: Any, **more: Any) -> Any:
        said = str(messages[-1].content).strip()
        number = int(said) if said.isdigit() else -1
        state["found"] = number == state["number"]
        hint = "right" if state["found"] else "more" if number < state["number"] else "less"
        reply = [{"role": "user", "content": f"{hint} {random.randint(0, 99)}"}]
        if state["found"]:
            state["final_env_response"] = reply
        return reply


def guess() -> Any:
    """Multi-turn."""

    def found(state: Any) -> float:
        return float(bool(state.get("found")))

    rows = [{"question": f"Round {i}: guess.", "answer": ""} for i in range(10)]
    return Guess(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[found]), max_turns=12)
