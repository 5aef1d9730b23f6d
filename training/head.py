"""From final hidden states to log-probs, entropies and divergences without ever holding tokens x vocabulary.

Logits are made for a chunk of tokens, used, and thrown away; the backward pass makes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

CHUNK = {"cpu": 1 << 24, "cuda": 1 << 28}  # logits alive at once: 64 MiB and 1 GiB in float32


class Final(NamedTuple):
    """What a family does to its logits last: ``scale * logits``, then ``cap * tanh(logits / cap)``; 0 is no cap."""

    scale: float = 1.0
    cap: float = 0.0


PLAIN = Final()


@dataclass(frozen=True)
class Vocabulary:
    """An output embedding: ``weight_VD``, an optional ``bias_V``, and the family's last word.

    ``module`` stands in when the projection is not a plain matrix product (adapters on it, hooks): it is called.
    """

    weight_VD: Tensor
    bias_V: Tensor | None = None
    final: Final = PLAIN
    module: Any = None

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits (N, V) in float32 before any temperature, in the usual way (tracked by autograd)."""
        if self.module is not None:
            raw_NV = self.module(hidden_ND)
        else:
            raw_NV = torch.nn.functional.linear(hidden_ND, self.weight_VD, self.bias_V)
        return finish(raw_NV.float(), self.final)


@dataclass(frozen=True)
class Against:
    """Another model's view of the same N positions. ``forward`` is KL(other || policy), else KL(policy || other)."""

    hidden_ND: Tensor
    vocabulary: Vocabulary
    forward: bool = True


class Read(NamedTuple):
    """Per trained token: log-prob, entropy of where it was drawn, divergence from another model; nats."""

    logprob_N: Tensor
    entropy_N: Tensor
    divergence_N: Tensor | None


