"""The update as data: trainers and when they take part, reference, optimiser, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer

from .ref import Number, Ref, Spec, Whole, with_kind


class OptimizerSpec(Spec):
    """``lr`` per step, ``warmup`` in steps (linear from 0)."""

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: Number = Field(default=1e-3, ge=0)
    betas: tuple[Number, Number] = (0.9, 0.95)
    weight_decay: Number = Field(default=0.0, ge=0)
    warmup: Whole = Field(default=0, ge=0)

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("two numbers from 0 up to, not including, 1 are needed")
        return value


class CheckpointSpec(Spec):
    """Weights are written every ``every`` steps and the newest ``keep`` are kept."""

    every: Whole = Field(default=1, ge=1)
    keep: Whole = Field(default=2, ge=1)


class WhenSpec(Spec):
    """A trainer waits until a figure of the last step is inside these bounds; a figure that is not there is outside."""

    metric: str = Field(min_length=1)
    at_least: Number | None = None
    at_most: Number | None = None

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Whether the figure is there and inside the bounds."""
        value = figures.get(self.metric)
        if value is None:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class TrainerSpec(Ref):
    """A trainer part and when it takes part in a step: steps after ``after`` up to ``until``, each ``every``-th one.

    ``weight`` scales its loss. Its other keys are the part's options.
    """

    after: Whole = Field(default=0, ge=0)
    until: Whole | None = Field(default=None, ge=1)
    every: Whole = Field(default=1, ge=1)
    when: WhenSpec | None = None
    weight: Number = Field(default=1.0, ge=0)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        when = self.when.model_dump(mode="json") if self.when is not None else None
        plan = {"after": self.after, "until": self.until, "every": self.every, "when": when, "weight": self.weight}
        return {"kind": self.kind, **plan, **self.options}

    def due(self, step: int, figures: Mapping[str, float | None]) -> bool:
        """Whether it takes part in this step (from 1), given the last step's figures."""
        if step <= self.after or (self.until is not None and step > self.until) or (step - self.after) % self.every:
            return False
        return self.when is None or self.when.holds(figures)


class ReferenceSpec(Spec):
    """What log-probs are compared with by a KL term or DPO: ``start`` is the policy as this run began, or a model.

    ``every`` steps the policy itself becomes the reference (0: never).
    """

    model: str = Field(default="start", min_length=1)
    every: Whole = Field(default=0, ge=0)


class TrainingSpec(Spec):
    """The update: how many, what teaches, with which optimiser.

    ``objective`` names a bundle of advantage, loss and group stages; what is written beside it wins. ``trainers`` are
    the parts that make rows of what was played; ``rl`` alone unless said otherwise, and with ``{}`` nothing is trained:
    what is played is scored and stored. Each step is ``epochs`` passes over its rows in ``minibatches`` optimiser
    updates each. ``layout`` is how rows lie in a batch: padded, or packed end to end; auto packs on a GPU where the
    model reads packed rows exactly. ``on_bad_step``: what a loss or gradient that is not finite does; it is never
    applied.
    """

    steps: Whole = Field(default=60, ge=0)
    objective: str | None = None
    advantage: Ref = Ref(kind="grpo")
    loss: Ref = Ref(kind="dapo")
    trainers: dict[str, TrainerSpec] = Field(default_factory=lambda: {"rl": TrainerSpec(kind="rl")})
    reference: ReferenceSpec = ReferenceSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    max_grad_norm: Number = Field(default=1.0, gt=0)
    epochs: Whole = Field(default=1, ge=1)
    minibatches: Whole = Field(default=1, ge=1)
    micro_batch_tokens: Whole = Field(default=16384, ge=1)
    layout: Literal["auto", "padded", "packed"] = "auto"
    on_bad_step: Literal["stop", "skip"] = "stop"
    checkpoint: CheckpointSpec = CheckpointSpec()

    @field_validator("trainers", mode="before")
    @classmethod
    def _name_trainers(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: with_kind(str(key), trainer) for key, trainer in value.items()}
