"""Estimators per token: generalised advantages, returns to go, implicit process rewards. Arrays over sampled tokens.

Tool and context tokens are not in a trace, so an observation of any length changes no return.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from pydantic import Field

from sparring.scenarios.registry import advantages

from ..groups import Group
from .base import Floats, Options, Shaped, Trace, checked, whitened
from .group import leave_one_out


def returns_to_go(reward_n: Floats, gamma: float) -> Floats:
    """G_t = r_t + gamma G_{t+1} over (n,) rewards.

    >>> returns_to_go(np.array([0.0, 0.0, 1.0]), 0.5).tolist()
    [0.25, 0.5, 1.0]
    """
    if gamma == 1.0:
        return np.cumsum(reward_n[::-1])[::-1]
    found, after = np.zeros_like(reward_n), 0.0
    for at in range(len(reward_n) - 1, -1, -1):
        found[at] = after = reward_n[at] + gamma * after
    return found


def rewards_less_kl(trace: Trace, kl: float) -> Floats:
    """r_t - kl (log pi - log reference), the KL penalty in the reward; raises ``ValueError`` without a reference."""
    if not kl:
        return trace.reward_n
    if trace.kl_n is None:
        raise ValueError(f"role {trace.role!r}: kl: {kl:g} needs the reference's log-probs, and the row has none")
    return trace.reward_n - kl * trace.kl_n


def whiten_roles(traces: Sequence[Trace], rows: Sequence[Floats]) -> list[Floats]:
    """Rows whitened over all tokens of their role: mean 0, variance 1."""
    found = list(rows)
    for role in {trace.role for trace in traces}:
        at = [index for index, trace in enumerate(traces) if trace.role == role]
        parts = np.split(whitened(np.concatenate([rows[index] for index in at])), _ends([rows[i] for i in at]))
        for index, part in zip(at, parts, strict=True):
            found[index] = part
    return found


def _ends(rows: Sequence[Floats]) -> list[int]:
    return [int(end) for end in np.cumsum([len(row) for row in rows])[:-1]]


def finite(traces: Sequence[Trace]) -> None:
    """Raises ``ValueError`` naming the first trace with a number that is not finite."""
    for at, trace in enumerate(traces):
        for name in ("reward_n", "advantage_n", "logprob_n", "reference_n", "value_n", "process_n"):
            column = getattr(trace, name)
            if column is not None and not np.isfinite(column).all():
                raise ValueError(
                    f"row {at} of role {trace.role!r}: {name} is not finite at trained token "
                    f"{int(np.flatnonzero(~np.isfinite(column))[0])}; the step cannot be shaped"
                )


def _rewards(groups: Sequence[Group]) -> list[list[float]]:
    return [list(group.reward_G) for group in checked(groups)]


@advantages("gae")
class Gae:
    """Generalised advantages against a value head, over sampled tokens alone.

    Formula: sum of (gamma lam)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t
    Source: GAE, arXiv 1506.02438
    """

    class Config(Options):
        """``gamma`` discounts per token, ``lam`` trades bias (0) for variance (1).

        ``kl`` is the coefficient of the KL penalty in the reward. ``whiten``: mean 0, variance 1 over the role's
        tokens of the step; the returns a value head learns stay as they are.
        """

        gamma: float = Field(default=1.0, ge=0, le=1)
        lam: float = Field(default=0.95, ge=0, le=1)
        kl: float = Field(default=0.0, ge=0)
        whiten: bool = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.needs = frozenset({"value", "reference"} if self.config.kl else {"value"})

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The rewards themselves: what is compared with what is settled per token, against the value head."""
        return _rewards(groups)

    def shape(self, traces: Sequence[Trace]) -> list[Shaped]:
        """Advantages and returns (advantage before whitening + value); raises ``ValueError`` without values."""
        finite(traces)
        rows = [self._advantages(trace) for trace in traces]
        values = [trace.value_n for trace in traces]
        returns = [row + value for row, value in zip(rows, values, strict=True) if value is not None]
        if self.config.whiten and rows:
            rows = whiten_roles(traces, rows)
        return [Shaped(row, gain) for row, gain in zip(rows, returns, strict=True)]

    def _advantages(self, trace: Trace) -> Floats:
        if trace.value_n is None:
            raise ValueError(f"role {trace.role!r}: gae needs a value head's values, and the row has none")
        gamma = self.config.gamma
        after = np.append(trace.value_n[1:], 0.0)  # an episode's end is worth nothing
        delta = rewards_less_kl(trace, self.config.kl) + gamma * after - trace.value_n
        return returns_to_go(delta, gamma * self.config.lam)


