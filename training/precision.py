"""Weights in 16 bits, their master copies in 32: gradients are summed and updates made in float32.

The model and the engine share the 16-bit weights, so what is sampled is what is scored. float16 losses are scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sparring.scenarios.errors import EngineError

FIRST, LEAST, MOST = 2.0**14, 2.0**-14, 2.0**24
CALM = 1000  # micro-batches without an overflow before the scale is doubled


class Masters:
    """float32 copies of the 16-bit weights among ``weights``; 32-bit weights are their own masters.

    A weight's gradient is added to its master's in float32 the moment backward has made it, and dropped. With float16
    weights the loss is multiplied by ``scale`` on the way (Micikevicius et al., arXiv 1710.03740): a micro-batch whose
    gradient overflows is taken again at half the scale, so none is skipped.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.scale = FIRST if any(weight.dtype == torch.float16 for weight in weights) else 1.0
        self.calm = 0
        self.masters = [_master(weight) for weight in weights]
        self._pairs = [pair for pair in zip(weights, self.masters, strict=True) if pair[0] is not pair[1]]
        for weight, master in self._pairs:
            weight.register_post_accumulate_grad_hook(_taker(master))  # type: ignore[no-untyped-call]

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to the masters'. Raises ``EngineError`` when no scale keeps it finite."""
        if self.scale == 1.0:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        before = [master.grad for master in self.masters]
        while True:
            for master in self.masters:
                master.grad = None
            (loss * self.scale).backward(retain_graph=True)  # type: ignore[no-untyped-call]
            grads = [master.grad for master in self.masters if master.grad is not None]
            if not grads or all(torch.isfinite(norm) for norm in torch._foreach_norm(grads)):
                break
            self.scale, self.calm = self.scale / 2, 0
            if self.scale < LEAST:
                raise EngineError("float16 gradients are not finite at any loss scale; set policy.dtype: bfloat16")
        torch._foreach_div_(grads, self.scale)
        for master, old in zip(self.masters, before, strict=True):
            if old is not None:
                master.grad = old if master.grad is None else old.add_(master.grad)
        self._relax()

    def apart(self) -> dict[str, Tensor]:
        """The masters that are not the weights themselves, by their place among the weights."""
        own = {id(master) for _, master in self._pairs}
        return {str(at): master for at, master in enumerate(self.masters) if id(master) in own}

    def load(self, saved: Mapping[str, Tensor] | None) -> None:
        """Put ``apart`` back and round it into the weights; ``None`` takes the weights as they are.

        Raises ``EngineError`` when it was saved for other weights.
        """
        if saved is not None and {name: tensor.shape for name, tensor in saved.items()} != {
            name: tensor.shape for name, tensor in self.apart().items()
        }:
            raise EngineError("the checkpoint's master weights are those of another model or policy.dtype")
        with torch.no_grad():
            for weight, master in self._pairs:
                master.copy_(weight)
            for name, tensor in (saved or {}).items():
                self.masters[int(name)].copy_(tensor)
        self.settle()

    def settle(self) -> None:
        """Round the masters into the weights that the model and the engine use; after every optimiser update."""
        if self._pairs:
            with torch.no_grad():
                torch._foreach_copy_([weight for weight, _ in self._pairs], [master for _, master in self._pairs])

    def _relax(self) -> None:
        self.calm += 1
        if self.calm >= CALM and self.scale < MOST:
            self.scale, self.calm = self.scale * 2, 0


def _master(weight: Tensor) -> Tensor:
    if weight.element_size() >= 4:
        return weight
    return weight.detach().float().requires_grad_()


def _taker(master: Tensor) -> Callable[[Tensor], None]:
    def take(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return take
