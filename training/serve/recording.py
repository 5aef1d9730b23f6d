"""Recorded episodes: opened for clients under keys of their own, stored whole as the steps of a run.

Episodes that were opened together are compared with each other, so they are one step, stored once all have ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from sparring.envs.types import Pick, Task
from sparring.scenarios.seeds import derive
from sparring.storage.records import StepRecord
from sparring.storage.store import Store
from sparring.training.course import info
from sparring.training.summary import summarise

from .recorded import Recorded
from .refusals import Refusal
from .served import Served

PREFIX = "episode-"  # what an episode's key begins with
MOST = 4096  # episodes that are open at once
LOST = "it was not ended before the server stopped"
ARM = "recorded"


class Opening(BaseModel):
    """What ``POST /episodes`` says: ``count`` episodes on one task, to be compared with each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: dict[str, Any] | None = None
    role: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    count: int = Field(default=1, ge=1, le=1024)


class Ended(BaseModel):
    """What ``POST /episodes/KEY/end`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scores: dict[str, FiniteFloat | None] | list[dict[str, FiniteFloat | None] | None] = Field(default_factory=dict)
    error: str = Field(default="", max_length=2000)


@dataclass
class Together:
    """Episodes that are stored as one step."""

    picks: tuple[Pick, ...]
    episodes: list[Recorded]

    @property
    def waiting(self) -> int:
        """How many have not ended."""
        return sum(not episode.ended for episode in self.episodes)


@dataclass
class Recorder:
    """The episodes that are open, and the run they are stored in, which begins with the first that is stored."""

    served: Served
    store: Store
    command: str = ""
    run: str = ""
    step: int = 0
    opened: int = 0
    stored: int = 0
    forks: int = 0
    closed: bool = False
    _of: dict[str, Together] = field(default_factory=dict, repr=False)  # by key, until they are stored
    _told: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # by key, of those that are
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _shas: dict[int, str] = field(default_factory=dict, repr=False)

    def open(self, asked: Sequence[Opening]) -> list[Recorded]:
        """Episodes under new keys. Raises ``Refusal`` for a role the scenario does not have."""
        if len(self._of) + sum(one.count for one in asked) > MOST:
            raise Refusal(429, f"{MOST} episodes are open at most; end some first")
        made: list[Recorded] = []
        for pick, one in enumerate(asked):
            role, task = self.role(one.role), self._task(one)
            for _ in range(one.count):
                seed = derive(self.served.seed, "recorded", self.opened)
                self.opened += 1
                key = PREFIX + secrets.token_urlsafe(24)
                made.append(
                    Recorded(
                        key=key, role=role, index=len(made), pick=pick, parameters=one.parameters, task=task, seed=seed
                    )
                )
        picks = tuple(Pick(ARM, one.parameters, one.count) for one in asked)
        together = Together(picks, made)
        self._of |= {episode.key: together for episode in made}
        return made

    def role(self, name: str | None) -> str:
        """A role of the scenario that the policy plays: ``name``, else the first that is trained."""
        known = self.served.roles
        if name is None:
            name = next((role for role, spec in known.items() if spec.trainable), next(iter(known), None))
        if name not in known:
            raise Refusal(400, f"role {name!r} is not played here; known are {', '.join(known) or 'none'}", "role")
        return str(name)

    def find(self, key: str) -> Recorded:
        """The episode under this key. Raises ``Refusal`` where there is none."""
        together = self._of.get(key)
        if together is None:
            ended = "it has ended" if key in self._told else "no episode is open under this key"
            raise Refusal(401, f"{ended}; open one with POST /episodes")
        return next(episode for episode in together.episodes if episode.key == key)

    async def end(self, key: str, told: Ended) -> dict[str, Any]:
        """End an episode, and store it with those it was opened with once it is the last of them.

        Asked again, it says the same again; where storing failed, it is tried again.
        """
        if key not in self._told:
            episode = self.find(key)
            if not episode.ended:
                episode.end(told.scores, told.error)
            async with self._writing:
                together = self._of.get(key)  # another may have stored it meanwhile
                if together is not None:
                    if together.waiting:
                        return _answer(episode, None, together.waiting)
                    names = await asyncio.to_thread(self._save, together)
                    self._told |= _answers(together, names)
                    self._note(together)
        return self._told[key]

    def figures(self) -> dict[str, Any]:
        """What has been recorded so far."""
        return {"run": self.run or None, "open": len(self._of), "stored": self.stored, "forks": self.forks}

    def close(self) -> list[str]:
        """Store what is open, as broken where it was not ended; what has no turn is dropped. Lines that say so.

        A second time there is nothing left to do.
        """
        lines, dropped = [], 0
        for together in {id(one): one for one in self._of.values()}.values():
            if any(episode.book.turns for episode in together.episodes):
                lost, names = together.waiting, self._save(together)
                self._note(together)
                if lost:
                    lines.append(f"{', '.join(names)}: {lost} not ended, stored as broken")
            else:
                dropped += len(together.episodes)
        if dropped:
            lines.append(f"episodes without a turn that were not ended, and are dropped: {dropped}")
        self._of.clear()
        if self.run and not self.closed:
            self.store.finish_run(self.run, "done")
            lines.append(f"{self.stored} episodes are in run {self.run}, {self.forks} forks")
        self.closed = True
        return lines

    def _task(self, one: Opening) -> Task | None:
        if one.task is None:
            return None
        return Task(self.served.scenario.environment.kind, one.task, parameters=one.parameters, origin=ARM)

    def _save(self, together: Together) -> list[str]:
        """One transaction: the step with all its episodes, or none of it. Their public ids."""
        served, scenario = self.served, self.served.scenario
        if not self.run:
            about = info(self.command, recorded=served.about)
            self.run = self.store.start_run(
                scenario.name, scenario.resolved(), scenario.digest, scenario.seed, about
            ).id
        episodes = tuple(episode.frozen(LOST) for episode in together.episodes)
        version = served.version
        forks = float(sum(episode.forks for episode in together.episodes))
        record = StepRecord(
            step=self.step + 1,
            picks=together.picks,
            episodes=episodes,
            metrics=summarise(episodes) | {"forks": forks},
            policy_version=version,
            weights_sha=self._shas.setdefault(version, served.weights_sha),
            seconds=max(episode.seconds for episode in episodes),
        )
        self.store.save_step(self.run, record)
        return [f"{self.run}/{record.step}/{episode.index}" for episode in episodes]

    def _note(self, together: Together) -> None:
        """They are stored."""
        self.step += 1
        self.stored += len(together.episodes)
        self.forks += sum(episode.forks for episode in together.episodes)
        for episode in together.episodes:
            del self._of[episode.key]


def _answer(episode: Recorded, name: str | None, waiting: int = 0) -> dict[str, Any]:
    """What whoever ends an episode is told; ``waiting`` others keep it from being stored."""
    return {"episode": name, "turns": len(episode.book.turns), "forks": episode.forks, "waiting": waiting}


def _answers(together: Together, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {one.key: _answer(one, name) for one, name in zip(together.episodes, names, strict=True)}
