"""One optimiser step on the shared policy from packed rows. Blind to roles, rewards and recipes.

Micro-batching, padding and row order change nothing but speed: every row carries its own coefficients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import TrainingStopped

from .losses import Loss
from .pack import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sparring.scenarios.schema import TrainingSpec


@dataclass
class Update:
    """What one step did. ``gap`` is mean |log-prob of trainer - log-prob of engine| in nats, before the update."""

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


class Trainer:
    """Owns the model's gradients and the optimiser."""

    def __init__(self, model: Any, spec: TrainingSpec, loss: Loss) -> None:
        import torch

        self.model, self.spec, self.loss = model, spec, loss
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=spec.optimizer.lr,
            betas=spec.optimizer.betas,
            weight_decay=spec.optimizer.weight_decay,
        )
        self.steps = 0

    def step(self, rows: Sequence[Row]) -> Update:
        """Train on ``rows`` once per epoch; no rows leaves the weights as they are. Raises when a loss is not finite."""
        update = Update(rows=len(rows))
        self.steps += 1
        update.lr = self._set_pace()
        if not rows:
            return update
        for epoch in range(self.spec.epochs):
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for batch in micro_batches(rows, self.spec.micro_batch_tokens):
                loss += self._accumulate(batch, update if epoch == 0 else Update())
            update.loss = loss
            update.grad_norm = self._apply()
        update.gap, update.clipped = update.gap / max(1, update.tokens), update.clipped / max(1, update.tokens)
        sizes = self._entropy_tokens
        update.entropy = {role: total / max(1, sizes[role]) for role, total in update.entropy.items()}
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
                f"step {self.steps}: the gradient norm is {norm}; the weights were not touched. "
                "Lower training.optimizer.lr or look at the step's rewards with `sparring why`"
            )
        self.optimizer.step()
        return norm

    def _accumulate(self, batch: Sequence[Row], update: Update) -> float:
        import torch

        tensors = collate(batch, self.parameters[0].device)
        logprob_N, entropy_N = self._score(tensors)
        old_N = torch.where(tensors.old_N.isnan(), logprob_N.detach(), tensors.old_N)
        loss = (tensors.coefficient_N * self.loss(logprob_N, old_N, tensors.advantage_N)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        gap_N = (logprob_N.detach() - old_N).abs()
        update.tokens += len(gap_N)
        update.gap += float(gap_N.sum())
        update.clipped += float((gap_N.exp() > 1.28).sum())
        self._tally(batch, tensors, entropy_N, update)
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

    def _tally(self, batch: Sequence[Row], tensors: Batch, entropy_N: Tensor, update: Update) -> None:
        if update.tokens == len(entropy_N):
            self._entropy_tokens: dict[str, int] = {}
        for role in {row.role for row in batch}:
            mine = [name == role for name in tensors.role_N]
            total = float(entropy_N[[at for at, yes in enumerate(mine) if yes]].sum())
            update.entropy[role] = update.entropy.get(role, 0.0) + total
            self._entropy_tokens[role] = self._entropy_tokens.get(role, 0) + sum(mine)


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

    width = max(len(row.token_ids) for row in rows)

    def padded(values: list[list[float]], fill: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *([fill] * (width - len(row)))] for row in values], dtype=dtype, device=device)

    ids_BT = padded([[*map(float, row.token_ids)] for row in rows], 0, torch.long)
    real_BT = padded([[1.0] * len(row.token_ids) for row in rows], 0, torch.long)
    coefficient_BT = padded([row.coefficient_T for row in rows], 0.0, torch.float32)
    trained_BT = coefficient_BT != 0
    counts = trained_BT.sum(1).tolist()
    return Batch(
        ids_BT,
        real_BT,
        trained_BT,
        coefficient_BT[trained_BT],
        padded([row.advantage_T for row in rows], 0.0, torch.float32)[trained_BT],
        padded([row.logprob_old_T for row in rows], 0.0, torch.float32)[trained_BT],
        torch.tensor([row.temperature for row, n in zip(rows, counts, strict=True) for _ in range(n)], device=device),
        [row.role for row, n in zip(rows, counts, strict=True) for _ in range(n)],
    )