@advantages("return_to_go")
class ReturnToGo:
    """Discounted rewards to come over sampled tokens, whitened over the role's tokens of the step.

    Formula: sum of gamma^k (r_{t+k} - kl (log pi - log reference)_{t+k})
    Source: REINFORCE++, arXiv 2501.03262
    """

    class Config(Options):
        """``gamma`` discounts per sampled token. ``kl`` is the coefficient of the KL penalty in the reward.

        ``whiten``: mean 0, variance 1 over the role's tokens of the step; without it there is no baseline at all.
        """

        gamma: float = Field(default=1.0, ge=0, le=1)
        kl: float = Field(default=0.0, ge=0)
        whiten: bool = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.needs = frozenset({"reference"} if self.config.kl else ())

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The rewards themselves: they are discounted and whitened per token."""
        return _rewards(groups)

    def shape(self, traces: Sequence[Trace]) -> list[Shaped]:
        """Returns to go, whitened if asked; also what a value head would learn."""
        finite(traces)
        rows = [returns_to_go(rewards_less_kl(trace, self.config.kl), self.config.gamma) for trace in traces]
        shown = whiten_roles(traces, rows) if self.config.whiten and rows else rows
        return [Shaped(row, gain) for row, gain in zip(shown, rows, strict=True)]


class Span(NamedTuple):
    """Tokens ``start`` to ``stop`` of a trace: one turn, compared in ``group``."""

    trace: int
    start: int
    stop: int
    group: int


@advantages("implicit_process")
class ImplicitProcess:
    """Process rewards from a model that learnt outcomes alone, beside the outcome itself.

    Formula: sum of later r'_s + RLOO of the outcome, r_t = beta log(phi / reference), r' = n / (n - 1) (r - mean)
    Source: PRIME, arXiv 2502.01456
    """

    class Config(Options):
        """``beta`` turns log-ratios into rewards; ``process`` and ``outcome`` weigh the two returns.

        ``gamma`` discounts per token. ``whiten``: mean 0, variance 1 over the role's tokens of the step. ``adapter`` is
        the one that a trainer ``implicit_reward`` makes into the process model.
        """

        adapter: str = Field(default="implicit_reward", min_length=1)
        beta: float = Field(default=0.05, ge=0)
        process: float = Field(default=1.0, ge=0)
        outcome: float = Field(default=1.0, ge=0)
        gamma: float = Field(default=1.0, ge=0, le=1)
        whiten: bool = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.needs = frozenset({"process", "reference"})
        self.adapter = self.config.adapter

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The outcome's part: R - mean of the others."""
        return [leave_one_out(group.reward_G) for group in checked(groups)]

    def shape(self, traces: Sequence[Trace]) -> list[Shaped]:
        """Advantages; raises ``ValueError`` when a row lacks process or reference log-probs, turns or groups.

        The process reward's baseline is, per group of n turns, the mean of the other turns' means over tokens:
        r' = n / (n - 1) (r - mean of the n means). The outcome's enters at each turn's last token.
        """
        finite(traces)
        spans = [span for at, trace in enumerate(traces) for span in _spans(at, trace)]
        rewards = _less_others([self._implicit(trace) for trace in traces], spans)
        for span in spans:
            outcome = self.config.outcome * traces[span.trace].advantage_n[span.stop - 1]
            rewards[span.trace][span.stop - 1] += outcome
        rows = [returns_to_go(row, self.config.gamma) for row in rewards]
        return [Shaped(row) for row in (whiten_roles(traces, rows) if self.config.whiten and rows else rows)]

    def _implicit(self, trace: Trace) -> Floats:
        if trace.process_n is None or trace.reference_n is None:
            raise ValueError(
                f"role {trace.role!r}: implicit_process needs log-probs of a process model and of the reference; add a "
                f"trainer that learns one"
            )
        return self.config.process * self.config.beta * (trace.process_n - trace.reference_n)


def _spans(at: int, trace: Trace) -> list[Span]:
    if trace.turn_n is None or trace.group_n is None:
        raise ValueError(f"row {at} of role {trace.role!r}: turn_n and group_n say which tokens belong together")
    if not len(trace.turn_n):
        return []
    edges = [0, *(np.flatnonzero(np.diff(trace.turn_n)) + 1).tolist(), len(trace.turn_n)]
    return [Span(at, start, stop, int(trace.group_n[start])) for start, stop in pairwise(edges)]


def _less_others(rows: Sequence[Floats], spans: Sequence[Span]) -> list[Floats]:
    """n / (n - 1) (r - mean of the group's n means over tokens); 0 for a group of one."""
    groups: defaultdict[int, list[Span]] = defaultdict(list)
    for span in spans:
        groups[span.group].append(span)
    found = [np.zeros_like(row) for row in rows]
    for members in groups.values():
        n = len(members)
        parts = [rows[span.trace][span.start : span.stop] for span in members]
        if n < 2:
            continue
        baseline = float(np.mean([part.mean() for part in parts]))
        for span, part in zip(members, parts, strict=True):
            found[span.trace][span.start : span.stop] = n / (n - 1) * (part - baseline)
    return found
