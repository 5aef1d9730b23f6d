"""A solver without a model: episodes of one task each, groups formed as a step would, answers to what stages want."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparring.envs.types import Ending, Episode, Score, Segment, Turn
from sparring.scenarios.schema import RoleSpec
from sparring.training.credit import form
from sparring.training.groups import Group
from sparring.training.stages.base import Stage
from sparring.training.stages.more import wanted

SPEC = RoleSpec(kind="plain", reward={"verifier": 1.0})


def make_attempts(rewards: Sequence[float], key: str = "t", index: int = 0, pick: int = 0) -> Episode:
    """An environment turn that sets task ``key`` and one solver turn per reward below it."""
    turns = [Turn(0, None, "set", "environment", "", task=key)]
    turns += [
        Turn(at, 0, "solve", "solver", "said", sample=at - 1, context=Segment("?", (1, 2)), token_ids=(5, 6),
             logprobs=(-1.0, -1.0), task=key)
        for at in range(1, len(rewards) + 1)
    ]  # fmt: skip
    scores = {at: (Score.valued("verifier", reward, "test"),) for at, reward in enumerate(rewards, 1)}
    return Episode(index, pick, {}, tuple(turns), (), scores, {}, {}, Ending.DONE)


def make_groups(episodes: Sequence[Episode]) -> list[Group]:
    """The solver's groups before any stage."""
    return form(episodes, "solver", SPEC)


class Player:
    """Answers wants with attempts that are right with the probability of their task; every pick sets new tasks."""

    def __init__(self, chances: Sequence[float], samples: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.samples, self.chances, self.made = samples, list(chances), 0
        self.episodes = [self.one(self.fresh(pick), pick) for pick in range(len(chances))]
        self.rounds = [len(self.episodes)]

    @property
    def first(self) -> int:
        return self.rounds[0]

    def fresh(self, pick: int) -> str:
        self.made += 1
        return f"{pick}:{self.made}"

    def one(self, key: str, pick: int) -> Episode:
        rewards = (self.rng.random(self.samples) < self.chances[pick]).astype(float).tolist()
        return make_attempts(rewards, key, len(getattr(self, "episodes", ())), pick)

    def play(self, stages: Sequence[Stage], limit: int = 50) -> int:
        """Rounds until nothing is wanted; fails when that takes more than ``limit``."""
        for round in range(limit):
            wants = wanted(stages, make_groups(self.episodes), self.episodes, round, self.first)
            if not wants:
                return round
            for want in wants:
                pick = self.episodes[want.episode].pick
                for _ in range(want.count):
                    key = want.task if want.kind == "again" else self.fresh(pick)
                    assert key is not None
                    self.episodes.append(self.one(key, pick))
            self.rounds.append(len(self.episodes))
        raise AssertionError("the rounds do not end")
