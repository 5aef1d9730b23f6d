"""What a step's words were good for: which roles pulled, tokens that taught nothing, scores that could not be used."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from sparring.envs.types import Validity

from .figures import Figure, Found, Seen, known, share


def figures(seen: Seen) -> Found:
    """Shares by role and by score."""
    return {**pulls(seen), **known({"untrained_tokens": untrained(seen)}), **invalid(seen)}


def pulls(seen: Seen) -> Found:
    """By role that is to learn: its share of the absolute pull, and of the tokens trained; nothing if nobody pulled."""
    pull: defaultdict[str, float] = defaultdict(float)
    tokens: Counter[str] = Counter()
    for row in seen.advantages:
        pull[row.role] += abs(row.pull)
        tokens[row.role] += row.n_tokens if row.pull else 0
    whole, trained = math.fsum(pull.values()), sum(tokens.values())
    found: Found = {}
    for role in (name for name in seen.roles if seen.learns(name)):
        if whole and trained:
            found[f"pull/{role}"] = Figure(pull[role] / whole, len(seen.advantages))
            found[f"trained/{role}"] = Figure(tokens[role] / trained, trained)
    return found


def untrained(seen: Seen) -> Figure | None:
    """The share of tokens sampled by roles that are to learn which moved nothing: groups dropped, or all equal.

    Nothing in a step that no trainer took part in.
    """
    if not seen.advantages:
        return None
    moved = {(row.episode, row.turn) for row in seen.advantages if row.pull}
    sampled = lost = 0
    for at, _, turn in seen.spoken():
        if seen.learns(turn.author):
            sampled += len(turn.token_ids)
            lost += 0 if (at, turn.index) in moved else len(turn.token_ids)
    return share(lost, sampled)


def invalid(seen: Seen) -> Found:
    """By score: the share of those asked for that could not be used."""
    bad: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for _, episode, turn in seen.turns():
        for score in episode.scores.get(turn.index, ()):
            if score.validity is not Validity.MISSING:
                asked[score.name] += 1
                bad[score.name] += score.validity is Validity.INVALID
    return {f"invalid/{name}": Figure(bad[name] / count, count) for name, count in sorted(asked.items())}
