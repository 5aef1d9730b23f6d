"""Rewards: each is a pure function ``fn(episode, turn, context) -> Score`` of a finished episode.

What is compared with what is read from lineage and scores, never from the names of roles or nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from sparring.envs.base import Environment
from sparring.envs.types import CriterionScore, Episode, Finish, Rubric, Score, Task, Turn, Validity
from sparring.scenarios.registry import make, rewards
from sparring.scenarios.schema import Ref, Scenario

from .beside import beside, named, rubrics_read
from .outcome import RIGHT_AT, VERIFIER, outcome, verdict_of
from .role import RUBRIC, SIBLINGS, Role
from .rubric import mark

FAULTS = ("sandbox",)  # refusals that say nothing about the proposal; an environment's own ``faults`` replace them


@dataclass(frozen=True)
class Context:
    """What a reward may ask besides the episode. The environment is asked about tasks only, it is not played.

    ``named`` are the scenario's own rewards (``rewards:``), made from their options.
    """

    roles: Mapping[str, Role]
    environment: Environment
    named: Mapping[str, Reward] = field(default_factory=dict)

    def scores(self, name: str, episode: Episode, turn: Turn) -> tuple[Score, ...]:
        """What the reward called ``name`` gives this turn: the environment's score, a named reward, or a part."""
        if name in self.environment.scores:  # given when the turn was acted out, or not at all
            held = episode.score(turn.index, name)
            return (held or Score.missing(name, "environment", "not given for this turn"),)
        found = reward_of(name, self.named)(episode, turn, self)
        return (found,) if isinstance(found, Score) else tuple(found)


Reward = Callable[[Episode, Turn, Context], "Score | tuple[Score, ...]"]


def reward_of(name: str, named: Mapping[str, Reward]) -> Reward:
    """The scenario's own reward of this name, else the part; raises ``UnknownPart``, or its ``Config``'s error."""
    return named[name] if name in named else make_reward(Ref(kind=name))


def rewards_of(scenario: Scenario) -> dict[str, Reward]:
    """The scenario's own rewards by name."""
    return {name: make_reward(ref, name) for name, ref in scenario.rewards.items()}


def make_reward(ref: Ref, name: str = "") -> Reward:
    """The reward part that ``ref`` names, ready to be asked; its scores of its own kind are called ``name``."""
    part = rewards.get(ref.kind)
    reward: Reward = make(rewards, ref) if hasattr(part, "Config") else part
    return reward if name in ("", ref.kind) else Renamed(reward, ref.kind, name)


@dataclass(frozen=True)
class Renamed:
    """A reward under a name of the scenario's: its score called ``old`` is called ``new``."""

    reward: Reward
    old: str
    new: str

    def __call__(self, episode: Episode, turn: Turn, context: Context) -> tuple[Score, ...]:
        """The same scores, one of them renamed."""
        found = self.reward(episode, turn, context)
        given = (found,) if isinstance(found, Score) else tuple(found)
        return tuple(replace(score, name=self.new) if score.name == self.old else score for score in given)


# -- reading lineage ---------------------------------------------------------------------------------------------------


def value_of(score: Score | None) -> float | None:
    """The number of a valued score, else ``None``."""
    return score.value if score is not None and score.validity is Validity.VALUED else None


def judged(episode: Episode, turn: Turn) -> Turn | None:
    """The attempt a turn speaks about: the nearest turn above it that the environment scored."""
    above = episode.ancestors(turn.parent)
    return next((before for before in above if episode.score(before.index, VERIFIER) is not None), None)


def first_attempts(episode: Episode, top: int) -> list[Turn]:
    """Turns below ``top`` that the environment scored, with no scored turn in between."""
    reached = {top}
    found = []
    for turn in episode.turns[top + 1 :]:
        if turn.parent in reached:
            if episode.score(turn.index, VERIFIER) is not None:
                found.append(turn)
            else:
                reached.add(turn.index)
    return found


def task_rubrics(episode: Episode, key: str | None) -> list[Rubric]:
    """The rubrics written for the task in this episode, in order."""
    return [rubric for index, rubric in sorted(episode.rubrics.items()) if episode.turns[index].task == key]


def answers(episode: Episode, attempt: Turn, rubric: Rubric, context: Context) -> dict[int, list[bool]]:
    """What judges answered about ``attempt`` by ``rubric``, by criterion index, one bool per judge.

    A judge speaks about the attempt it stands below; one that sees ``siblings``, about those beside it too.
    """
    found: dict[int, list[bool]] = {}
    for turn in judges(episode, attempt, rubric, context):
        if turn.parsed is None or not turn.parsed.ok:
            continue
        own = judged(episode, turn) == attempt
        for number, (shown, index) in enumerate(_shown(episode, turn), 1):
            lettered = turn.parsed.value.get(f"{named(episode.turns, attempt)}{number}")
            answer = turn.parsed.value.get(str(number)) if own and lettered is None else lettered
            if shown == rubric.author and answer is not None:
                found.setdefault(index, []).append(answer)
    return found


