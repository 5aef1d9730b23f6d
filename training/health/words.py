"""What the words of a step say: entropy, lengths, truncation, repetition, and whether samples and proposals differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sparring.agents.book import ENVIRONMENT
from sparring.agents.conditions import VERIFIER, outcome
from sparring.envs.types import Episode, Finish, Turn

from .figures import Figure, Found, Seen, known, share
from .pay import Paid

GRAM = 8  # tokens of a piece that counts as repeated when the same turn said it before
SHORTEST = 32  # tokens; shorter turns have too few pieces to repeat any


def figures(seen: Seen) -> Found:
    """Per role, then over the step."""
    of_role: defaultdict[str, list[Turn]] = defaultdict(list)
    for _, _, turn in seen.spoken():
        of_role[turn.author].append(turn)
    found: Found = {}
    for role, turns in of_role.items():
        found |= {f"{name}/{role}": figure for name, figure in _of_turns(turns).items()}
        if _draws(seen, role):
            found |= known({f"entropy/{role}": entropy(turns)})
    return found | known(
        {
            "answer_diversity": answer_diversity(seen),
            "duplicate_proposals": duplicate_proposals(seen),
        }
    )


def unpaid(seen: Seen, earnings: Sequence[Paid]) -> Found:
    """By role: the entropy of turns that earned no more than half of what they can.

    A role that is sure of what is right has learnt; one that is sure of what is wrong has collapsed.
    """
    of_role: defaultdict[str, list[Turn]] = defaultdict(list)
    for one in earnings:
        if not one.well and _draws(seen, one.turn.author):
            of_role[one.turn.author].append(one.turn)
    return known({f"entropy_unpaid/{role}": entropy(turns) for role, turns in of_role.items()})


def _draws(seen: Seen, role: str) -> bool:
    """Whether a role learns and samples, rather than taking the likeliest token."""
    return seen.learns(role) and seen.roles[role].sampling.temperature > 0


def _of_turns(turns: Sequence[Turn]) -> Found:
    tokens = sum(len(turn.token_ids) for turn in turns)
    cut = [turn for turn in turns if turn.finish is Finish.LENGTH]
    full = sum(turn.finish is Finish.CONTEXT for turn in turns)
    found = {
        "length": Figure(tokens / len(turns), len(turns)),
        "truncated_turns": share(len(cut), len(turns)),
        "truncated_tokens": share(sum(len(turn.token_ids) for turn in cut), tokens),
        "context_overflow": share(full, len(turns)),
        "repetition": repetition(turns),
    }
    return known(found)


def entropy(turns: Sequence[Turn]) -> Figure | None:
    """The mean of -log p over sampled tokens, in nats: an unbiased estimate of the mean entropy per token.

    Tokens without a log-prob do not count.
    """
    total, n = 0.0, 0
    for turn in turns:
        finite = [value for value in turn.logprobs if math.isfinite(value)]
        total -= math.fsum(finite)
        n += len(finite)
    return share(total, n)


def repetition(turns: Sequence[Turn]) -> Figure | None:
    """The share of pieces of ``GRAM`` tokens that stood before in the same turn, over turns of ``SHORTEST`` or more."""
    again = pieces = 0
    for turn in turns:
        ids = turn.token_ids
        if len(ids) >= SHORTEST:
            count = len(ids) - GRAM + 1
            pieces += count
            again += count - len({ids[at : at + GRAM] for at in range(count)})
    return share(again, pieces)


def answer_diversity(seen: Seen) -> Figure | None:
    """How different a task's samples are: (distinct - 1) / (samples - 1), the mean over groups of siblings.

    Of turns that learn. Groups all of whose members the verifier calls right are left out: saying one right answer
    alike is no collapse.
    """
    values = []
    for episode, siblings in _siblings(seen):
        verdicts = [outcome(episode.score(turn.index, VERIFIER)) for turn in siblings]
        if len(siblings) > 1 and not all(verdicts):
            distinct = len({turn.said.strip() for turn in siblings})
            values.append((distinct - 1) / (len(siblings) - 1))
    return Figure(math.fsum(values) / len(values), len(values)) if values else None


def _siblings(seen: Seen) -> Iterator[tuple[Episode, list[Turn]]]:
    """Attempts of one node under one parent."""
    groups: defaultdict[tuple[int, int | None, str], list[Turn]] = defaultdict(list)
    for at, _, turn in attempts(seen):
        groups[at, turn.parent, turn.node].append(turn)
    for (at, _, _), turns in groups.items():
        yield seen.episodes[at], turns


def attempts(seen: Seen) -> list[tuple[int, Episode, Turn]]:
    """Sampled turns of roles that learn and that the verifier scored; if it scored none, those the world answered."""
    learning = [one for one in seen.spoken() if seen.learns(one[2].author)]
    scored = [one for one in learning if one[1].score(one[2].index, VERIFIER) is not None]
    if scored:
        return scored
    heard = {(at, turn.parent) for at, _, turn in seen.turns() if turn.author == ENVIRONMENT}
    return [one for one in learning if (one[0], one[2].index) in heard]


def duplicate_proposals(seen: Seen) -> Figure | None:
    """The share of proposals that were set before in the run, or stand word for word earlier in the step."""
    said: set[str] = set()
    again = count = 0
    for _, episode, turn in seen.spoken():
        refusal = episode.refusals.get(turn.index)
        if refusal is None and not _sets_a_task(episode, turn):
            continue
        count += 1
        text = turn.said.strip()
        again += (refusal is not None and refusal.reason == "duplicate") or text in said
        said.add(text)
    return share(again, count)


def _sets_a_task(episode: Episode, turn: Turn) -> bool:
    return any(below.parent == turn.index and below.task != turn.task for below in episode.turns)
