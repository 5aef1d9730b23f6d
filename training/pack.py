"""Episodes with advantages become rows of tokens: every sampled token is trained once, in the context the engine saw.

Plain lists; they become tensors only inside ``Trainer.step``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparring.envs.types import Episode, Turn
from sparring.storage.records import AdvantageRow

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

UNKNOWN = float("nan")  # behaviour log-prob under a stripped prompt: the trainer puts its own, so the ratio is 1


@dataclass(frozen=True, slots=True)
class Row:
    """One role's conversation as tokens. All lists have one entry per token of ``token_ids``.

    ``coefficient_T`` is 0 on context and on tokens that another row trains; elsewhere role weight / role tokens, so
    that the loss is the plain sum over all rows of coefficient x per-token loss.
    """

    role: str
    token_ids: list[int]
    coefficient_T: list[float]
    advantage_T: list[float]
    logprob_old_T: list[float]
    temperature: float

    def __post_init__(self) -> None:
        """Lists must be as long as ``token_ids``, and nothing predicts the first token, so it cannot be trained."""
        lengths = {len(self.coefficient_T), len(self.advantage_T), len(self.logprob_old_T), len(self.token_ids)}
        if len(lengths) > 1:
            raise ValueError(f"row of role {self.role!r}: token-level lists of lengths {sorted(lengths)}")
        if self.coefficient_T[:1] not in ([], [0.0]):
            raise ValueError(f"row of role {self.role!r}: its first token is trained, but was sampled after nothing")


def pack(
    episodes: Sequence[Episode], advantages: Sequence[AdvantageRow], roles: Mapping[str, RoleSpec]
) -> list[Row]:
    """Rows for every conversation that holds a token with a non-zero advantage; one denominator per role."""
    tokens_of: defaultdict[str, int] = defaultdict(int)
    of_turn: dict[tuple[int, int], AdvantageRow] = {}
    for row in advantages:
        tokens_of[row.role] += row.n_tokens
        of_turn[row.episode, row.turn] = row
    packed: list[Row] = []
    for at, episode in enumerate(episodes):
        pulled = {turn: row for (index, turn), row in of_turn.items() if index == at and row.value != 0.0}
        packed += _episode_rows(episode, pulled, tokens_of, roles)
    return packed


def _episode_rows(
    episode: Episode,
    pulled: dict[int, AdvantageRow],
    tokens_of: Mapping[str, int],
    roles: Mapping[str, RoleSpec],
) -> list[Row]:
    followed = {turn.follows for turn in episode.turns}
    rows = []
    for leaf in episode.turns:
        if not leaf.token_ids or leaf.index in followed:
            continue
        chain = conversation(episode, leaf)
        while chain and chain[-1].index not in pulled:
            chain.pop()  # nothing after the last trained turn is read
        if chain:
            rows.append(_row(chain, pulled, tokens_of, roles[leaf.author].sampling.temperature))
    return rows


def conversation(episode: Episode, leaf: Turn) -> list[Turn]:
    """The turns of one role's conversation up to ``leaf``, oldest first."""
    chain = [leaf]
    while chain[-1].follows is not None:
        chain.append(episode.turns[chain[-1].follows])
    return chain[::-1]


def _row(
    chain: list[Turn], pulled: dict[int, AdvantageRow], tokens_of: Mapping[str, int], temperature: float
) -> Row:
    """One conversation as it is trained: as sampled, except that a ``train_context`` stands in for its context.

    From there on nothing was sampled in this context, so no behaviour log-prob is known.
    """
    ids: list[int] = []
    coefficient: list[float] = []
    advantage: list[float] = []
    old: list[float] = []
    stripped = False
    for turn in chain:
        stripped = stripped or turn.train_context is not None
        context = turn.train_context or turn.context
        heard = context.token_ids if context else ()
        credit = pulled.pop(turn.index, None)  # popped: a turn shared by several conversations is trained in the first
        share = credit.weight / tokens_of[credit.role] if credit else 0.0
        ids += [*heard, *turn.token_ids]
        coefficient += [0.0] * len(heard) + [share] * len(turn.token_ids)
        advantage += [0.0] * len(heard) + [credit.value if credit else 0.0] * len(turn.token_ids)
        old += [0.0] * len(heard) + ([UNKNOWN] * len(turn.token_ids) if stripped else list(turn.logprobs))
    return Row(chain[-1].author, ids, coefficient, advantage, old, temperature)
