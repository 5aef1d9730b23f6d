"""An opponent from the run's own past: a role that is not trained speaks with the policy as stored some steps ago."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sparring.agents.engine import Completion, Request
from sparring.scenarios.errors import EngineError
from sparring.scenarios.registry import engines
from sparring.scenarios.seeds import derive

if TYPE_CHECKING:
    from sparring.training.model import Model
    from sparring.training.policy import Policy

    from .embedded import TransformersEngine

Folder = Callable[[int], Path]
"""Where the checkpoint of a step lies."""


@engines("past")
class PastEngine:
    """Past selves: each episode is played by a version of the policy that its own seed draws.

    The present policy answers through the run's engine; stored versions are read from the run's checkpoints into one
    copy of the model, which so costs its memory twice. Turns carry the version that spoke. Until a first version is
    stored the present policy plays alone.
    Source: fictitious self-play, Heinrich et al. 2015; opponents from past checkpoints, arXiv 1912.06680.
    """

    class Config(BaseModel):
        """``every``: a version is stored after so many steps each time; the newest ``keep`` of them play.

        ``current``: share of episodes that the present policy plays.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        every: int = Field(default=20, ge=1)
        keep: int = Field(default=5, ge=1, le=100)
        current: float = Field(default=0.5, ge=0, le=1)

    name = "past"
    truncates = False

    def __init__(self, config: Config, policy: Policy | None = None, present: Any = None) -> None:
        """``present`` is the engine that serves the policy as it is; its ``policy_version`` says which step that is.

        ``folder`` must be set before it speaks. Raises ``EngineError`` without a running policy, and for one with
        adapters: checkpoints hold no whole model then.
        """
        from sparring.training.lora import Adapters

        if policy is None or present is None:
            raise EngineError("engine 'past' is for a role beside the policy: set it under roles.NAME.engine")
        if Adapters.of(policy.model) is not None:
            raise EngineError("engine 'past' reads whole models from checkpoints; it does not go with policy.lora")
        self.config, self.policy, self.present = config, policy, present
        self.folder: Folder | None = None
        self._loaded: int | None = None
        self._model: Model | None = None
        self._engine: TransformersEngine | None = None

    @classmethod
    def beside(cls, config: Config, policy: Policy, present: Any) -> PastEngine:
        """The engine of a role that plays against the policy ``present`` serves."""
        return cls(config, policy, present)

    def versions(self, step: int) -> list[int]:
        """The steps whose policies play once ``step`` is whole: their checkpoints must be kept."""
        every = self.config.every
        return list(range(every, step + 1, every))[-self.config.keep :]

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        drawn: defaultdict[int | None, list[int]] = defaultdict(list)
        versions = self.versions(int(self.present.policy_version))
        for at, request in enumerate(requests):
            drawn[self._draw(request, versions)].append(at)
        found: dict[int, Completion] = {}
        for version in sorted(drawn, key=lambda one: (one is not None, one != self._loaded, one or 0)):
            asked = [requests[at] for at in drawn[version]]
            done = await self.present.generate(asked) if version is None else self._of(version).sample(asked)
            found |= dict(zip(drawn[version], done, strict=True))
        return [found[at] for at in range(len(requests))]

    def _draw(self, request: Request, versions: Sequence[int]) -> int | None:
        """The version that answers; ``None`` for the present policy."""
        own = request.episode or request.seed  # one version for a whole game
        rng = np.random.Generator(np.random.Philox(derive(own, "version")))
        if not versions or rng.random() < self.config.current:
            return None
        return versions[int(rng.integers(len(versions)))]

    def _of(self, version: int) -> TransformersEngine:
        """The engine over the copy, with the weights of ``version`` in it."""
        from sparring.training.checkpoint import read_weights
        from sparring.training.model import Model

        from .embedded import TransformersEngine

        if self._model is None or self._engine is None:
            module = copy.deepcopy(self.policy.model).requires_grad_(False)
            self._model, self._engine = Model(module), TransformersEngine(module, self.policy.renderer.stop_ids)
        if self.folder is None:
            raise EngineError("engine 'past' was not told where the run's checkpoints lie")
        if version != self._loaded:
            self._loaded = None  # a read that fails halfway leaves neither version
            read_weights(self.folder(version), self._model)
            self._loaded = version
        self._engine.policy_version = version
        return self._engine
