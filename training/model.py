"""The policy as the learner sees it: log-probs, entropies and head outputs of trained tokens, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .batch import Batch


@dataclass(frozen=True)
class Scores:
    """What a forward pass says of the N trained tokens, (N,) each, in nats where it is a log-prob or entropy."""

    logprob_N: Tensor
    entropy_N: Tensor
    heads: dict[str, Tensor] = field(default_factory=dict)
    divergence_N: Tensor | None = None


class Model:
    """A causal language model with optional scalar heads on its last hidden state."""

    def __init__(self, module: Any, heads: Sequence[str] = ()) -> None:
        import torch

        self.module = module
        width = module.config.get_text_config().hidden_size
        device = next(module.parameters()).device
        self.heads = torch.nn.ModuleDict({name: torch.nn.Linear(width, 1) for name in heads}).to(device)
        for head in self.heads.values():
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)

    @property
    def device(self) -> Any:
        """Where the tensors live."""
        return next(self.module.parameters()).device

    def parameters(self) -> list[Any]:
        """Everything that is trained, heads included."""
        return [weight for weight in (*self.module.parameters(), *self.heads.parameters()) if weight.requires_grad]

    def score(
        self, batch: Batch, entropy: bool = False, heads: Sequence[str] = (), against: Model | None = None
    ) -> Scores:
        """Log-probs (N,) at each row's temperature and entropies (N,); entropy has a gradient only when asked for.

        Only trained positions reach the vocabulary projection.
        """
        import torch

        hidden_ND = self.module.model(
            input_ids=batch.ids_BT, attention_mask=batch.real_BT, use_cache=False
        ).last_hidden_state[:, :-1][batch.trained_BT[:, 1:]]
        logits_NV = self.module.lm_head(hidden_ND).float() / batch.temperature_N[:, None]
        all_NV = torch.log_softmax(logits_NV, dim=-1)
        target_N = batch.ids_BT[:, 1:][batch.trained_BT[:, 1:]]
        with torch.set_grad_enabled(entropy and torch.is_grad_enabled()):
            entropy_N = -(all_NV.exp() * all_NV).sum(-1)
        scores = {name: self.heads[name](hidden_ND.float())[:, 0] for name in heads}
        return Scores(all_NV.gather(-1, target_N[:, None])[:, 0], entropy_N, scores)