def judges(episode: Episode, attempt: Turn, rubric: Rubric, context: Context) -> list[Turn]:
    """The turns of judges that read ``rubric`` and ``attempt``, whatever they said."""
    return [turn for turn in episode.turns if _judges(episode, turn, attempt, rubric, context)]


def _judges(episode: Episode, turn: Turn, attempt: Turn, rubric: Rubric, context: Context) -> bool:
    role = context.roles.get(turn.author)
    if turn.parsed is None or turn.parsed.kind != "marks" or role is None or RUBRIC not in role.sees:
        return False
    above = judged(episode, turn)
    if above is None or rubric.author not in {shown for shown, _ in _shown(episode, turn)}:
        return False
    among = SIBLINGS in role.sees and attempt in beside(episode.turns, above, turn.index, verdicts(episode))
    return above == attempt or among


def unheard(episode: Episode, attempt: Turn, rubric: Rubric, context: Context) -> str:
    """Why it is not known what judges make of ``attempt`` by ``rubric``; empty where it is, or nobody was asked."""
    if all(criterion.checker == "rule" for criterion in rubric.criteria):
        return ""
    return unreadable(judges(episode, attempt, rubric, context))


def unreadable(asked: Sequence[Turn]) -> str:
    """Why nothing that these turns said can be read; empty where one of them can, or there is none."""
    lost = [turn for turn in asked if turn.finish is Finish.ABORT or turn.parsed is None or not turn.parsed.ok]
    if not lost or len(lost) < len(asked):
        return ""
    parsed = lost[0].parsed
    return f"turn {lost[0].index}: {parsed.problem if parsed is not None else 'not parsed'}"


def verdicts(episode: Episode) -> Callable[[int], Score | None]:
    """The verifier's score by turn."""
    return lambda index: episode.score(index, VERIFIER)


def _shown(episode: Episode, turn: Turn) -> list[tuple[int | None, int]]:
    rubrics = rubrics_read(episode.turns, episode.rubrics, turn.task, turn.parent)
    return [(rubric.author, index) for rubric in rubrics for index in range(len(rubric.criteria))]


# -- rewards of a turn's own words -------------------------------------------------------------------------------------


@rewards("verifier")
def verifier(episode: Episode, turn: Turn, context: Context) -> Score:
    """The environment's own score of this turn; missing when it was never acted out."""
    return episode.score(turn.index, VERIFIER) or Score.missing(VERIFIER, "environment", "not acted out")


@rewards("format")
def format(episode: Episode, turn: Turn, context: Context) -> Score:
    """1 if the role kept its output contract, else 0."""
    if turn.parsed is None:
        return Score.missing("format", "parser", "not parsed")
    return Score.valued("format", float(turn.parsed.ok), "parser", turn.parsed.problem or "")


@rewards("rubric")
def rubric(episode: Episode, turn: Turn, context: Context) -> Score:
    """mean over the task's rubrics of sum(points * met) / sum(positive points) of what was checked; 0 under a veto.

    Invalid where judges were asked and nothing they said can be read: without their part a share is another number.
    """
    shares: list[float] = []
    rows: list[CriterionScore] = []
    lost = ""
    for written in task_rubrics(episode, turn.task):
        lost = lost or unheard(episode, turn, written, context)
        marked = mark(written, turn.said, answers(episode, turn, written, context))
        rows += marked.rows
        if marked.share is not None:
            shares.append(marked.share)
    if lost:
        return Score("rubric", None, Validity.INVALID, "judge", lost, tuple(rows))
    if not shares:
        note = "no criterion was checked" if rows else "no rubric"
        return Score("rubric", None, Validity.MISSING, "rubric", note, tuple(rows))
    return Score.valued("rubric", fmean(shares), "rubric", f"{len(shares)} rubrics", rows)


# -- rewards of what others made of it ---------------------------------------------------------------------------------


@rewards("learnability")
def learnability(episode: Episode, turn: Turn, context: Context) -> Score:
    """4 p (1 - p), p = mean verifier of the first attempts below this proposal; 0 for a refused proposal.

    Largest, 1, when half the attempts are right: the group then tells the solver most. A refusal for a fault that is
    not the proposal's (a sandbox failure) is invalid.
    """
    refusal = episode.refusals.get(turn.index)
    if refusal is not None:
        if refusal.reason in getattr(context.environment, "faults", FAULTS):
            return Score.invalid("learnability", "environment", f"{refusal.reason}: {refusal.detail}")
        return Score.valued("learnability", 0.0, "environment", refusal.reason)
    tries = first_attempts(episode, turn.index)
    valued = _valued(episode, tries)
    if not valued:
        return _unvalued("learnability", tries, "attempts")
    p = fmean(valued)
    return Score.valued("learnability", 4 * p * (1 - p), "attempts", f"p = {p:.4g} of {len(valued)}")


