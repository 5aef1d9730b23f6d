"""What a step's episodes say in a few numbers: for the live view, the step's metrics and the evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean

from sparring.agents.conditions import VERIFIER, outcome
from sparring.agents.engine import DEMONSTRATION, UNSAMPLED
from sparring.agents.exam import votes
from sparring.agents.rewards import judged, value_of
from sparring.agents.scaffold import SCAFFOLD
from sparring.agents.stage import EMPTY
from sparring.envs.types import SIMILAR, Ending, Episode, Span, Turn, Validity
from sparring.scenarios.schema import GraphSpec

Figures = dict[str, float | None]


def summarise(episodes: Sequence[Episode]) -> Figures:
    """Flat figures of a step.

    ``tokens`` are those a model sampled: what was demonstrated or is a template's costs none. ``score/ROLE/NAME`` is
    the mean of valued scores, ``invalid/NAME`` how many were not usable, ``empty_answer/ROLE`` how many answers without
    content a judge was not asked about, ``accepted`` the share of proposals that became tasks, ``refused/REASON`` why
    others did not, ``first/right`` the share of first attempts that are right, ``scaffold/ROLE`` the mean share of help
    that was shown, ``scaffold_gain/ROLE`` how much more the verifier gave answers that were shown some, and
    ``balanced/ROLE`` the mean over right and wrong attempts of how often a role's verdict is true. ``vote/ROLE`` is how
    often the answer most of a role's siblings give is right, ``vote/ROLE/NAME`` the one with most of the score NAME.
    """
    figures: Figures = {"episodes": float(len(episodes))}
    figures["broken"] = float(sum(episode.ending is Ending.BROKE for episode in episodes))
    figures["turns"] = float(sum(bool(turn.token_ids) for _, turn in _turns(episodes)))
    sampled = (turn for _, turn in _turns(episodes) if turn.engine not in UNSAMPLED)
    figures["tokens"] = float(sum(len(turn.token_ids) for turn in sampled))
    parts = (_scaffolds, _scores, _proposals, _first, _balanced, votes)
    return {name: value for part in parts for name, value in part(episodes).items()} | figures


def lateness(episodes: Sequence[Episode], step: int, trained: Collection[str]) -> Figures:
    """``late`` is the mean number of updates between the policy that spoke and the one that ``step`` trains.

    Over sampled tokens of ``trained`` roles; ``late/most`` is the largest.
    """
    late = [
        (step - 1 - span.version, span.end - span.start)
        for _, turn in _turns(episodes)
        for span in turn.spans or (Span(turn.policy_version, 0, len(turn.token_ids)),)
        if turn.token_ids and turn.author in trained and turn.engine != DEMONSTRATION
    ]
    tokens = sum(count for _, count in late)
    if not tokens:
        return {}
    return {"late": sum(by * count for by, count in late) / tokens, "late/most": float(max(by for by, _ in late))}


def searched(episodes: Sequence[Episode], graph: GraphSpec) -> Figures:
    """What tree searches made of their tasks, as means over tasks that were attempted; nothing where none searches.

    ``search/turns`` is the number of role turns below a task, ``search/depth`` that on its longest branch,
    ``search/ends`` the ends that were judged, ``search/right`` the share of them that is right, ``search/found`` the
    share of tasks with a right end, ``search/mixed`` of those with a right and a wrong one.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for episode in episodes if graph.searches else ():
        for key in dict.fromkeys(turn.task for turn in episode.turns if turn.task is not None):
            for name, value in _tree(episode, key).items():
                found[f"search/{name}"].append(value)
    return {name: fmean(values) for name, values in found.items()}


def _tree(episode: Episode, key: str) -> dict[str, float]:
    """The figures of one task; none where nothing was judged."""
    said: dict[int | None, int] = {}  # by turn: role turns on its branch
    marks: dict[int | None, bool | None] = {}  # by turn: whether the newest judged turn on its branch is right
    mine = [turn for turn in episode.turns if turn.task == key]
    for turn in mine:
        said[turn.index] = said.get(turn.parent, 0) + bool(turn.token_ids)
        own = outcome(episode.score(turn.index, VERIFIER))
        marks[turn.index] = marks.get(turn.parent) if own is None else own
    inner = {turn.parent for turn in mine}
    right = [mark for turn in mine if turn.index not in inner and (mark := marks[turn.index]) is not None]
    if not right:
        return {}
    turns = sum(bool(turn.token_ids) for turn in mine)
    figures = {"turns": turns, "depth": max(said.values()), "ends": len(right), "right": fmean(right)}
    return {name: float(value) for name, value in figures.items()} | {
        "found": float(any(right)),
        "mixed": float(len(set(right)) > 1),
    }


