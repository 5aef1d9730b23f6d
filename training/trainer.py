"""One optimiser step on the shared policy from packed rows. Blind to roles, rewards and recipes.

Micro-batching, padding and row order change nothing but speed: every row carries its own coefficients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from sparring.scenarios.errors import TrainingStopped

from .losses import Loss
from .pack import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sparring.scenarios.schema import OptimizerSpec, TrainingSpec


@dataclass
class Update:
    """What one step did. ``gap``, ``clipped`` and ``entropy`` are measured before the weights move.

    ``gap`` is mean |log-prob of trainer - log-prob of engine| in nats, ``clipped`` the share of trained tokens where it
    exceeds log 1.28, ``entropy`` the mean in nats of each role's next-token distributions.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = 0.0
    tokens: int = 0
    rows: int = 0
    gap: float = 0.0
    clipped: float = 0.0
    entropy: dict[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | None]:
        """Flat names for the store."""
        flat: dict[str, float | None] = {f"entropy/{role}": value for role, value in self.entropy.items()}
        names = ("loss", "grad_norm", "lr", "tokens", "rows", "gap", "clipped")
        return flat | {f"train/{name}": float(getattr(self, name)) for name in names}

    def describe(self, tokens: Sequence[Scored]) -> None:
        """Fill in the means over all trained tokens."""
        entropy_of: dict[str, list[float]] = {}
        for token in tokens:
            entropy_of.setdefault(token.role, []).append(token.entropy)
        self.tokens = len(tokens)
        self.gap = fmean(token.gap for token in tokens)
        self.clipped = fmean(token.gap > math.log(1.28) for token in tokens)
        self.entropy = {role: fmean(values) for role, values in sorted(entropy_of.items())}


class Scored(NamedTuple):
    """One trained token as the trainer sees it; ``gap`` and ``entropy`` in nats."""

    role: str
    gap: float
    entropy: float


class Trainer:
    """Owns the model's gradients and the optimiser."""

    def __init__(self, model: Any, spec: TrainingSpec, loss: Loss) -> None:
        self.model, self.spec, self.loss = model, spec, loss
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(self.parameters, spec.optimizer)
        self.steps = 0

    def step(self, rows: Sequence[Row]) -> Update:
        """Train on ``rows`` once per epoch; no rows leaves the weights as they are.

        Raises ``TrainingStopped`` instead of applying a gradient that is not finite.
        """
        update = Update(rows=len(rows))
        self.steps += 1
        update.lr = self._set_pace()
        if not rows:
            return update
        for epoch in range(self.spec.epochs):
            self.optimizer.zero_grad(set_to_none=True)
            update.loss = 0.0
            scored: list[Scored] = []
            for batch in micro_batches(rows, self.spec.micro_batch_tokens):
                update.loss += self._accumulate(batch, scored)
            if epoch == 0:
                update.describe(scored)
            update.grad_norm = self._apply()
        return update

    def weights_sha(self) -> str:
        """SHA-256 over every parameter's bytes, in name order."""
        import torch

        total = hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            total.update(name.encode())
            total.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def _set_pace(self) -> float:
        warmup = self.spec.optimizer.warmup
        lr = self.spec.optimizer.lr * min(1.0, self.steps / warmup if warmup else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _apply(self) -> float:
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.max_grad_norm))
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingStopped(
                f"step {self.steps}: the gradient norm is {norm}; it was not applied. "
                "Lower training.optimizer.lr or look at the step's rewards with `sparring why`"
            )
        self.optimizer.step()
        return norm

    def _accumulate(self, batch: Sequence[Row], scored: list[Scored]) -> float:
        """Add the gradient of these rows; appends what was scored and returns their share of the loss."""
        import torch

        tensors = collate(batch, self.parameters[0].device)
        logprob_N, entropy_N = self._score(tensors)
        old_N = torch.where(tensors.old_N.isnan(), logprob_N.detach(), tensors.old_N)
        loss = (tensors.coefficient_N * self.loss(logprob_N, old_N, tensors.advantage_N)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        gap_N = (logprob_N.detach() - old_N).abs()
        scored += map(Scored, tensors.role_N, gap_N.tolist(), entropy_N.tolist())
        return float(loss.detach())

    def _score(self, tensors: Batch) -> tuple[Tensor, Tensor]:
        """Log-probs (N,) of the trained tokens at their row's temperature, and the entropy (N,) where each was drawn.

        Only trained positions reach the vocabulary projection.
        """
        import torch

        hidden = self.model.model(
            input_ids=tensors.ids_BT, attention_mask=tensors.real_BT, use_cache=False
        ).last_hidden_state
        logits_NV = self.model.lm_head(hidden[:, :-1][tensors.trained_BT[:, 1:]]).float()
        logits_NV = logits_NV / tensors.temperature_N[:, None]
        all_NV = torch.log_softmax(logits_NV, dim=-1)
        target_N = tensors.ids_BT[:, 1:][tensors.trained_BT[:, 1:]]
        with torch.no_grad():
            entropy_N = -(all_NV.exp() * all_NV).sum(-1)
        return all_NV.gather(-1, target_N[:, None])[:, 0], entropy_N


def make_optimizer(weights: Sequence[Tensor], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimiser a scenario names; ``betas`` are AdamW's."""
    import torch

    if spec.kind == "sgd":
        return torch.optim.SGD(weights, lr=spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(weights, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)


@dataclass(frozen=True)
class Batch:
    """Padded rows (B, T) and, for the N trained tokens in row-major order, their streams."""

    ids_BT: Tensor
    real_BT: Tensor
    trained_BT: Tensor
    coefficient_N: Tensor
    advantage_N: Tensor
    old_N: Tensor
    temperature_N: Tensor
    role_N: list[str]


def micro_batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Rows of like length together, at most ``tokens`` padded tokens each (a longer row goes alone)."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.token_ids)):
        if batch and (len(batch) + 1) * len(row.token_ids) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def collate(rows: Sequence[Row], device: torch.device) -> Batch:
    """Rows to tensors, right-padded."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(values: Iterable[Sequence[float]], dtype: torch.dtype) -> Tensor:
        return pad_sequence([torch.tensor(row, dtype=dtype) for row in values], batch_first=True).to(device)

    coefficient_BT = padded((row.coefficient_T for row in rows), torch.float32)
    trained_BT = coefficient_BT != 0
    owners = [row for row, n in zip(rows, trained_BT.sum(1).tolist(), strict=True) for _ in range(n)]
    return Batch(
        padded((row.token_ids for row in rows), torch.long),
        padded(([1] * len(row.token_ids) for row in rows), torch.long),
        trained_BT,
        coefficient_BT[trained_BT],
        padded((row.advantage_T for row in rows), torch.float32)[trained_BT],
        padded((row.logprob_old_T for row in rows), torch.float32)[trained_BT],
        torch.tensor([row.temperature for row in owners], device=device),
        [row.role for row in owners],
    )
