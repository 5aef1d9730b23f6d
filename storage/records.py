"""What one training step hands to the store: plain frozen records that the trainer fills.

Episodes, turns and scores come from ``sparring.envs.types``; here is what the trainer adds to them. No SQL here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparring.envs.types import Episode, Pick


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Turns whose rewards were compared with each other. ``index`` is unique within the step.

    ``scope`` says what was compared (siblings of one parent, the whole step, a baseline); ``mean`` and ``std`` are of
    the valued combined rewards; ``kept`` is false when a filter dropped the group, and ``note`` says why. ``trainer``
    names who compared them. ``pool_size``, ``pool_mean`` and ``pool_std`` are of everything drawn for the group before
    any stage touched it, ``None`` where no pool was kept.
    """

    index: int
    role: str
    node: str
    scope: str
    size: int
    mean: float | None = None
    std: float | None = None
    kept: bool = True
    note: str = ""
    trainer: str = "rl"
    pool_size: int | None = None
    pool_mean: float | None = None
    pool_std: float | None = None


@dataclass(frozen=True, slots=True)
class AdvantageRow:
    """How one turn pulled the policy, by one trainer: a step holds at most one row per turn and trainer.

    ``episode`` and ``turn`` are indices within the step and the episode; an ``episode`` of n or more, where the step
    played n, is number ``episode - n`` of its ``borrowed`` ones. ``reward`` is the combined reward (``None`` when not
    valued), ``value`` the advantage, ``weight`` the role's weight, ``pull`` the signed share of the role's gradient
    coefficient: ``value * weight * n_tokens / denominator``. ``tokens`` are per-token advantages where the estimator
    gives them, ``n_tokens`` of them, kept as float32. ``note`` says how the turn came in: empty when it was sampled
    for this group, else ``inserted``, ``demonstration`` and the like.
    """

    episode: int
    turn: int
    role: str
    group: int
    reward: float | None
    value: float
    weight: float
    n_tokens: int
    pull: float
    trainer: str = "rl"
    tokens: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One held-out figure: ``name`` (``accuracy``, ``pass@4``) over ``n`` tasks with these ``parameters``."""

    step: int
    name: str
    value: float
    n: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """A health figure that is past its limit in a step: its ``name``, ``value``, the ``bound`` and what it means."""

    name: str
    value: float
    bound: float
    note: str


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A whole checkpoint on disk: ``path``, SHA-256 of its manifest or weights, size in ``bytes``."""

    path: str
    sha: str
    bytes: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """Everything one optimiser step did; saved in one transaction or not at all.

    ``metrics`` may hold ``None`` or non-finite values. ``curriculum_state`` and ``state`` (baselines and the like,
    one JSON value per name) are as of the end of the step. ``policy_version`` and ``weights_sha`` name the weights
    after the update. ``checkpoint`` is ``None`` on steps that wrote none. ``seconds`` is wall time. ``borrowed`` are
    the database ids (``queries.stored_episodes``) of episodes of earlier steps, of any run, that this step used.
    ``alarms`` are the health alarms that are on.
    """

    step: int
    picks: tuple[Pick, ...] = ()
    episodes: tuple[Episode, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    advantages: tuple[AdvantageRow, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    policy_version: int = 0
    weights_sha: str = ""
    checkpoint: CheckpointRow | None = None
    curriculum_state: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[EvaluationRow, ...] = ()
    seconds: float = 0.0
    borrowed: tuple[int, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode with its database ``id`` and the number of the ``step`` that played it."""

    id: int
    step: int
    episode: Episode


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. ``id`` is the short human id (``r1``); ``status`` is running, stopped, done, failed, or killed.

    ``killed``: stored as running, but no living process holds the run's lock (``sparring.storage.locks``).
    """

    id: str
    name: str
    status: str
    digest: str
    seed: int
    started_at: str
    finished_at: str | None = None
    last_step: int | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run goes on. ``last_step`` is ``None`` and ``checkpoint`` too when the run must start from the beginning.

    Rows past ``last_step`` are gone once this was returned.
    """

    run: str
    scenario: Mapping[str, Any]
    last_step: int | None
    checkpoint: CheckpointRow | None
    curriculum_state: Mapping[str, Any]
    state: Mapping[str, Any]
    weights_sha: str
    policy_version: int
    seed: int
