"""Made-up steps of the shape a four-role run has, for tests, benchmarks and trying the views. Same seed, same step."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from sparring.envs.types import (
    Criterion,
    CriterionScore,
    Ending,
    Episode,
    Finish,
    Parsed,
    Pick,
    Refusal,
    Rubric,
    Score,
    Segment,
    Task,
    Turn,
    Validity,
)

from .records import AdvantageRow, CheckpointRow, EvaluationRow, GroupRow, StepRecord

_CRITERIA = (Criterion("says 12", 2.0), Criterion("at most 9 words", 1.0), Criterion("at least 1 lines", 1.0))


@dataclass
class _Draft:
    """An episode in the making."""

    rng: random.Random
    version: int
    turns: list[Turn] = field(default_factory=list)
    scores: dict[int, tuple[Score, ...]] = field(default_factory=dict)

    def say(self, node: str, author: str, said: str, parent: int | None, task: str | None, context: Segment) -> int:
        """Add a turn of that author under ``parent``; returns its index. The environment's turns carry no tokens."""
        spoken = () if author == "environment" else tuple(said.encode())
        logprobs = struct.unpack(
            f"{len(spoken)}f", struct.pack(f"{len(spoken)}f", *(-self.rng.random() for _ in spoken))
        )
        self.turns.append(
            Turn(
                index=len(self.turns),
                parent=parent,
                node=node,
                author=author,
                said=said,
                sample=sum(turn.parent == parent and turn.node == node for turn in self.turns),
                context=None if author == "environment" else context,
                token_ids=spoken,
                logprobs=logprobs,
                finish=Finish.STOP if spoken else None,
                policy_version=self.version,
                engine="scripted" if spoken else "",
                parsed=Parsed("text", said) if spoken else None,
                task=task,
                seed=self.rng.getrandbits(63),
            )
        )
        return len(self.turns) - 1


def sample_step(
    number: int, episodes: int = 12, seed: int = 0, checkpoint: bool = True, attempts: int = 7
) -> StepRecord:
    """Step ``number``; each episode has 3 turns and 2 of every attempt: 17, with 44 scores and 42 criterion scores, of
    7 attempts. The last episode is refused."""
    rng = random.Random(f"{seed}/{number}")
    picks = tuple(Pick(f"depth={depth}", {"depth": depth}, episodes) for depth in (1, 2, 3, 4))
    made = [
        _refused(i, rng, number) if i == episodes - 1 > 0 else _episode(i, rng, number, attempts)
        for i in range(episodes)
    ]
    groups, advantages = _learning(made)
    return StepRecord(
        step=number,
        picks=picks,
        episodes=tuple(made),
        groups=groups,
        advantages=advantages,
        metrics={"loss": rng.random(), "entropy": rng.random(), "update_seconds": 0.25, "kl": None},
        policy_version=number + 1,
        weights_sha=f"{rng.getrandbits(64):016x}",
        checkpoint=CheckpointRow(f"step_{number}", f"{number:08x}", 1_000_000) if checkpoint else None,
        curriculum_state={"values": [rng.random() for _ in picks], "step": number},
        state={"baseline": {"solver": rng.random(), "critic": rng.random()}},
        evaluations=(EvaluationRow(number, "accuracy", rng.random(), 200, {"depth": 2}),) if number % 10 == 0 else (),
        seconds=1.5,
    )


def _task(rng: random.Random, origin: str, parent: str | None) -> Task:
    a, b = rng.randrange(100_000), rng.randrange(100)
    program = f"a = {a}\nb = a + {b}\nprint(b * 2)\n"
    secret = {"reference": str((a + b) * 2), "trace": [f"a={a}", f"b={a + b}"]}
    return Task("code", {"program": program}, secret, {"depth": 2}, ("arithmetic",), origin, parent)


def _refused(index: int, rng: random.Random, step: int) -> Episode:
    draft = _Draft(rng, step)
    brief = Segment("Write a program.", tuple(b"Write a program."))
    turn = draft.say("propose", "teacher", "print(", None, None, brief)
    scores = {turn: (Score.valued("learnability", 0.0, "rule", "refused: syntax"),)}
    refusals = {turn: Refusal("syntax", "'(' was never closed")}
    return Episode(index, index % 4, {"depth": 2}, tuple(draft.turns), (), scores, {}, refusals, Ending.REFUSED)


