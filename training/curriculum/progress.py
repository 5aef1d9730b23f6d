"""A teacher of continuous parameters that goes where rewards change most, up or down, whatever the learner is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sparring.envs.types import Pick

from .arms import ordered
from .base import Outcome, Wanted
from .grid import Bounds, Box
from .mixture import Mixture, best


class LearningProgress:
    """Absolute learning progress by Gaussian mixtures (ALP-GMM, arXiv 1910.07224), over a box of parameters.

    ALP of a task = |reward - reward of the nearest earlier task|, near in shares of the ranges. Every ``fit_every``
    tasks mixtures are fitted to (parameters, ALP) of as many newest tasks, and the one with the lowest AIC is kept. A
    pick comes from a component drawn in proportion to its mean ALP, moved into the box; or, with probability
    ``random`` and before the first fit, from anywhere in the box.
    """

    class Config(BaseModel):
        """``ranges`` names continuous parameters and the bounds of each; whole bounds make whole numbers.

        ``fit_every``: tasks between two fits, and newest tasks that each reads. ``components``: fewest and most that
        are tried. ``random``: share of picks from anywhere in the box, once there is a mixture. ``memory``: newest
        tasks among which the nearest is looked for. ``cells``: parts that each range is cut into for the names of arms,
        for figures and for evaluation; picks do not know them. ``role``: whose rewards are heard (all trained roles'
        when absent).
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        ranges: dict[str, Bounds] = Field(min_length=1)
        fit_every: int = Field(default=250, ge=10)
        components: tuple[int, int] = (2, 10)
        random: float = Field(default=0.2, ge=0, le=1)
        memory: int = Field(default=1000, ge=10)
        cells: int = Field(default=3, ge=1, le=100)
        role: str | None = None

        _ordered = field_validator("ranges")(ordered)

        @model_validator(mode="after")
        def _fits(self) -> LearningProgress.Config:
            fewest, most = self.components
            if not 1 <= fewest <= most:
                raise ValueError(f"components: [{fewest}, {most}] is no range; write the fewest and the most")
            if self.memory < self.fit_every:
                raise ValueError(f"memory: {self.memory} tasks cannot hold the {self.fit_every} of fit_every")
            return self

    def __init__(self, config: Config) -> None:
        self.settings, self.role = config, config.role
        self.box = Box(config.ranges, config.cells)
        self.tasks: list[list[float]] = []  # place in shares, then reward, then ALP
        self.seen = 0
        self.mixture: Mixture | None = None

    def propose(self, wanted: Wanted, rng: Generator) -> list[Pick]:
        """Each pick a point of its own."""
        picks = []
        for index in range(wanted.picks):
            place_D = np.clip(self._place(rng), 0.0, 1.0)
            share = wanted.episodes // wanted.picks + (index < wanted.episodes % wanted.picks)
            picks.append(Pick(self.box.cell(place_D), self.box.parameters(place_D), share))
        return picks

    def _place(self, rng: Generator) -> np.ndarray:
        if self.mixture is None or rng.random() < self.settings.random:
            return rng.random(len(self.box.axes))
        mean_KD = self.mixture.mean_KD
        alp_K = np.maximum(mean_KD[:, -1], 0.0)
        chance_K = alp_K / alp_K.sum() if alp_K.sum() > 0 else np.full(len(alp_K), 1 / len(alp_K))
        chosen = int(rng.choice(len(alp_K), p=chance_K))
        root = np.linalg.cholesky(self.mixture.covariance_KDD[chosen])
        drawn: np.ndarray = mean_KD[chosen] + root @ rng.standard_normal(len(root))
        return drawn[:-1]

    def observe(self, pick: Pick, outcome: Outcome) -> None:
        """A task and its reward; nothing valued teaches nothing. The first task has no progress."""
        if outcome.reward is None or not self.box.axes.keys() <= pick.parameters.keys():
            return
        place_D = self.box.place(pick.parameters)
        alp = 0.0
        if self.tasks:
            known_SD = np.array(self.tasks)
            apart_S = ((known_SD[:, :-2] - place_D) ** 2).sum(1)
            nearest = len(apart_S) - 1 - int(apart_S[::-1].argmin())  # the newest of several that are equally near
            alp = abs(outcome.reward - self.tasks[nearest][-2])
        self.tasks = [*self.tasks, [*place_D.tolist(), outcome.reward, alp]][-self.settings.memory :]
        self.seen += 1
        if self.seen % self.settings.fit_every == 0:
            known_SD = np.delete(np.array(self.tasks[-self.settings.fit_every :]), -2, axis=1)
            fewest, most = self.settings.components
            self.mixture = best(known_SD, range(fewest, most + 1))

    def weights(self) -> dict[str, float]:
        """Share of the newest ``fit_every`` tasks in each cell; equal shares before there are any."""
        newest = [self.box.cell(np.array(task[:-2])) for task in self.tasks[-self.settings.fit_every :]]
        counted = Counter(newest or list(self.box.cells))
        return {name: counted[name] / counted.total() for name in self.box.cells}

    def figures(self) -> dict[str, float]:
        """``alp``: mean of the newest tasks; ``components`` of the mixture; ``random``: share drawn from anywhere."""
        newest = [task[-1] for task in self.tasks[-self.settings.fit_every :]]
        return {
            "alp": sum(newest) / len(newest) if newest else 0.0,
            "components": float(len(self.mixture.weight_K)) if self.mixture is not None else 0.0,
            "random": self.settings.random if self.mixture is not None else 1.0,
        }

    def state_dict(self) -> dict[str, Any]:
        """The tasks that are remembered, how many there were, and the mixture in use."""
        mixture = None if self.mixture is None else self.mixture.to_json()
        return {"tasks": [list(task) for task in self.tasks], "seen": self.seen, "mixture": mixture}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore all three; tasks of another box are forgotten."""
        width = len(self.box.axes) + 2
        tasks = [[float(value) for value in task] for task in state.get("tasks", ())]
        if any(len(task) != width for task in tasks):
            return
        self.tasks, self.seen = tasks[-self.settings.memory :], int(state.get("seen", 0))
        mixture = state.get("mixture")
        self.mixture = None if mixture is None else Mixture.of_json(mixture)
