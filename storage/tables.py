"""The typed models of every table. Integer primary keys; natural unique keys; every foreign key is enforced.

Inside an episode rows point at turns by (episode_id, number): the natural key is the foreign key, so rows read well and
no second index is needed. Deleting a step deletes all it made. ``docs/database.md`` tells what the columns mean.
"""

from __future__ import annotations

from typing import Annotated, Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sparring.envs.types import Span

from .columns import Figures, Json, Logprobs, Real, Spans, TokenAdvantages, Tokens, Whole, Words


class Base(DeclarativeBase):
    """Registry of the models; a ``str`` column takes any text, a ``float`` any number, an ``int`` 64 bits."""

    type_annotation_map = {str: Words, float: Real, int: Whole}  # noqa: RUF012 - SQLAlchemy's documented form


Key = Annotated[int, mapped_column(primary_key=True, autoincrement=False)]
RunId = Annotated[int, mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))]
StepId = Annotated[int, mapped_column(ForeignKey("steps.id", ondelete="CASCADE"))]
EpisodeId = Annotated[int, mapped_column(ForeignKey("episodes.id", ondelete="CASCADE"))]
TurnId = Annotated[int, mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))]
JsonText = Annotated[Any, mapped_column(Json)]


def _turn(column: str) -> ForeignKeyConstraint:
    """A turn of the same episode; checked at commit, because a tree is written in one go."""
    return ForeignKeyConstraint(
        ["episode_id", column], ["turns.episode_id", "turns.number"], deferrable=True, initially="DEFERRED"
    )


class Scenarios(Base):
    """Resolved scenarios, one row per content."""

    __tablename__ = "scenarios"
    id: Mapped[Key]
    digest: Mapped[str] = mapped_column(unique=True)
    resolved: Mapped[JsonText]


class Runs(Base):
    """One training run; its human id is ``r`` and ``id``."""

    __tablename__ = "runs"
    id: Mapped[Key]
    scenario_id: Mapped[int] = mapped_column(ForeignKey("scenarios.id"))
    name: Mapped[str]
    seed: Mapped[int]
    status: Mapped[str]
    info: Mapped[JsonText]
    started_at: Mapped[str]
    finished_at: Mapped[str | None]
    __table_args__ = (Index("ix_runs_scenario_id", "scenario_id"),)


class Steps(Base):
    """One optimiser update. All a step made is deleted with it; ``hash`` covers its rows but not its episodes."""

    __tablename__ = "steps"
    id: Mapped[Key]
    run_id: Mapped[RunId]
    number: Mapped[int]
    policy_version: Mapped[int]
    metrics: Mapped[dict[str, float | None]] = mapped_column(Figures)
    curriculum_state: Mapped[JsonText]
    seconds: Mapped[float]
    saved_at: Mapped[str]
    hash: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("run_id", "number"),
        ForeignKeyConstraint(
            ["run_id", "policy_version"],
            ["policy_versions.run_id", "policy_versions.number"],
            deferrable=True,
            initially="DEFERRED",
        ),
        Index("ix_steps_policy_version", "run_id", "policy_version"),
    )


class PolicyVersions(Base):
    """The weights a turn was sampled from or a step made; ``step_id`` is the step that first named it."""

    __tablename__ = "policy_versions"
    id: Mapped[Key]
    run_id: Mapped[RunId]
    number: Mapped[int]
    weights_sha: Mapped[str]
    step_id: Mapped[StepId]
    __table_args__ = (UniqueConstraint("run_id", "number"), Index("ix_policy_versions_step_id", "step_id"))


class Checkpoints(Base):
    """A whole checkpoint on disk, written with its step."""

    __tablename__ = "checkpoints"
    id: Mapped[Key]
    step_id: Mapped[StepId] = mapped_column(unique=True)
    path: Mapped[str]
    sha: Mapped[str]
    bytes: Mapped[int]


class CurriculumEvents(Base):
    """One curriculum decision of a step: how many episodes, with which parameters, from which arm."""

    __tablename__ = "curriculum_events"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    arm: Mapped[str]
    parameters: Mapped[JsonText]
    count: Mapped[int]
    __table_args__ = (UniqueConstraint("step_id", "number"),)


class States(Base):
    """Other trainer state (baselines and the like) as of the end of a step; old ones are pruned."""

    __tablename__ = "states"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    name: Mapped[str]
    value: Mapped[JsonText]
    __table_args__ = (UniqueConstraint("step_id", "name"),)


class Episodes(Base):
    """One run of the graph; ``pick`` is the curriculum event it came from, ``thinned`` when its tokens were dropped."""

    __tablename__ = "episodes"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    pick: Mapped[int]
    parameters: Mapped[JsonText]
    ending: Mapped[str]
    error: Mapped[str]
    reward: Mapped[float | None]
    seconds: Mapped[float]
    hash: Mapped[str]
    thinned: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("step_id", "number"),
        ForeignKeyConstraint(
            ["step_id", "pick"],
            ["curriculum_events.step_id", "curriculum_events.number"],
            deferrable=True,
            initially="DEFERRED",
        ),
    )


