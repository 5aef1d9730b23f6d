"""From scores to advantages: combine a turn's rewards, find whom it is compared with, subtract a baseline.

Pure Python on plain lists. Comparison groups come from lineage alone, so any role in any graph gets credit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from sparring.envs.types import Ending, Episode, Turn, Validity
from sparring.storage.records import AdvantageRow, GroupRow

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

    from .stages import Stage


class Advantage(Protocol):
    """Rewards of one group to advantages, same length and order. A group of one gets 0."""

    def __call__(self, reward_G: Sequence[float]) -> list[float]: ...


class _NoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grpo:
    """(R - mean) / (std + 1e-4) with the sample (n - 1) standard deviation (GRPO, arXiv 2402.03300).

    >>> [round(value, 3) for value in Grpo()([1.0, 1.0, 0.0])]
    [0.577, 0.577, -1.155]
    """

    Config = _NoOptions

    def __init__(self, config: _NoOptions | None = None) -> None: ...

    def __call__(self, reward_G: Sequence[float]) -> list[float]:
        """Z-scores; all 0 when the group agrees."""
        mean, std = moments(reward_G)
        return [(reward - mean) / (std + 1e-4) if std else 0.0 for reward in reward_G]


class MeanBaseline:
    """R - mean, no scaling (Dr. GRPO, arXiv 2503.20783).

    >>> [round(value, 3) for value in MeanBaseline()([1.0, 1.0, 0.0])]
    [0.333, 0.333, -0.667]
    """

    Config = _NoOptions

    def __init__(self, config: _NoOptions | None = None) -> None: ...

    def __call__(self, reward_G: Sequence[float]) -> list[float]:
        """Distance to the group's mean."""
        mean, _ = moments(reward_G)
        return [reward - mean for reward in reward_G]


class LeaveOneOut:
    """R - mean of the others = n / (n - 1) (R - mean) (RLOO, arXiv 2402.14740).

    >>> LeaveOneOut()([1.0, 0.0])
    [1.0, -1.0]
    """

    Config = _NoOptions

    def __init__(self, config: _NoOptions | None = None) -> None: ...

    def __call__(self, reward_G: Sequence[float]) -> list[float]:
        """Distance to the mean of the other members."""
        n = len(reward_G)
        if n < 2:
            return [0.0] * n
        mean, _ = moments(reward_G)
        return [n / (n - 1) * (reward - mean) for reward in reward_G]


class Moments(NamedTuple):
    """Mean and sample standard deviation; 0 deviation for fewer than two values."""

    mean: float
    std: float


def moments(reward_G: Sequence[float]) -> Moments:
    """Mean and sample (n - 1) standard deviation of one group.

    >>> moments([2.0])
    Moments(mean=2.0, std=0.0)
    """
    n = len(reward_G)
    mean = math.fsum(reward_G) / n
    if n < 2 or max(reward_G) == min(reward_G):
        return Moments(mean, 0.0)
    return Moments(mean, math.sqrt(math.fsum((reward - mean) ** 2 for reward in reward_G) / (n - 1)))


def combine(episode: Episode, turn: Turn, weights: Mapping[str, float]) -> float | None:
    """Weighted sum of a turn's valued rewards; ``None`` when one is invalid or none is valued: masked, never 0."""
    total, valued = 0.0, False
    for name, weight in weights.items():
        score = episode.score(turn.index, name)
        if score is None or score.validity is Validity.MISSING:
            continue
        if score.validity is Validity.INVALID or score.value is None or not math.isfinite(score.value):
            return None
        total, valued = total + weight * score.value, True
    return total if valued else None


class Place(NamedTuple):
    """Where a turn is: position of its episode in the step, index of the turn in the episode."""

    episode: int
    turn: int


@dataclass(frozen=True)
class Credit:
    """The groups of one step, and the advantage of every trained turn, ready to be packed and stored."""

    groups: tuple[GroupRow, ...]
    advantages: tuple[AdvantageRow, ...]
    baselines: Mapping[str, float] = field(default_factory=dict)


