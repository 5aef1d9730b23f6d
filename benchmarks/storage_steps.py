"""Steps for ``benchmarks/storage.py``: attempts of a given length on tasks, as a run of one role makes them.

Token ids come from a vocabulary of 151,936 (four bytes each), log-probs are float32, a token is four letters of text.
"""

from __future__ import annotations

import random

import numpy as np

from sparring.envs.types import Ending, Episode, Finish, Parsed, Pick, Score, Segment, Task, Turn
from sparring.storage.records import AdvantageRow, GroupRow, StepRecord

VOCABULARY = 151_936
PROMPT_TOKENS = 128
ATTEMPTS = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz     .,\n"


def long_step(number: int, episodes: int = 16, n_tokens: int = 512) -> StepRecord:
    """Step ``number``: ``episodes`` tasks of 8 attempts of ``n_tokens``, each with a score and an advantage."""
    rng = np.random.default_rng(number)
    letters = random.Random(number)
    made = tuple(_episode(index, number, n_tokens, rng, letters) for index in range(episodes))
    groups = tuple(GroupRow(i, "solver", "solve", "siblings", ATTEMPTS, 0.5, 0.5) for i in range(episodes))
    advantages = tuple(
        AdvantageRow(i, turn, "solver", i, 1.0, 0.5, 1.0, n_tokens, 0.5 / ATTEMPTS)
        for i in range(episodes)
        for turn in range(1, ATTEMPTS + 1)
    )
    return StepRecord(
        step=number,
        picks=(Pick("depth=2", {"depth": 2}, episodes),),
        episodes=made,
        groups=groups,
        advantages=advantages,
        metrics={"loss": 0.1, "entropy": 0.7, "kl": 0.01},
        policy_version=number + 1,
        weights_sha=f"{number:016x}",
        seconds=1.0,
    )


def _episode(index: int, step: int, n_tokens: int, rng: np.random.Generator, letters: random.Random) -> Episode:
    question = _text(letters, 4 * PROMPT_TOKENS)
    task = Task("code", {"program": question}, {"reference": str(index)}, {"depth": 2}, ("arithmetic",), "generator")
    asked = Segment(question, _ids(rng, PROMPT_TOKENS))
    turns = [Turn(0, None, "begin", "environment", question, task=task.key, policy_version=step)]
    turns += [
        Turn(
            index=1 + sample,
            parent=0,
            node="solve",
            author="solver",
            said=_text(letters, 4 * n_tokens),
            sample=sample,
            context=asked,
            token_ids=_ids(rng, n_tokens),
            logprobs=tuple((-rng.exponential(0.4, n_tokens)).astype(np.float32).tolist()),
            finish=Finish.STOP,
            policy_version=step,
            engine="transformers",
            parsed=Parsed("answer", "12"),
            task=task.key,
            seed=int(rng.integers(2**62)),
        )
        for sample in range(ATTEMPTS)
    ]
    scores = {turn: (Score.valued("verifier", float(turn % 2), "sandbox"),) for turn in range(1, ATTEMPTS + 1)}
    return Episode(index, 0, {"depth": 2}, tuple(turns), (task,), scores, {}, {}, Ending.DONE, seconds=0.5)


def _ids(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    return tuple(rng.integers(0, VOCABULARY, count).tolist())


def _text(letters: random.Random, length: int) -> str:
    return "".join(letters.choices(_LETTERS, k=length))


def own_bytes(record: StepRecord) -> int:
    """Bytes of a step that nothing can do without: token ids and log-probs at four bytes each, and text, once."""
    turns = [turn for episode in record.episodes for turn in episode.turns]
    segments = {turn.context for turn in turns if turn.context is not None}
    said = sum(8 * len(turn.token_ids) + len(turn.said.encode()) for turn in turns)
    read = sum(4 * len(segment.token_ids) + len(segment.text.encode()) for segment in segments)
    return said + read
