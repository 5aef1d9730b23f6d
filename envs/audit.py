"""The verifier audit: what answers that need no understanding earn, and whether a verifier keeps its word.

Every cheap way of answering is played through whole episodes: fixed texts, the environment's own junk, its prompt given
back, and the right answers of other tasks. ``check`` and a run's start read the same report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator

from sparring.scenarios.seeds import derive

from .base import Environment
from .cheap import Cheap, Play, guesses, short, ways
from .types import Score, Task, Validity

VERIFIER = "verifier"
LONGEST = 200  # actions of one episode; one that lasts longer is cut, its scores so far count
FIRST = 2  # tasks every way is tried on before only those that earned something go on
FINALISTS = 3  # ways measured again on fresh tasks: the best of many on few tasks looks better than it is
AGAIN = 4  # times as many fresh tasks as tasks
TWICE = 4  # of the fixed texts every so many is said twice, of all other ways each
SURE = 1.645  # standard errors: one time in twenty chance alone puts the mean so far above the truth
TRIES = 4  # draws per task wanted before a source counts as dry

Draw = Callable[[Generator, int], Task]


@dataclass(frozen=True, slots=True)
class Result:
    """What one way of answering earned: the mean over ``tasks`` episodes of the best verifier score in each.

    ``least`` is what it earns whatever luck the draw of the tasks had: the mean less 1.645 standard errors.
    """

    name: str
    example: str
    mean: float
    least: float
    tasks: int
    seat: str | None = None

    @property
    def where(self) -> str:
        """The seat in words, where there are seats."""
        return f" in seat {self.seat}" if self.seat else ""


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``of``; ``example`` is the first."""

    count: int = 0
    of: int = 0
    example: str = ""

    @property
    def value(self) -> float:
        """The share, 0 of 0 being 0."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Ways best first. ``oracle``: mean of the environment's own right answers, ``None`` when it gives none.

    ``oracle_worst`` says which of them earned least, ``untried`` how many ways were left when time was up, ``skipped``
    why nothing could be tried: no figure then counts.
    """

    environment: str
    tasks: int = 0
    ways: tuple[Result, ...] = ()
    oracle: float | None = None
    oracle_worst: str = ""
    exceptions: Share = field(default_factory=Share)
    invalid: Share = field(default_factory=Share)
    unstable: Share = field(default_factory=Share)
    untried: int = 0
    seconds: float = 0.0
    skipped: str = ""

    @property
    def best(self) -> Result | None:
        """The cheap way that earns most."""
        return self.ways[0] if self.ways else None

    def to_json(self) -> dict[str, Any]:
        """Plain data: what a run keeps and ``check --json`` prints."""
        plain = asdict(self)
        plain["ways"] = list(plain["ways"][:5])
        plain["n_ways"] = len(self.ways)
        return plain

    def lines(self) -> list[str]:
        """The report as text, a figure a line."""
        if self.skipped:
            return [f"not audited: {self.skipped}"]
        best = [way for way in self.ways if way.mean > 0][:3]
        shares = {
            "episodes that raised": self.exceptions,
            "scores that are invalid": self.invalid,
            "answers scored differently when given again": self.unstable,
        }
        return [
            f"{len(self.ways)} cheap ways of answering on {self.tasks} tasks, {self.seconds:.1f} s; "
            + ("the best:" if best else "none earns anything"),
            *(f"  {way.mean:.3f}  {way.name}{way.where} on {way.tasks} tasks" for way in best),
            "right answers earn " + ("an unknown mark: no oracle()" if self.oracle is None else f"{self.oracle:.3f}"),
            *(
                f"{name}: {share.count} of {share.of}{f', such as {share.example}' if share.count else ''}"
                for name, share in shares.items()
            ),
            *([f"time was up: {self.untried} ways are untried"] if self.untried else []),
        ]


@dataclass(slots=True)
class Played:
    """One episode: the verifier's values, how many scores were unusable, and whatever it raised.

    ``said`` are the actions of the seat that was watched; ``dumb`` is true where a seat had nothing to say.
    """

    values: list[float] = field(default_factory=list)
    invalid: int = 0
    error: str = ""
    dumb: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def mark(self) -> float | None:
        """The best verifier value of the episode: what such an answer can earn; ``None`` without one."""
        return max(self.values, default=None)

    @property
    def last(self) -> str:
        """The last action of the seat watched."""
        return self.said[-1] if self.said else ""

    def note(self, scores: Sequence[Score]) -> None:
        """Count one step's scores; a number that is not finite is no score."""
        for score in scores:
            if score.validity is Validity.VALUED and score.value is not None and math.isfinite(score.value):
                self.values.append(float(score.value))
            elif score.validity is not Validity.MISSING:
                self.invalid += 1


