"""The canary: after weights are put into an engine it says a few tokens that the trainer scores too.

Rollouts from the wrong weights raise no error anywhere; a gap between two log-probs of one token shows them at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sparring.agents.engine import Completion, Message, Renderer, Request, Serving
from sparring.envs.types import Finish
from sparring.scenarios.errors import TrainingStopped
from sparring.scenarios.schema import CanarySpec, Sampling
from sparring.scenarios.seeds import derive

from .probabilities import Asked, token_logprobs
from .summary import Figures

if TYPE_CHECKING:
    from .published import Published

# the same every time: an engine that kept the keys and values of older weights for them is caught
QUESTIONS = (
    "What is 17 + 25?",
    "Name three things that the word 'bank' may mean.",
    "def area(w, h):\n    return w * h\n\nWhat does area(3, 4) return?",
    'Ein Satz, ein "Zitat" und 98.6 %: continue.',
)
EXACT, ROUNDED = 1e-4, 0.1  # nats; two float32 routes differ by 1e-6, 16-bit ones by 0.03
SHOWN = 5


@dataclass(frozen=True)
class Heard:
    """One token of a probe as the engine and the trainer scored it, in nats."""

    adapter: str
    token: int
    engine: float
    trainer: float

    @property
    def gap(self) -> float:
        """How far apart the two are; a log-prob that is not there is infinitely far."""
        gap = abs(self.engine - self.trainer)
        return gap if gap == gap else float("inf")


@dataclass(frozen=True)
class Canary:
    """Compares an engine with the policy it should serve. ``folder`` is where the evidence of a failure goes."""

    spec: CanarySpec
    renderer: Renderer
    seed: int

    async def check(self, engine: Serving, weights: Published, version: int, folder: Path) -> Figures:
        """``canary/gap``, the mean, and ``canary/worst``, in nats. Raises ``TrainingStopped`` above the limit, or when
        the engine speaks as another version than ``version``."""
        if not self.spec.every or version % self.spec.every:
            return {}
        requests = self._requests(weights.adapters or ("",), version)
        spoken = await engine.generate(requests)
        limit = self.spec.most or _limit(weights.module)
        heard = _heard(weights.module, requests, spoken)
        found: Figures = {
            "canary/gap": fmean(one.gap for one in heard) if heard else None,
            "canary/worst": max((one.gap for one in heard), default=None),
        }
        problem = _problem(spoken, version) or _gaps(heard, limit)
        if problem:
            path = _keep(folder / f"canary-v{version:06d}.json", requests, spoken, heard, problem)
            raise TrainingStopped(
                f"the engine does not serve policy version {version}: {problem}. Nothing was trained on what it said "
                f"since; every token is in {path}. Earlier steps are safe: mend the engine and go on with "
                "'sparring resume'"
            )
        return found

    def _requests(self, adapters: Sequence[str], version: int) -> list[Request]:
        each = max(1, self.spec.tokens // len(QUESTIONS))
        sampling = Sampling(max_tokens=each)
        asked = []
        for adapter in adapters:
            for number, question in enumerate(QUESTIONS):
                messages = (Message("user", question),)
                ids = self.renderer.open(messages).token_ids
                seed = derive(self.seed, "canary", version, adapter, number)
                asked.append(Request(ids, sampling, seed, "canary", adapter, messages=messages))
        return asked


def _heard(module: Any, requests: Sequence[Request], spoken: Sequence[Completion]) -> list[Heard]:
    pairs = [(asked, said) for asked, said in zip(requests, spoken, strict=True) if said.token_ids]
    scored = token_logprobs(module, [Asked("", one.prompt_ids, said.token_ids, one.adapter) for one, said in pairs])
    return [
        Heard(asked.adapter, token, mine, theirs)
        for (asked, said), values in zip(pairs, scored, strict=True)
        for token, mine, theirs in zip(said.token_ids, said.logprobs, values, strict=True)
    ]


def _problem(spoken: Sequence[Completion], version: int) -> str:
    lost = next((said for said in spoken if said.finish is Finish.ABORT), None)
    if lost is not None:
        return f"it could not be asked ({lost.error})"
    other = next((said for said in spoken if said.policy_version != version or said.spans), None)
    if other is None:
        return ""
    return f"it says that version {other.policy_version} is speaking, so new weights or their number did not arrive"


def _gaps(heard: Sequence[Heard], limit: float) -> str:
    """By adapter, so that one which did not arrive is not diluted by those that did."""
    for adapter in dict.fromkeys(one.adapter for one in heard):
        mine = [one for one in heard if one.adapter == adapter]
        mean = fmean(one.gap for one in mine)
        if mean > limit:
            worst = sorted(mine, key=lambda one: one.gap, reverse=True)[:SHOWN]
            shown = "; ".join(f"token {one.token}: {one.engine:.4f} there, {one.trainer:.4f} here" for one in worst)
            named = f"with adapter {adapter!r} " if adapter else ""
            return (
                f"{named}its log-probs differ from the trainer's by {mean:.2g} nats on the average of {len(mine)} "
                f"tokens (canary.most is {limit:g}); the worst are {shown}"
            )
    return ""


def _limit(module: Any) -> float:
    return EXACT if next(module.parameters()).dtype.itemsize >= 4 else ROUNDED


def _keep(
    path: Path, requests: Sequence[Request], spoken: Sequence[Completion], heard: Sequence[Heard], problem: str
) -> Path:
    """Write the evidence: what was asked, what was said, and both scores of every token."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [
        {
            "adapter": asked.adapter,
            "prompt_ids": asked.prompt_ids,
            "token_ids": said.token_ids,
            "engine": said.logprobs,
            "policy_version": said.policy_version,
            "finish": said.finish,
            "error": said.error,
        }
        for asked, said in zip(requests, spoken, strict=True)
    ]
    trainer = [[one.adapter, one.token, one.engine, one.trainer] for one in heard]
    path.write_text(json.dumps({"problem": problem, "probes": told, "tokens": trainer}, indent=1))
    return path
