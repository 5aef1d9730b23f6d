"""One step on the shared policy from packed rows. Blind to roles, rewards and recipes.

Micro-batches, padding, row order and ranks change nothing but speed: every row carries its own coefficients.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import TrainingStopped

from .batch import Batch
from .checkpoint import weights_sha
from .losses.base import Loss, Tokens
from .model import Model, Scores
from .ranks import current
from .rows import BEHAVIOUR, PROCESS, REFERENCE, START, TEACHER, Row
from .shape import shaped

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sparring.scenarios.schema import OptimizerSpec, TrainingSpec

    from .advantages.base import TokenAdvantage

HEAD = "score:"


class BadStep(ArithmeticError):
    """A loss or a gradient that is not finite; nothing of it was applied."""


@dataclass
class Update:
    """What one step did. Token figures are means over the trained tokens, measured before the weights move.

    ``refused`` says why a step's gradient was not applied. ``rows`` are the rows as they were trained, with every
    stream the learner filled in.
    """

    figures: dict[str, float] = field(default_factory=dict)
    refused: str = ""
    rows: Sequence[Row] = ()

    def metrics(self) -> dict[str, float | None]:
        """Flat names for the store."""
        return {**self.figures, "train/refused": float(bool(self.refused))}


class Learner:
    """Owns the gradients, the optimiser and the reference.

    ``losses`` by the name rows carry. ``reference`` scores tokens for KL terms and DPO, and gives whole distributions
    for distillation. ``model`` is what is trained, ``whole`` what engines and checkpoints read:
    one and the same, unless this process is one of several ranks and ``model`` lies in shards.
    """

    def __init__(
        self,
        model: Model,
        losses: Mapping[str, Loss],
        spec: TrainingSpec,
        reference: Model | None = None,
    ) -> None:
        self.ranks = current()
        self.whole, self.model = model, self.ranks.share(model, keep=True)
        self.losses, self.spec = dict(losses), spec
        self.reference = None if reference is None else self.ranks.share(reference)
        self.parameters = self.model.parameters()
        inner = make_optimizer(self.parameters, spec.optimizer)
        self.optimizer = self.ranks.optimizer(inner)
        self.steps = 0

    def step(self, rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage] | None = None) -> Update:
        """Train on ``rows``; none leaves the weights as they are.

        ``shapes`` spread credit over the tokens of the rows of a loss once the policy was scored. What is not finite is
        never applied: it stops the run (``TrainingStopped``) or leaves out the rest of the step, as ``on_bad_step``
        says.
        """
        with self.ranks.together(self, rows, shapes or {}):
            return self._step(rows, shapes or {})

    def _step(self, rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage]) -> Update:
        update = Update()
        self.steps += 1
        update.figures |= {"train/lr": self._set_pace(), "train/rows": float(len(rows)), "train/tokens": 0.0}
        if not rows:
            return update
        update.rows = shaped(self._annotate(rows, shapes), shapes)
        parts = minibatches(update.rows, self.spec.minibatches)
        try:
            for epoch in range(self.spec.epochs):
                for number, part in enumerate(parts):
                    tally = self._pass(part, float(len(parts)), update, first=epoch == 0 and number == 0)
                    update.figures |= tally
        except BadStep as error:
            self.optimizer.zero_grad(set_to_none=True)
            update.refused = f"step {self.steps}: {error}; it was not applied"
            if self.spec.on_bad_step == "stop":
                raise TrainingStopped(
                    f"{update.refused}. Lower training.optimizer.lr, look at the step's rewards with `sparring why`, "
                    "or set training.on_bad_step: skip"
                ) from error
        self._renew_reference()
        return update

    def _renew_reference(self) -> None:
        """Every so many steps the reference becomes the policy, weight by weight."""
        import torch

        every = self.spec.reference.every
        if self.reference is None or not every or self.steps % every:
            return
        with torch.no_grad():
            for held, new in zip(self.reference.module.parameters(), self.model.module.parameters(), strict=True):
                held.copy_(new)

    def weights_sha(self) -> str:
        """SHA-256 of what the engine serves now (``checkpoint.weights_sha``)."""
        return weights_sha(self.whole)

    def _set_pace(self) -> float:
        warmup = self.spec.optimizer.warmup
        lr = self.spec.optimizer.lr * min(1.0, self.steps / warmup if warmup else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _needs(self, row: Row) -> frozenset[str]:
        return self.losses[row.loss].needs

    def _annotate(self, rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage]) -> list[Row]:
        """Fill in what must be known before the first update: reference and own log-probs, values."""
        import torch

        several = self.spec.epochs * self.spec.minibatches > 1
        wanted: defaultdict[frozenset[str], list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            needs = self._needs(row) | (shapes[row.loss].needs if row.loss in shapes else frozenset())
            known = needs & {REFERENCE, PROCESS, f"{HEAD}value"}
            if row.loss in shapes or several:
                known |= {START}
            wanted[frozenset(known)].append(at)
        found = list(rows)
        with torch.no_grad():
            for known, places in wanted.items():
                mine = dict(self._known([rows[at] for at in places], known, shapes)) if known else {}
                for part in self.ranks.everyone(mine, "an exchange of scores"):
                    for at, streams in part.items():
                        found[places[at]] = rows[places[at]].having(**streams)
        return found

    def _known(
        self, rows: Sequence[Row], wanted: frozenset[str], shapes: Mapping[str, TokenAdvantage]
    ) -> Iterator[tuple[int, dict[str, list[float]]]]:
        """Streams of each row by its position in ``rows``."""
        place = {id(row): at for at, row in enumerate(rows)}
        for batch, idle in self.ranks.batches(self.model, rows, self.spec.micro_batch_tokens):
            columns: dict[str, Tensor] = {}
            if wanted & {START, f"{HEAD}value"}:
                heads = ("value",) if f"{HEAD}value" in wanted else ()
                scores = self.model.score(batch, heads=heads)
                columns[START] = scores.logprob_N
                columns |= scores.heads
            if REFERENCE in wanted:
                columns[REFERENCE] = self._reference().score(batch).logprob_N
            if PROCESS in wanted:
                columns[PROCESS] = self.model.score(_under(batch, shapes[batch.loss])).logprob_N
            counts = batch.counts
            split = {name: column.split(counts) for name, column in columns.items()}  # type: ignore[no-untyped-call]
            for number, row in enumerate(() if idle else batch.rows):
                yield place[id(row)], {name: _laid(row, split[name][number].tolist()) for name in split}

    def _reference(self) -> Model:
        if self.reference is None:
            raise TrainingStopped("a loss compares with a reference model and none was given; set training.reference")
        return self.reference

    def _pass(self, rows: Sequence[Row], scale: float, update: Update, first: bool) -> dict[str, float]:
        """One optimiser update from these rows; the figures of the whole step from the first."""
        self.optimizer.zero_grad(set_to_none=True)
        tally = Tally()
        loss = 0.0
        for batch, idle in self.ranks.batches(self.model, rows, self.spec.micro_batch_tokens):
            loss += self._accumulate(batch, scale, tally, idle)
        loss = sum(self.ranks.everyone(loss))
        tally = Tally.sum(self.ranks.everyone(tally))
        if tally.bad:
            raise BadStep(tally.bad)
        figures = {"train/loss": loss / scale, "train/grad_norm": self._apply()}
        return figures | (self._summary(tally.means()) if first else {})

    def _summary(self, means: dict[str, float]) -> dict[str, float]:
        """The step's means, where a loss makes more of its own (an effective sample size of squares, say)."""
        for name, loss in self.losses.items():
            if hasattr(loss, "summary"):
                own = {key: means.pop(key) for key in list(means) if key.rpartition("/")[0] == name}
                bare = {key.rpartition("/")[2]: value for key, value in own.items()}
                means |= {f"{name}/{key}": value for key, value in loss.summary(bare).items()}
        return means

    def _accumulate(self, batch: Batch, scale: float, tally: Tally, idle: bool) -> float:
        """Add the gradient of these rows; returns their share of the loss. Idle ones go through the motions."""
        loss_of = self.losses[batch.loss]
        heads = [need.removeprefix(HEAD) for need in sorted(loss_of.needs) if need.startswith(HEAD)]
        scores = self.model.score(
            batch,
            entropy="entropy" in loss_of.needs,
            heads=heads,
            against=self._reference() if TEACHER in loss_of.needs else None,
            divergence=getattr(loss_of, "direction", "forward"),
        )
        tokens = _tokens(batch, scores)
        loss = loss_of(tokens) * (0.0 if idle else scale)
        value = float(loss.detach())
        if not math.isfinite(value):
            tally.bad = tally.bad or f"the loss {batch.loss!r} is {value}{self.ranks.here}"
            if self.ranks.size == 1:
                raise BadStep(tally.bad)
            loss = loss.nan_to_num(0.0, 0.0, 0.0)  # the other ranks are in their backward pass and need this one's
        self.model.backward(loss)
        if not idle:
            tally.add(batch, tokens, scores.entropy_N, loss_of)
        return value

    def _apply(self) -> float:
        import torch

        found: Any = torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.max_grad_norm)
        norm = float(found.full_tensor() if hasattr(found, "full_tensor") else found)  # shards: over all ranks
        if not math.isfinite(norm):
            raise BadStep(f"the gradient norm is {norm}")
        self.optimizer.step()
        self.model.settle()
        return norm