def read(
    hidden_ND: Tensor,
    vocabulary: Vocabulary,
    target_N: Tensor,
    temperature_N: Tensor,
    entropy: bool = False,
    against: Against | None = None,
    chunk: int = 0,
) -> Read:
    """Log-prob of ``target_N`` and entropy at its row's temperature; divergence from another model when asked.

    ``entropy`` asks for the entropy's gradient too. ``chunk`` bounds the logits alive at once (0: by device); when all
    fit they are kept for the backward pass. The other model gets no gradient. Softmax is float32 whatever the weights
    are. Raises ``ValueError`` when the two vocabularies differ in size.
    """
    size = vocabulary.weight_VD.shape[0]
    if against is not None and against.vocabulary.weight_VD.shape[0] != size:
        raise ValueError(f"models of {size} and {against.vocabulary.weight_VD.shape[0]} tokens cannot be compared")
    rows = max(1, (chunk or CHUNK.get(hidden_ND.device.type, CHUNK["cpu"])) // size)
    plan = _Plan(vocabulary.final, rows, entropy, against, temperature_N.float(), target_N)
    if vocabulary.module is not None:
        return _by_module(hidden_ND, vocabulary, plan)
    columns = _Read.apply(hidden_ND, vocabulary.weight_VD, vocabulary.bias_V, plan)  # type: ignore[no-untyped-call]
    logprob_N, entropy_N, divergence_N = columns
    return Read(logprob_N, entropy_N if entropy else entropy_N.detach(), divergence_N if against is not None else None)


class _Plan(NamedTuple):
    final: Final
    rows: int
    entropy: bool
    against: Against | None
    temperature_N: Tensor
    target_N: Tensor

    def slices(self) -> Iterator[slice]:
        total = len(self.target_N)
        return (slice(at, min(at + self.rows, total)) for at in range(0, total, self.rows))

    def other(self, part: slice) -> Tensor:
        """The other model's log-probs (n, V) of one chunk, at the same temperatures."""
        assert self.against is not None
        with torch.no_grad():
            z_NV = self.against.vocabulary.logits(self.against.hidden_ND[part])
            return torch.log_softmax(z_NV / self.temperature_N[part, None], -1)


class _Read(torch.autograd.Function):
    """The chunked softmax with its gradients in closed form, so that one or two buffers per chunk are enough.

    With z the tempered logits and p their softmax: d logp_y / dz = 1_y - p;  d H / dz = -p (log p + H);
    d KL(q || p) / dz = p - q;  d KL(p || q) / dz = p (log p - log q - KL).
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, plan: _Plan) -> Any:
        n = len(plan.target_N)
        logprob_N, entropy_N, divergence_N = hidden_ND.new_zeros((3, n), dtype=torch.float32)
        keep = None
        for part in plan.slices():
            logp_NV, _ = _logp(hidden_ND[part], weight_VD, bias_V, plan, part)
            logprob_N[part] = logp_NV.gather(-1, plan.target_N[part, None])[:, 0]
            entropy_N[part] = -(logp_NV.exp().mul_(logp_NV)).sum(-1)
            if plan.against is not None:
                divergence_N[part] = _divergence(logp_NV, plan.other(part), plan.against.forward)
            keep = logp_NV if n <= plan.rows and not plan.final.cap else None
        ctx.plan = plan
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, keep, entropy_N, divergence_N)
        return logprob_N, entropy_N, divergence_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        hidden_ND, weight_VD, bias_V, keep, entropy_N, divergence_N = ctx.saved_tensors
        plan: _Plan = ctx.plan
        wanted = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden_ND) if wanted[0] else None
        whole = torch.zeros_like(weight_VD, dtype=torch.float32) if wanted[1] else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if wanted[2] else None
        for part in plan.slices():
            logp_NV, slope_NV = (keep, None) if keep is not None else _logp(
                hidden_ND[part], weight_VD, bias_V, plan, part
            )  # fmt: skip
            grad = _grad_logits(plan, part, logp_NV, [one[part, None] for one in grads], entropy_N, divergence_N)
            grad.mul_((plan.final.scale / plan.temperature_N[part])[:, None])
            if slope_NV is not None:
                grad.mul_(slope_NV)
            low = grad.to(hidden_ND.dtype)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            if grad_hidden is not None:
                torch.mm(low, weight_VD, out=grad_hidden[part])
            if whole is not None:
                _add_product(whole, low, hidden_ND[part])
        return (
            grad_hidden,
            None if whole is None else whole.to(weight_VD.dtype),
            None if grad_bias is None else grad_bias.to(bias_V.dtype),
            None,
        )


def _add_product(whole_VD: Tensor, grad_NV: Tensor, hidden_ND: Tensor) -> None:
    if grad_NV.dtype == whole_VD.dtype:
        whole_VD.addmm_(grad_NV.t(), hidden_ND)
    else:
        whole_VD += grad_NV.t() @ hidden_ND  # each chunk in 16 bits, their sum in 32


def _grad_logits(
    plan: _Plan, part: slice, logp_NV: Tensor, grads: list[Tensor], entropy_N: Tensor, divergence_N: Tensor
) -> Tensor:
    """Gradient with respect to the tempered logits of one chunk; ``grads`` are (n, 1) of the three outputs."""
    by_logprob, by_entropy, by_divergence = grads
    weight = -by_logprob
    if plan.entropy:
        weight = weight - by_entropy * (logp_NV + entropy_N[part, None])
    other = plan.other(part) if plan.against is not None else None
    forward = plan.against is not None and plan.against.forward
    if forward:
        weight = weight + by_divergence
    elif other is not None:
        weight = weight + by_divergence * (logp_NV - other - divergence_N[part, None])
    grad = logp_NV.exp().mul_(weight)
    if other is not None and forward:
        grad.sub_(other.exp_().mul_(by_divergence))
    return grad.scatter_add_(1, plan.target_N[part, None], by_logprob)


def _logp(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, plan: _Plan, part: slice
) -> tuple[Tensor, Tensor | None]:
    """Tempered log-probs of one chunk and, under a cap, d cap tanh(x / cap) / dx = 1 - tanh^2 (both (n, V))."""
    z_NV = finish(torch.nn.functional.linear(hidden_ND, weight_VD, bias_V).float(), plan.final)
    slope_NV = 1 - (z_NV / plan.final.cap).square_() if plan.final.cap else None
    return torch.log_softmax(z_NV.div_(plan.temperature_N[part, None]), -1), slope_NV


def _divergence(logp_NV: Tensor, other_NV: Tensor, forward: bool) -> Tensor:
    above, below = (other_NV, logp_NV) if forward else (logp_NV, other_NV)
    return (above.exp() * (above - below)).sum(-1)


def finish(raw_NV: Tensor, final: Final) -> Tensor:
    """A family's last word on its logits."""
    z_NV = raw_NV * final.scale if final.scale != 1 else raw_NV
    return torch.tanh(z_NV / final.cap) * final.cap if final.cap else z_NV


def _by_module(hidden_ND: Tensor, vocabulary: Vocabulary, plan: _Plan) -> Read:
    """The same through the projection's own module, chunk by chunk, each recomputed by ``torch.utils.checkpoint``."""

    def part_of(hidden: Tensor, part: slice) -> tuple[Tensor, ...]:
        logp_NV = torch.log_softmax(vocabulary.logits(hidden) / plan.temperature_N[part, None], -1)
        with torch.set_grad_enabled(plan.entropy and torch.is_grad_enabled()):
            entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
        other = entropy_N.detach() if plan.against is None else plan.other(part)
        apart_N = other if plan.against is None else _divergence(logp_NV, other, plan.against.forward)
        return logp_NV.gather(-1, plan.target_N[part, None])[:, 0], entropy_N, apart_N

    if len(plan.target_N) <= plan.rows:
        parts = [part_of(hidden_ND, slice(0, len(plan.target_N)))]
    else:
        parts = [checkpoint(part_of, hidden_ND[part], part, use_reentrant=False) for part in plan.slices()]
    logprob_N, entropy_N, apart_N = (torch.cat(column) for column in zip(*parts, strict=True))
    return Read(logprob_N, entropy_N, apart_N if plan.against is not None else None)