def _episode(index: int, rng: random.Random, step: int, attempts: int) -> Episode:
    draft, given = _Draft(rng, step), _task(rng, "generator", None)
    task = _task(rng, "teacher", given.key)
    brief = Segment("Write a program.", tuple(b"Write a program."))
    asked = task.payload["program"] + "\nWhat is printed?"
    question = Segment(asked, tuple(asked.encode()))
    proposal = draft.say("propose", "teacher", task.payload["program"], None, given.key, brief)
    admitted = draft.say("admit", "environment", "accepted", proposal, task.key, brief)
    writer = draft.say(
        "rubric", "rubric_writer", "2 says 12\n1 at most 9 words\n1 at least 1 lines", admitted, task.key, question
    )
    rubric = Rubric(_CRITERIA, writer, provenance="rubric_writer")
    draft.scores[proposal] = (Score.valued("learnability", rng.random(), "rule"),)
    draft.scores[writer] = (Score.missing("discrimination", "rule", "no valued attempt"),)
    for _ in range(attempts):
        _attempt(draft, task, admitted, writer, question)
    return Episode(
        index=index,
        pick=index % 4,
        parameters={"depth": 1 + index % 4},
        turns=tuple(draft.turns),
        tasks=(given, task),
        scores=draft.scores,
        rubrics={writer: rubric},
        refusals={},
        ending=Ending.DONE,
        seconds=0.75,
    )


def _attempt(draft: _Draft, task: Task, admitted: int, writer: int, question: Segment) -> None:
    """A solver's attempt and a critic's verdict on it."""
    rng, right = draft.rng, draft.rng.random() < 0.5
    answer = task.secret["reference"] if right else str(rng.randrange(1000))
    said = f"<think>{'; '.join(task.secret['trace'])}</think><answer>{answer}</answer>"
    solver = draft.say("solve", "solver", said, admitted, task.key, question)
    criteria = tuple(
        CriterionScore(writer, n, float(rng.random() < 0.5), Validity.VALUED, "rule") for n in range(len(_CRITERIA))
    )
    share = sum(item.share or 0.0 for item in criteria) / len(criteria)
    draft.scores[solver] = (
        Score.valued("verifier", float(right), "sandbox"),
        Score.valued("rubric", share, "rules", criteria=criteria),
        Score.valued("format", 1.0, "rule"),
    )
    heard = f"Is it right? {said}"
    critic = draft.say(
        "judge", "critic", "<verdict>right</verdict>", solver, task.key, Segment(heard, tuple(heard.encode()))
    )
    if rng.random() < 0.9:
        verdict = Score.valued("verdict", float(right), "verifier")
    else:
        verdict = Score.invalid("verdict", "verifier", "the sandbox timed out")
    opinion = tuple(CriterionScore(writer, n, 1.0, Validity.VALUED, "rule", "right") for n in range(len(_CRITERIA)))
    draft.scores[critic] = (
        verdict,
        Score.valued("rubric", 1.0, "rules", criteria=opinion),
        Score.valued("format", 1.0, "rule"),
    )


def _learning(episodes: Sequence[Episode]) -> tuple[tuple[GroupRow, ...], tuple[AdvantageRow, ...]]:
    """One group for each episode's attempts, one for its verdicts; a whole-step group for the rest."""
    groups = [GroupRow(0, "teacher", "propose", "step", len(episodes), 0.5, 0.25)]
    rows: list[AdvantageRow] = []
    for episode in episodes:
        rows.append(_advantage(episode, episode.turns[0], 0))
        for role, node in (("solver", "solve"), ("critic", "judge")):
            turns = [turn for turn in episode.turns if turn.node == node]
            if turns:
                groups.append(GroupRow(len(groups), role, node, "siblings", len(turns), 0.5, 0.5))
                rows.extend(_advantage(episode, turn, len(groups) - 1) for turn in turns)
    return tuple(groups), tuple(rows)


def _advantage(episode: Episode, turn: Turn, group: int) -> AdvantageRow:
    reward = episode.scores[turn.index][0].value
    value = 0.0 if reward is None else reward - 0.5
    pull = value * len(turn.token_ids) / 1000
    return AdvantageRow(episode.index, turn.index, turn.author, group, reward, value, 1.0, len(turn.token_ids), pull)