def relatives(episodes: Sequence[Episode], places: Sequence[Place]) -> dict[str, list[Place]]:
    """Partition turns of one node by their closest shared ancestor; whoever stays alone forms a group of one.

    Siblings (one parent) are compared with each other; an only child climbs to the nearest ancestor under which others
    are left. What is left at the root is compared within the same curriculum decision.
    """
    groups: dict[str, list[Place]] = {}
    roots: defaultdict[str, list[Place]] = defaultdict(list)
    by_episode: defaultdict[int, list[Place]] = defaultdict(list)
    for place in places:
        by_episode[place.episode].append(place)
    for at, members in by_episode.items():
        turns = episodes[at].turns
        below: defaultdict[int | None, list[Place]] = defaultdict(list)
        for place in members:
            below[turns[place.turn].parent].append(place)
        for ancestor in range(len(turns) - 1, -1, -1):  # children stand after their parent, so the deepest come first
            left = below.pop(ancestor, [])
            if len(left) > 1:
                groups[f"episode {at} turn {ancestor}"] = left
            else:
                below[turns[ancestor].parent] += left
        roots[f"pick {episodes[at].pick}"] += below[None]
    found = {scope: sorted(members) for scope, members in (groups | roots).items() if members}
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def credit(
    episodes: Sequence[Episode],
    roles: Mapping[str, RoleSpec],
    advantage: Advantage,
    baselines: Mapping[str, float] | None = None,
    stages: Sequence[Stage] = (),
) -> Credit:
    """Advantages of every trainable role's turns, per comparison scope, with one denominator per role.

    ``pull`` of a turn is its signed share of its role's gradient coefficient: value x weight x tokens / role tokens.
    Turns whose reward is not valued, and episodes that broke, take no part.
    """
    held = dict(baselines or {})
    groups: list[GroupRow] = []
    rows: list[AdvantageRow] = []
    for role, spec in roles.items():
        if not spec.trainable:
            continue
        reward_of = _rewards(episodes, role, spec)
        n_tokens = sum(len(episodes[place.episode].turns[place.turn].token_ids) for place in reward_of)
        for node, scope, members in _scopes(episodes, reward_of, spec.compare):
            rewards = [reward_of[place] for place in members]
            dropped = next((reason for stage in stages if (reason := stage(rewards))), "")
            values = [0.0] * len(rewards) if dropped else _values(rewards, spec, role, advantage, held)
            groups.append(_group(len(groups), role, node, scope, rewards, values, dropped))
            for place, reward, value in zip(members, rewards, values, strict=True):
                tokens = len(episodes[place.episode].turns[place.turn].token_ids)
                pull = value * spec.weight * tokens / max(1, n_tokens)
                rows.append(
                    AdvantageRow(
                        place.episode, place.turn, role, groups[-1].index, reward, value, spec.weight, tokens, pull
                    )
                )
    return Credit(tuple(groups), tuple(rows), held)


def _rewards(episodes: Sequence[Episode], role: str, spec: RoleSpec) -> dict[Place, float]:
    found = {}
    for at, episode in enumerate(episodes):
        if episode.ending is Ending.BROKE:
            continue
        for turn in episode.turns:
            if turn.author == role and turn.token_ids:
                reward = combine(episode, turn, spec.reward)
                if reward is not None:
                    found[Place(at, turn.index)] = reward
    return found


def _scopes(
    episodes: Sequence[Episode], places: Mapping[Place, float], compare: str
) -> list[tuple[str, str, list[Place]]]:
    by_node: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_node[episodes[place.episode].turns[place.turn].node].append(place)
    if compare == "siblings":
        return [
            (node, scope, members)
            for node, of_node in by_node.items()
            for scope, members in relatives(episodes, of_node).items()
        ]
    return [(node, compare, members) for node, members in by_node.items()]


def _values(
    rewards: Sequence[float], spec: RoleSpec, role: str, advantage: Advantage, held: dict[str, float]
) -> list[float]:
    if spec.compare != "baseline":
        return advantage(rewards)
    base = held.get(role, 0.0)  # role-conditioned exponential average, updated after use (SPIRAL, arXiv 2506.24119)
    held[role] = 0.95 * base + 0.05 * moments(rewards).mean
    return [reward - base for reward in rewards]


def _group(
    index: int, role: str, node: str, scope: str, rewards: Sequence[float], values: Sequence[float], dropped: str
) -> GroupRow:
    mean, std = moments(rewards)
    kept = any(value != 0.0 for value in values)
    note = dropped or ("" if kept else "alone" if len(rewards) == 1 else "all equal")
    return GroupRow(index, role, node, scope, len(rewards), mean, std, kept, note)
