"""The policy as the learner sees it: log-probs, entropies and head outputs of trained tokens, and its parameters.

Any causal language model of ``transformers``: the decoder body gives hidden states, and only trained positions reach
the output embedding, a chunk at a time. What a family does to its logits last is found and verified on a probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from sparring.scenarios.errors import EngineError

from . import attention, prefix
from .batch import Batch, Layout, collate, micro_batches
from .head import Against, Vocabulary, read
from .lora import Adapters
from .precision import Masters
from .probe import Probe, probe

if TYPE_CHECKING:
    from torch import Tensor

    from .rows import Row


@dataclass(frozen=True)
class Scores:
    """What a forward pass says of the N trained tokens, (N,) each, in nats where it is a log-prob or entropy."""

    logprob_N: Tensor
    entropy_N: Tensor
    heads: dict[str, Tensor] = field(default_factory=dict)
    divergence_N: Tensor | None = None


class Model:
    """A causal language model with optional scalar heads on the state each trained token was drawn from.

    ``layout`` is ``packed`` on CUDA where packed rows are read exactly without a mask, else ``padded``; ask for one to
    have it, and ``EngineError`` says when the model cannot. ``base`` reads with all adapters off.
    """

    def __init__(
        self,
        module: Any,
        heads: Sequence[str] = (),
        layout: Layout | Literal["auto"] = "auto",
        base: bool = False,
        known: Probe | None = None,
    ) -> None:
        self.module = module
        self.adapters = Adapters.of(module)
        self.base = base
        self.probe = known or probe(module)
        self.layout = self._choose(layout)
        self.chunk = 0
        self._checkpointed = [layer for layer in module.modules() if getattr(layer, "gradient_checkpointing", False)]
        self._masters: Masters | None = None
        width = module.get_output_embeddings().weight.shape[1]
        self.heads = torch.nn.ModuleDict({name: torch.nn.Linear(width, 1) for name in heads}).to(self.device)
        for weight in self.heads.parameters():
            torch.nn.init.zeros_(weight)

    def reference(self) -> Model:
        """This policy as it is now, frozen: the base under its adapters where there are any, else a copy."""
        if self.adapters is not None:
            return Model(self.module, layout=self.layout, base=True, known=self.probe)
        import copy

        return Model(copy.deepcopy(self.module).requires_grad_(False), layout=self.layout, known=self.probe)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        device: torch.device = next(self.module.parameters()).device
        return device

    @property
    def masters(self) -> Masters:
        """The float32 side of the trained weights."""
        if self._masters is None:
            self._masters = Masters(self.weights())
        return self._masters

    def notes(self) -> list[str]:
        """What is known of how this model is read, a sentence each, for people."""
        dtype = str(next(self.module.parameters()).dtype).removeprefix("torch.")
        masters = "" if dtype == "float32" else ", trained in float32 copies"
        how = f" ({attention.route(self.device.type, getattr(torch, dtype))})" if self.layout == "packed" else ""
        why = [f"{type(self.module).__name__}: {part}" for part in self.probe.why.split("; ") if part]
        return [f"weights are {dtype}{masters}", f"rows are {self.layout}{how}", *why]

    def weights(self) -> list[Tensor]:
        """Everything that is trained as the model holds it, heads included."""
        found = (*self.module.parameters(), *self.heads.parameters())
        return [weight for weight in found if weight.requires_grad]

    def parameters(self) -> list[Tensor]:
        """What an optimiser is given: the trained weights, or the float32 masters of those in 16 bits."""
        return self.masters.masters

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to that of ``parameters()``, scaled on the way for float16."""
        self.masters.backward(loss)

    def settle(self) -> None:
        """Make the model use what the optimiser made of ``parameters()``; after each of its updates."""
        self.masters.settle()

    def batches(self, rows: Sequence[Row], tokens: int) -> Iterator[Batch]:
        """Micro-batches of at most ``tokens`` tokens, in the model's layout."""
        for part in micro_batches(rows, tokens, self.layout):
            yield collate(part, self.device, self.layout)

    def score(
        self,
        batch: Batch,
        entropy: bool = False,
        heads: Sequence[str] = (),
        against: Model | None = None,
        divergence: Literal["forward", "reverse"] = "forward",
    ) -> Scores:
        """Log-probs (N,) at each row's temperature and entropies (N,); entropy has a gradient only when asked for.

        ``against`` adds KL(other || this) or, for ``reverse``, KL(this || other) with its gradient.
        """
        other = None
        if against is not None:
            with torch.no_grad():
                other = Against(against.hidden(batch), against.vocabulary, divergence == "forward")
        hidden_ND = self.hidden(batch)
        try:
            found = read(hidden_ND, self.vocabulary, batch.target_N, batch.temperature_N, entropy, other, self.chunk)
        except ValueError as error:
            raise EngineError(f"the policy and the model it is compared with do not fit: {error}") from error
        values = {name: self.heads[name](self._state(hidden_ND).float())[:, 0] for name in heads}
        return Scores(found.logprob_N, found.entropy_N, values, found.divergence_N)

    def hidden(self, batch: Batch) -> Tensor:
        """The states (N, D) each trained token was drawn from; logits (N, V) where the head cannot be reproduced."""
        if self.adapters is not None:
            self.adapters.use(None if self.base else batch.adapter)
        own = self.probe.final is None
        body = self.module if own else self.module.get_decoder()
        recomputes = torch.is_grad_enabled() and self._checkpointed
        if self.probe.shared and not own and not recomputes and (twice := prefix.plan(batch)) is not None:
            return prefix.states(body, twice)
        with attention.packing(batch.bounds is not None), self._recomputing():
            out = body(**batch.inputs())
        states_BTD: Tensor = out.logits if own else out[0]
        state_ND = states_BTD.flatten(0, 1).index_select(0, batch.at_N - 1)
        return state_ND if own else state_ND.to(self.module.get_output_embeddings().weight.dtype)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Layers that recompute do so only in training, and drop any cache then: they are told so just here."""
        layers = self._checkpointed if torch.is_grad_enabled() else []
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    @property
    def vocabulary(self) -> Vocabulary:
        """The output embedding as it is now."""
        head = self.module.get_output_embeddings()
        if self.probe.final is None:
            return Vocabulary(head.weight, module=torch.nn.Identity())
        plain = type(head) is torch.nn.Linear and not head._forward_hooks and not head._forward_pre_hooks
        return Vocabulary(head.weight, head.bias, self.probe.final, None if plain else head)

    def _state(self, hidden_ND: Tensor) -> Tensor:
        if self.probe.final is None:
            raise EngineError(
                f"{type(self.module).__name__} shows only its logits, so it can carry no value or reward head; "
                "choose another policy.model or a loss without one"
            )
        return hidden_ND

    def _choose(self, layout: Layout | Literal["auto"]) -> Layout:
        if layout == "packed" and not self.probe.packed:
            raise EngineError(
                f"{type(self.module).__name__} does not read packed rows exactly ({self.probe.why}); "
                "set training.layout: padded"
            )
        if layout != "auto":
            return layout
        return "packed" if self.device.type == "cuda" and self.probe.packed == "bounds" else "padded"