@rewards("verdict")
def verdict(episode: Episode, turn: Turn, context: Context) -> Score:
    """1 if the verdict equals the verifier's outcome (right from 0.5 on) of the judged attempt, else 0.

    No readable verdict earns 0; an attempt without a valued score makes it invalid.
    """
    attempt = judged(episode, turn)
    if attempt is None:
        return Score.missing("verdict", VERIFIER, "nothing was judged")
    truth = outcome(episode.score(attempt.index, VERIFIER))
    if truth is None:
        return Score.invalid("verdict", VERIFIER, f"turn {attempt.index} has no valued verifier score")
    said = verdict_of(turn)
    if said is None:
        return Score.valued("verdict", 0.0, VERIFIER, "no verdict")
    return Score.valued("verdict", float(said == truth), VERIFIER, f"turn {attempt.index}")


@rewards("revision_gain")
def revision_gain(episode: Episode, turn: Turn, context: Context) -> Score:
    """mean over the revisions below this turn of (verifier after - verifier before)."""
    attempt = judged(episode, turn)
    if attempt is None:
        return Score.missing("revision_gain", VERIFIER, "nothing was judged")
    before = value_of(episode.score(attempt.index, VERIFIER))
    revisions = first_attempts(episode, turn.index)
    if not revisions:
        return Score.missing("revision_gain", VERIFIER, "no revision")
    after = _valued(episode, revisions)
    if before is None or not after:
        return Score.invalid("revision_gain", VERIFIER, "no valued score before or after")
    gain = fmean(after) - before
    return Score.valued("revision_gain", gain, VERIFIER, f"{before:.4g} -> {fmean(after):.4g} over {len(after)}")


@rewards("discrimination")
def discrimination(episode: Episode, turn: Turn, context: Context) -> tuple[Score, ...]:
    """agreement - junk share, both also scores of their own.

    agreement = mean over the classes present (verified right, wrong) of the part of attempts on which [share >= 0.5]
    says the same as the verifier. junk share = the largest share that an answer known to be junk earns. A rubric that
    cannot be read, or that nothing in this episode checks, earns -1, the least a readable one can: with 0, or no score,
    silence would be better than a poor attempt. An attempt whose judges cannot be read does not count; invalid where
    that is so of all.
    """
    written = episode.rubrics.get(turn.index)
    if written is None:
        problem = turn.parsed.problem if turn.parsed is not None else "not parsed"
        return (Score.valued("discrimination", -1.0, "attempts", problem or "no rubric"),)
    task = episode.task(turn.task)
    judged_tries = _judged(episode, turn.task)
    if not judged_tries or task is None:
        return (Score.missing("discrimination", "attempts", "no valued attempt"),)
    lost = {attempt.index: why for attempt, _ in judged_tries if (why := unheard(episode, attempt, written, context))}
    tries = _measured(episode, written, [one for one in judged_tries if one[0].index not in lost], context)
    if not tries and lost:
        return (Score.invalid("discrimination", "judge", next(iter(lost.values()))),)
    if not tries:
        return (Score.valued("discrimination", -1.0, "attempts", "no criterion was checked"),)
    agreement = balanced_agreement(tries)
    junk = junk_share(written, task, context.environment)
    n_right = sum(right for _, right in tries)
    note = f"{len(tries)} attempts, {n_right} right"
    return (
        Score.valued("discrimination", agreement - junk, "attempts", f"{agreement:.4g} - {junk:.4g}; {note}"),
        Score.valued("agreement", agreement, "attempts", note),
        Score.valued("junk_share", junk, "junk answers"),
    )


def balanced_agreement(tries: Iterable[tuple[float, bool]]) -> float:
    """Mean over the classes present of how often [share >= 0.5] equals the class; the tries are (share, right).

    >>> balanced_agreement([(1.0, True), (0.2, True), (0.0, False)])
    0.75
    """
    sides: dict[bool, list[bool]] = {}
    for share, right in tries:
        sides.setdefault(right, []).append((share >= RIGHT_AT) == right)
    return fmean(fmean(side) for side in sides.values())


def junk_share(written: Rubric, task: Task, environment: Environment) -> float:
    """The largest share of the rubric's points that one of the environment's junk answers earns."""
    return max((mark(written, junk).share or 0.0 for junk in environment.junk_answers(task)), default=0.0)


def _judged(episode: Episode, key: str | None) -> list[tuple[Turn, bool]]:
    """The task's attempts that the verifier valued, with whether each is right."""
    mine = ((turn, outcome(episode.score(turn.index, VERIFIER))) for turn in episode.turns if turn.task == key)
    return [(turn, truth) for turn, truth in mine if truth is not None]


def _measured(
    episode: Episode, written: Rubric, tries: Sequence[tuple[Turn, bool]], context: Context
) -> list[tuple[float, bool]]:
    found = []
    for attempt, truth in tries:
        share = mark(written, attempt.said, answers(episode, attempt, written, context)).share
        if share is not None:
            found.append((share, truth))
    return found


def _valued(episode: Episode, turns: Sequence[Turn]) -> list[float]:
    values = (value_of(episode.score(turn.index, VERIFIER)) for turn in turns)
    return [value for value in values if value is not None]


def _unvalued(name: str, turns: Sequence[Turn], by: str) -> Score:
    if turns:
        return Score.invalid(name, by, f"none of {len(turns)} attempts has a valued score")
    return Score.missing(name, by, "no attempt")