def _turns(episodes: Sequence[Episode]) -> Iterator[tuple[Episode, Turn]]:
    return ((episode, turn) for episode in episodes for turn in episode.turns)


def _scores(episodes: Sequence[Episode]) -> Figures:
    valued: defaultdict[str, list[float]] = defaultdict(list)
    invalid: defaultdict[str, int] = defaultdict(int)
    for episode, turn in _turns(episodes):
        for score in episode.scores.get(turn.index, ()):
            if score.validity is Validity.VALUED and score.value is not None:
                valued[f"score/{turn.author}/{score.name}"].append(score.value)
            elif score.validity is Validity.INVALID:
                invalid[f"invalid/{score.name}"] += 1
            elif score.name == EMPTY:
                invalid[f"{EMPTY}/{turn.author}"] += 1
    figures: Figures = {name: fmean(values) for name, values in valued.items()}
    return figures | {name: float(count) for name, count in invalid.items()}


def _scaffolds(episodes: Sequence[Episode]) -> Figures:
    shown: defaultdict[str, list[float]] = defaultdict(list)
    earned: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for episode, turn in _turns(episodes):
        share = value_of(episode.score(turn.index, SCAFFOLD))
        if share is None:
            continue
        shown[turn.author].append(share)
        verdict = value_of(episode.score(turn.index, VERIFIER))
        if verdict is not None:
            earned[turn.author, share > 0].append(verdict)
    figures: Figures = {f"scaffold/{role}": fmean(shares) for role, shares in shown.items()}
    both = [role for role in shown if earned[role, True] and earned[role, False]]
    return figures | {f"scaffold_gain/{role}": fmean(earned[role, True]) - fmean(earned[role, False]) for role in both}


def _proposals(episodes: Sequence[Episode]) -> Figures:
    refused: defaultdict[str, int] = defaultdict(int)
    admitted = 0
    for episode, turn in _turns(episodes):
        if turn.index in episode.refusals:
            refused[f"refused/{episode.refusals[turn.index].reason}"] += 1
        elif any(below.parent == turn.index and _proposed(episode, turn, below) for below in episode.turns):
            admitted += 1
    total = admitted + sum(refused.values())
    if not total:
        return {}
    figures: Figures = {"accepted": admitted / total}
    return figures | {name: float(count) for name, count in refused.items()}


def _proposed(episode: Episode, turn: Turn, below: Turn) -> bool:
    """Whether a task came into force below that was made of this turn's words: neither drawn nor in force before."""
    task = None if below.task is None else episode.task(below.task)
    known = {before.task for before in episode.ancestors(turn.index)}
    return task is not None and task.operator != SIMILAR and task.key not in known


def _first(episodes: Sequence[Episode]) -> Figures:
    right = []
    for episode, turn in _turns(episodes):
        verdict = outcome(episode.score(turn.index, VERIFIER))
        if verdict is not None and judged(episode, turn) is None:
            right.append(verdict)
    return {"first/right": fmean(right)} if right else {}


def _balanced(episodes: Sequence[Episode]) -> Figures:
    true_of: dict[str, Mapping[bool, list[bool]]] = {}
    for episode, turn in _turns(episodes):
        score = episode.score(turn.index, "verdict")
        attempt = judged(episode, turn)
        if score is None or score.value is None or attempt is None:
            continue
        side = outcome(episode.score(attempt.index, VERIFIER))
        if side is not None:
            true_of.setdefault(turn.author, {True: [], False: []})[side].append(score.value >= 1.0)
    return {
        f"balanced/{role}": fmean(fmean(side) for side in sides.values())
        for role, sides in true_of.items()
        if all(sides.values())
    }
