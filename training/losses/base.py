"""What a loss is given and what it gives: ``Tokens`` in, one scalar out. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Aggregate = Literal["tokens", "trajectories", "turns", "constant"]
Scope = Literal["row", "unit"]


@dataclass(frozen=True)
class Tokens:
    """The N trained tokens of one micro-batch, row after row. Every tensor is (N,); log-probs are in nats.

    ``coefficient_N`` is each token's share of the step's loss: every denominator is in it, global over micro-batches
    and ranks. ``row_N`` and ``unit_N`` number the row and the unit (trajectory, preference pair) a token belongs to,
    from 0 without gaps. ``streams`` hold what came with the rows; ``logprob_old`` is the trainer's own where the
    behaviour policy's is unknown. ``entropy_N``, ``scores`` (head outputs) and ``divergence_N`` are there when asked
    for in ``needs``, with gradient.
    """

    logprob_N: Tensor
    coefficient_N: Tensor
    row_N: Tensor
    unit_N: Tensor
    streams: Mapping[str, Tensor]
    entropy_N: Tensor | None = None
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    divergence_N: Tensor | None = None

    @property
    def advantage_N(self) -> Tensor:
        """Advantages."""
        return self.streams["advantage"]

    @property
    def old_N(self) -> Tensor:
        """Log-probs under the policy that sampled, as its engine reported them."""
        return self.streams["logprob_old"]

    @property
    def start_N(self) -> Tensor:
        """The trainer's own log-probs before the step's first update."""
        return self.streams["start"]

    @property
    def reference_N(self) -> Tensor:
        """Log-probs under the reference model."""
        return self.streams["reference"]

    def index(self, scope: Scope) -> Tensor:
        """``row_N`` or ``unit_N``."""
        return self.row_N if scope == "row" else self.unit_N

    def sum_by(self, x_N: Tensor, scope: Scope) -> Tensor:
        """Sums over each row or unit, handed back to each of its tokens (N,)."""
        index = self.index(scope)
        count = int(index.max()) + 1 if len(index) else 0
        return x_N.new_zeros(count).index_add(0, index, x_N)[index]

    def mean_by(self, x_N: Tensor, scope: Scope) -> Tensor:
        """Means over each row or unit, handed back to each of its tokens (N,)."""
        return self.sum_by(x_N, scope) / self.sum_by(x_N.new_ones(x_N.shape), scope)


@runtime_checkable
class Loss(Protocol):
    """One objective.

    ``needs`` names what must be computed for it: reference, start, entropy, teacher, score:HEAD. ``every_token``: also
    tokens whose advantage is 0 are read (a KL or entropy term acts on them). ``aggregate`` and ``length`` say how rows
    are weighed when they are packed.
    """

    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def every_token(self) -> bool: ...
    @property
    def aggregate(self) -> Aggregate: ...

    def __call__(self, tokens: Tokens) -> Tensor:
        """This micro-batch's share of the step's loss: a scalar, normally the sum of coefficient x per-token loss."""
        ...

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """Per-token diagnostics (N,), detached; the step logs their means."""
        ...
