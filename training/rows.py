"""Rows: token sequences with what a loss must know of each token. Plain lists; tensors are made in ``batch``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

UNKNOWN = float("nan")  # behaviour log-prob under a stripped prompt: the learner puts its own, so the ratio is 1
ADVANTAGE, BEHAVIOUR, REWARD = "advantage", "logprob_old", "reward"
REFERENCE, START, VALUE, RETURN, LABEL = "reference", "start", "value", "return", "label"
PROCESS = "process"  # log-probs under an adapter that is trained as a reward model
TEACHER = "teacher"  # a need, like REFERENCE: whole distributions of the reference model


class Span(NamedTuple):
    """The tokens [start, stop) of a row that turn ``turn`` of the step's episode ``episode`` said, and its group."""

    episode: int
    turn: int
    start: int
    stop: int
    group: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation as tokens. ``coefficient_T`` and every stream have one entry per token of ``token_ids``.

    ``coefficient_T`` is 0 on context and on tokens that another row trains; elsewhere the token's share of the step's
    loss, with every denominator in it, so that the loss is a plain sum over rows whatever the micro-batches and ranks.
    Rows of one ``unit`` (a trajectory, a preference pair) are never split over micro-batches. ``loss`` names the loss
    they are for, ``adapter`` the LoRA adapter they train ("" for the policy's own), ``spans`` the turns they train.
    """

    role: str
    token_ids: list[int]
    coefficient_T: list[float]
    streams: dict[str, list[float]] = field(default_factory=dict)
    temperature: float = 1.0
    loss: str = "policy"
    unit: int = 0
    adapter: str = ""
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        """Lists must be as long as ``token_ids``, and nothing predicts the first token, so it cannot be trained."""
        lengths = {len(self.coefficient_T), len(self.token_ids), *map(len, self.streams.values())}
        if len(lengths) > 1:
            raise ValueError(f"row of role {self.role!r}: token-level lists of lengths {sorted(lengths)}")
        if self.coefficient_T[:1] not in ([], [0.0]):
            raise ValueError(f"row of role {self.role!r}: its first token is trained, but was sampled after nothing")

    @property
    def trained(self) -> list[int]:
        """Positions of the trained tokens."""
        return [at for at, share in enumerate(self.coefficient_T) if share != 0.0]

    def having(self, **streams: list[float]) -> Row:
        """A copy with more streams, or others in their place."""
        return replace(self, streams=self.streams | streams)