def audit(
    environment: Environment, draw: Draw | None = None, *, tasks: int = 8, seed: int = 0, limit_s: float = math.inf
) -> AuditReport:
    """Try every cheap way of answering on ``tasks`` tasks of ``draw`` (the environment's own by default).

    Equal seeds give equal figures, unless ``limit_s`` ends it before all ways are tried, the likeliest first. The
    environment is left in the middle of an episode: reset it before use.
    """
    began = time.perf_counter()
    report = _Audit(environment, draw or own_tasks(environment), tasks, seed, began + limit_s).report()
    return replace(report, seconds=round(time.perf_counter() - began, 3))


def own_tasks(environment: Environment) -> Draw:
    """Tasks of the environment's own generator: with its first parameters, and with one of them changed in turn."""

    def draw(rng: Generator, index: int) -> Task:
        parameters = {name: values[0] for name, values in environment.parameters.items()}
        names = sorted({*parameters, *environment.ranges})
        if index % 2 and names:
            name = names[(index // 2) % len(names)]
            if name in parameters:
                values = environment.parameters[name]
                parameters[name] = values[int(rng.integers(len(values)))]
            else:
                low, high = environment.ranges[name]
                parameters[name] = low + float(rng.random()) * (high - low)
        return environment.sample(parameters, rng)

    return draw


def verdicts(info: Mapping[str, Any], reward: float, seat: str | None, acted: bool = True) -> list[Score]:
    """The verifier's scores that one step gave ``seat``, which ``acted`` or only watched.

    A list is for the seat that acted, a mapping for the seats it names. Without either the reward is the verdict, as
    in any Gymnasium environment.
    """
    scores = info.get("scores")
    if isinstance(scores, Mapping):
        found = list(scores.get(seat, ())) if seat is not None else [one for each in scores.values() for one in each]
    elif not acted:
        return []
    else:
        found = [Score.valued(VERIFIER, reward, "environment")] if scores is None else list(scores)
    return [score for score in found if score.name == VERIFIER]


def play_out(
    environment: Environment, task: Task, seed: int, speak: Callable[[str, int], str | None], seat: str | None = None
) -> Played:
    """One episode on ``task``: ``speak(observation, turn)`` acts in ``seat``, the environment's oracle in the others.

    Never raises: what the environment raises is in ``error``.
    """
    played = Played()
    try:
        observation, _ = environment.reset(seed=seed, options={"task": task})
        for _ in range(LONGEST):
            ours = seat is None or environment.addressee in (None, seat)
            action = speak(observation, len(played.said)) if ours else environment.oracle()
            if action is None:
                played.dumb = True
                return played
            if ours:
                played.said.append(action)
            observation, reward, terminated, truncated, info = environment.step(action)
            played.note(verdicts(info, float(reward), seat, ours))
            if terminated or truncated:
                break
    except Exception as error:  # the environment is a plug-in: whatever it raises is counted
        played.error = f"{type(error).__name__}: {error}"
    return played


class _Audit:
    """One audit: the tasks, what is right on others, and the counts."""

    def __init__(self, environment: Environment, draw: Draw, n_tasks: int, seed: int, until: float) -> None:
        self.environment = environment
        self.rng = np.random.Generator(np.random.Philox(derive(seed, "audit")))
        self.seed = seed
        self.draw = draw
        self.n_tasks = n_tasks
        self.until = until
        self.untried = 0
        self.drawn = 0
        self.problem = ""
        self.episodes = self.raised = self.scored = self.invalid = self.twice = self.other = 0
        self.example: dict[str, str] = {}

    def report(self) -> AuditReport:
        """Everything tried, best first."""
        name = type(self.environment).__name__
        if self.environment.unaudited:
            return AuditReport(name, skipped=self.environment.unaudited)
        tasks = self._tasks(self.n_tasks)
        if not tasks:
            return AuditReport(name, skipped=f"no task could be drawn: {self.problem}")
        fresh = self._tasks(AGAIN * self.n_tasks)
        found: list[Result] = []
        marks: list[float] = []
        seats: Sequence[str | None] = self.environment.seats or (None,)
        for seat in seats:
            right = {task.key: self._right(task, seat, marks) for task in (*tasks, *fresh) if not (marks and self.late)}
            found += self._ways(tasks, fresh, right, seat)
        if not self.scored:
            return AuditReport(
                name, len(tasks), skipped="no episode came to a score named verifier", exceptions=self._raised()
            )
        return AuditReport(
            name,
            len(tasks),
            tuple(sorted(found, key=lambda way: (-way.mean, way.name))),
            _mean(marks) if marks else None,
            self.example.get("oracle", ""),
            self._raised(),
            Share(self.invalid, self.scored, self.example.get("invalid", "")),
            Share(self.other, self.twice, self.example.get("unstable", "")),
            self.untried,
        )

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return time.perf_counter() > self.until

    def _raised(self) -> Share:
        return Share(self.raised, self.episodes, self.example.get("raised", ""))

    def _tasks(self, wanted: int) -> list[Task]:
        """Up to ``wanted`` tasks with keys of their own; fewer where the source has no more."""
        found: dict[str, Task] = {}
        for _ in range(TRIES * wanted):
            try:
                task = self.draw(self.rng, self.drawn)
                found.setdefault(task.key, task)
            except Exception as error:  # a source may lack rows for one arm: others are tried
                self.problem = f"{type(error).__name__}: {error}"
            self.drawn += 1
            if len(found) == wanted:
                break
        return list(found.values())

    def _right(self, task: Task, seat: str | None, marks: list[float]) -> list[Play]:
        """What the oracle says on ``task``, its mark noted; without an oracle, the task's short secrets."""
        played = self._episode(task, lambda observation, turn: self.environment.oracle(), seat)
        if played.dumb:
            return guesses(task)
        mark = 0.0 if played.error else played.mark
        if mark is not None:
            if mark < min(marks, default=1.0):
                self.example["oracle"] = (
                    f"{short(played.last)} earned {mark:g}{f', {e}' if (e := played.error) else ''}"
                )
            marks.append(mark)
        return [tuple(played.said)]

    def _ways(
        self, tasks: Sequence[Task], fresh: Sequence[Task], right: Mapping[str, Sequence[Play]], seat: str | None
    ) -> list[Result]:
        """Every way on the first tasks; those that earn, on all; the best of these, on fresh tasks alone."""
        found: list[tuple[Cheap, list[float]]] = []
        for place, way in enumerate(ways(self.environment, tasks[0], right)):
            if self.late:
                self.untried += 1
                continue
            marks = self._marks(way, tasks[:FIRST], seat, twice=not way.fixed or place % TWICE == 0)
            if way.mined or any(mark > 0 for mark in marks):
                marks += self._marks(way, tasks[FIRST:], seat)
            if marks:
                found.append((way, marks))
        found.sort(key=lambda one: -_mean(one[1]))
        results = []
        for place, (way, marks) in enumerate(found):
            if place < FINALISTS and _mean(marks) > 0:
                marks = self._marks(way, fresh, seat) or marks
            results.append(Result(way.name, way.example, _mean(marks), _least(marks), len(marks), seat))
        return results

    def _marks(self, way: Cheap, tasks: Sequence[Task], seat: str | None, twice: bool = False) -> list[float]:
        """The mark on each task the way applies to; an episode without a usable score is counted, not marked."""
        marks: list[float] = []
        for index, task in enumerate(tasks):
            if self.late and marks:
                break
            played = self._episode(task, partial(way.say, task), seat)
            if played.dumb:
                continue
            if twice and index == 0 and not played.error:
                self._compare(played, self._episode(task, partial(way.say, task), seat))
            if (mark := played.mark) is not None:
                marks.append(mark)
        return marks

    def _compare(self, before: Played, again: Played) -> None:
        self.twice += 1
        if again.values != before.values:
            self.other += 1
            seen = f"{short(before.last)} earned {before.values} and {again.values}"
            self.example.setdefault("unstable", seen)

    def _episode(self, task: Task, speak: Callable[[str, int], str | None], seat: str | None) -> Played:
        played = play_out(self.environment, task, derive(self.seed, "audit", task.key), speak, seat)
        self.episodes += bool(played.said)
        self.scored += len(played.values) + played.invalid
        self.invalid += played.invalid
        if played.invalid:
            self.example.setdefault("invalid", f"for {short(played.last)}")
        if played.error:
            self.raised += 1
            self.example.setdefault("raised", f"{short(played.last)}: {played.error}"[:200])
        return played


def _least(marks: Sequence[float]) -> float:
    mean = _mean(marks)
    spread = math.sqrt(sum((mark - mean) ** 2 for mark in marks) / max(1, len(marks) - 1))
    return mean - SURE * spread / math.sqrt(max(1, len(marks)))


def _mean(marks: Sequence[float]) -> float:
    return sum(marks) / len(marks) if marks else 0.0