def _under(batch: Batch, estimator: Any) -> Batch:
    """The batch as the process model of ``estimator`` reads it: with the adapter that learns outcomes."""
    return replace(batch, rows=tuple(replace(row, adapter=estimator.adapter) for row in batch.rows))


def _laid(row: Row, values: Sequence[float]) -> list[float]:
    """Values of the trained tokens as a stream over all of the row's tokens."""
    stream = [0.0] * len(row.token_ids)
    for at, value in zip(row.trained, values, strict=True):
        stream[at] = value
    return stream


def _tokens(batch: Batch, scores: Scores) -> Tokens:
    """What the loss is given: unknown behaviour log-probs become the policy's own, so their ratio is 1."""
    own = scores.logprob_N.detach()
    streams = dict(batch.streams)
    streams.setdefault(START, own)
    if BEHAVIOUR in streams:
        streams[BEHAVIOUR] = streams[START].where(streams[BEHAVIOUR].isnan(), streams[BEHAVIOUR])
    return Tokens(
        scores.logprob_N,
        batch.coefficient_N,
        batch.row_N,
        batch.unit_N,
        streams,
        scores.entropy_N,
        scores.heads,
        scores.divergence_N,
    )


@dataclass
class Tally:
    """Sums over trained tokens, by figure: what the step reports as means. ``bad`` says what was not finite."""

    sums: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    counts: defaultdict[str, int] = field(default_factory=partial(defaultdict, int))
    bad: str = ""

    @classmethod
    def sum(cls, tallies: Sequence[Tally]) -> Tally:
        """Those of all ranks together."""
        total = cls(bad="; ".join(tally.bad for tally in tallies if tally.bad))
        for tally in tallies:
            for name, value in tally.sums.items():
                total.sums[name] += value
                total.counts[name] += tally.counts[name]
        return total

    def add(self, batch: Batch, tokens: Tokens, entropy_N: Tensor, loss: Loss) -> None:
        """Take in one micro-batch."""
        import torch

        with torch.no_grad():
            n = len(tokens.logprob_N)
            self._count("train/tokens", n, 1)
            self._count("train/padding", batch.padding, batch.ids_BT.numel())
            if BEHAVIOUR in tokens.streams:
                gap_N = (tokens.logprob_N - tokens.old_N).abs()
                self._count("train/gap", float(gap_N.sum()), n)
                self._count("train/clipped", float((gap_N > math.log(1.28)).sum()), n)
            for name, column_N in loss.figures(tokens).items():
                self._count(f"{batch.loss}/{name}", float(column_N.sum()), len(column_N))
            counts = tokens.row_N.bincount().tolist()
            for row, part in zip(batch.rows, entropy_N.detach().split(counts), strict=True):  # type: ignore[no-untyped-call]
                self._count(f"entropy/{row.role}", float(part.sum()), len(part))

    def means(self) -> dict[str, float]:
        """Means by figure; ``train/tokens`` is a total."""
        found = {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}
        return found | {"train/tokens": self.sums["train/tokens"]}

    def _count(self, name: str, total: float, n: int) -> None:
        self.sums[name] += total
        self.counts[name] += n


def minibatches(rows: Sequence[Row], count: int) -> list[list[Row]]:
    """Rows dealt to at most ``count`` optimiser updates, units whole and in turn; empty ones are left out."""
    units: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        units.setdefault((row.loss, row.unit), []).append(row)
    dealt: list[list[Row]] = [[] for _ in range(count)]
    for number, unit in enumerate(units.values()):
        dealt[number % count] += unit
    return [part for part in dealt if part]


def make_optimizer(weights: Sequence[Tensor], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimiser a scenario names; ``betas`` are AdamW's."""
    import torch

    if spec.kind == "sgd":
        return torch.optim.SGD(weights, lr=spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(weights, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