class Tasks(Base):
    """A task that arose in an episode; ``origin_turn`` proposed it, ``parent_id`` is the task it was made from."""

    __tablename__ = "tasks"
    id: Mapped[Key]
    run_id: Mapped[RunId]
    episode_id: Mapped[EpisodeId]
    number: Mapped[int]
    key: Mapped[str]
    environment: Mapped[str]
    summary: Mapped[str]
    payload: Mapped[JsonText]
    secret: Mapped[JsonText]
    parameters: Mapped[JsonText]
    skills: Mapped[JsonText]
    origin: Mapped[str]
    origin_turn: Mapped[int | None]
    operator: Mapped[str | None]
    parent_key: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id", deferrable=True, initially="DEFERRED"))
    __table_args__ = (
        UniqueConstraint("episode_id", "number"),
        _turn("origin_turn"),
        Index("ix_tasks_run_key", "run_id", "key"),
        Index("ix_tasks_parent_id", "parent_id"),
    )


class Segments(Base):
    """Context text and its tokens, stored once per run whoever reads it; ``step_id`` is the first step that did."""

    __tablename__ = "segments"
    id: Mapped[Key]
    run_id: Mapped[RunId]
    step_id: Mapped[StepId]
    key: Mapped[str]
    text_hash: Mapped[bytes]
    text: Mapped[str]
    token_ids: Mapped[tuple[int, ...]] = mapped_column(Tokens, nullable=True)
    n_tokens: Mapped[int]
    __table_args__ = (UniqueConstraint("run_id", "key", "text_hash"), Index("ix_segments_step_id", "step_id"))


class Turns(Base):
    """One message; ``parent``, ``follows`` number turns and ``task`` a task of the same episode."""

    __tablename__ = "turns"
    id: Mapped[Key]
    episode_id: Mapped[EpisodeId]
    number: Mapped[int]
    parent: Mapped[int | None]
    follows: Mapped[int | None]
    node: Mapped[str]
    author: Mapped[str]
    sample: Mapped[int]
    said: Mapped[str]
    n_tokens: Mapped[int]
    token_ids: Mapped[tuple[int, ...]] = mapped_column(Tokens, nullable=True)
    logprobs: Mapped[tuple[float, ...]] = mapped_column(Logprobs, nullable=True)
    finish: Mapped[str | None]
    engine: Mapped[str]
    seed: Mapped[int]
    parsed_kind: Mapped[str | None]
    parsed_value: Mapped[JsonText] = mapped_column(Json, nullable=True)
    parsed_problem: Mapped[str | None]
    task: Mapped[int | None]
    task_key: Mapped[str | None]
    policy_version_id: Mapped[int] = mapped_column(ForeignKey("policy_versions.id"))
    context_id: Mapped[int | None] = mapped_column(ForeignKey("segments.id", deferrable=True, initially="DEFERRED"))
    train_context_id: Mapped[int | None] = mapped_column(
        ForeignKey("segments.id", deferrable=True, initially="DEFERRED")
    )
    addressee: Mapped[str | None]
    spans: Mapped[tuple[Span, ...]] = mapped_column(Spans, nullable=True)
    __table_args__ = (
        UniqueConstraint("episode_id", "number"),
        _turn("parent"),
        _turn("follows"),
        ForeignKeyConstraint(
            ["episode_id", "task"], ["tasks.episode_id", "tasks.number"], deferrable=True, initially="DEFERRED"
        ),
        Index("ix_turns_policy_version_id", "policy_version_id"),
        Index("ix_turns_context_id", "context_id"),
        Index("ix_turns_train_context_id", "train_context_id"),
    )


class Refusals(Base):
    """Why the environment refused the proposal of this turn."""

    __tablename__ = "refusals"
    id: Mapped[Key]
    turn_id: Mapped[TurnId] = mapped_column(unique=True)
    reason: Mapped[str]
    detail: Mapped[str]


class Rubrics(Base):
    """The rubric filed under a turn of an episode; ``author`` is the turn that wrote it."""

    __tablename__ = "rubrics"
    id: Mapped[Key]
    episode_id: Mapped[EpisodeId]
    turn: Mapped[int]
    author: Mapped[int | None]
    version: Mapped[int]
    provenance: Mapped[str]
    __table_args__ = (UniqueConstraint("episode_id", "turn"), _turn("turn"), _turn("author"))


class Criteria(Base):
    """One row of a rubric."""

    __tablename__ = "criteria"
    id: Mapped[Key]
    rubric_id: Mapped[int] = mapped_column(ForeignKey("rubrics.id", ondelete="CASCADE"))
    number: Mapped[int]
    text: Mapped[str]
    points: Mapped[float]
    kind: Mapped[str]
    checker: Mapped[str]
    __table_args__ = (UniqueConstraint("rubric_id", "number"),)


class Scores(Base):
    """One reward component of one turn."""

    __tablename__ = "scores"
    id: Mapped[Key]
    turn_id: Mapped[TurnId]
    number: Mapped[int]
    name: Mapped[str]
    value: Mapped[float | None]
    validity: Mapped[str]
    by: Mapped[str]
    note: Mapped[str]
    __table_args__ = (UniqueConstraint("turn_id", "number"),)


class CriterionScores(Base):
    """What one criterion gave one turn, as part of a score. ``criterion_id`` is NULL when no stored rubric holds it."""

    __tablename__ = "criterion_scores"
    id: Mapped[Key]
    score_id: Mapped[int] = mapped_column(ForeignKey("scores.id", ondelete="CASCADE"))
    number: Mapped[int]
    criterion_id: Mapped[int | None] = mapped_column(ForeignKey("criteria.id", deferrable=True, initially="DEFERRED"))
    rubric_turn: Mapped[int | None]
    criterion: Mapped[int]
    share: Mapped[float | None]
    validity: Mapped[str]
    by: Mapped[str]
    quote: Mapped[str]
    __table_args__ = (UniqueConstraint("score_id", "number"), Index("ix_criterion_scores_criterion_id", "criterion_id"))


class Borrowed(Base):
    """An episode stored by an earlier step, of any run, that this step used. It cannot be deleted while used."""

    __tablename__ = "borrowed"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    episode_id: Mapped[int] = mapped_column(ForeignKey("episodes.id", deferrable=True, initially="DEFERRED"))
    __table_args__ = (UniqueConstraint("step_id", "number"), UniqueConstraint("episode_id", "step_id"))


class Groups(Base):
    """Turns whose rewards were compared with each other; ``pool_*`` are of everything drawn before a stage chose."""

    __tablename__ = "groups"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    trainer: Mapped[str] = mapped_column(server_default="rl")
    role: Mapped[str]
    node: Mapped[str]
    scope: Mapped[str]
    size: Mapped[int]
    mean: Mapped[float | None]
    std: Mapped[float | None]
    kept: Mapped[bool]
    note: Mapped[str]
    pool_size: Mapped[int | None]
    pool_mean: Mapped[float | None]
    pool_std: Mapped[float | None]
    __table_args__ = (UniqueConstraint("step_id", "number"),)


class Advantages(Base):
    """How one turn pulled the policy in this step by one trainer; ``group`` is the number of its group.

    The turn may be a borrowed one: deleting its own step is then refused, not passed on to this row.
    """

    __tablename__ = "advantages"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", deferrable=True, initially="DEFERRED"))
    trainer: Mapped[str] = mapped_column(server_default="rl")
    group: Mapped[int]
    role: Mapped[str]
    reward: Mapped[float | None]
    value: Mapped[float]
    weight: Mapped[float]
    n_tokens: Mapped[int]
    pull: Mapped[float]
    tokens: Mapped[tuple[float, ...]] = mapped_column(TokenAdvantages, nullable=True)
    note: Mapped[str] = mapped_column(server_default="")
    __table_args__ = (
        UniqueConstraint("turn_id", "step_id", "trainer"),
        ForeignKeyConstraint(
            ["step_id", "group"], ["groups.step_id", "groups.number"], deferrable=True, initially="DEFERRED"
        ),
        Index("ix_advantages_step_group", "step_id", "group"),
    )


class Evaluations(Base):
    """One held-out figure, saved with a step; ``at_step`` is the step whose weights were measured."""

    __tablename__ = "evaluations"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    at_step: Mapped[int]
    name: Mapped[str]
    value: Mapped[float]
    n: Mapped[int]
    parameters: Mapped[JsonText]
    temperature: Mapped[float]
    __table_args__ = (UniqueConstraint("step_id", "number"),)


class Alarms(Base):
    """A health figure of a step that went past its limit."""

    __tablename__ = "alarms"
    id: Mapped[Key]
    step_id: Mapped[StepId]
    number: Mapped[int]
    name: Mapped[str]
    value: Mapped[float]
    bound: Mapped[float]
    note: Mapped[str]
    __table_args__ = (UniqueConstraint("step_id", "number"),)


class Rescores(Base):
    """Stored turns of a run scored once more, by another verifier or rubric; the scores they were trained with stay."""

    __tablename__ = "rescores"
    id: Mapped[Key]
    run_id: Mapped[RunId]
    number: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str]
    options: Mapped[JsonText]
    made_at: Mapped[str]
    __table_args__ = (UniqueConstraint("run_id", "number"),)


class Rescored(Base):
    """One turn to score once more: waiting while ``validity`` is NULL, and leased to a worker until a time."""

    __tablename__ = "rescored"
    id: Mapped[Key]
    rescore_id: Mapped[int] = mapped_column(ForeignKey("rescores.id", ondelete="CASCADE"))
    turn_id: Mapped[TurnId]
    value: Mapped[float | None]
    validity: Mapped[str | None]
    by: Mapped[str]
    note: Mapped[str]
    criteria: Mapped[JsonText] = mapped_column(Json, nullable=True)
    leased_by: Mapped[str | None]
    leased_until: Mapped[float | None]
    __table_args__ = (UniqueConstraint("rescore_id", "turn_id"), Index("ix_rescored_turn_id", "turn_id"))
