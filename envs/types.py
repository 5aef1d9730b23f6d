"""The records that flow through a run: Task, Turn, Score, Rubric, Episode. Frozen; change makes a copy.

Data only: who makes them and what they mean is told in ``sparring.agents`` and ``sparring.training``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

SIMILAR = "similar"  # the operator of a task that was drawn to be like its parent
JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"


def canonical(value: object) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: object, length: int = 16) -> str:
    """Hex SHA-256 of the canonical JSON text of ``value``, cut to ``length`` characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


class Validity(StrEnum):
    """Whether a score may be used. Only ``VALUED`` carries a number; the others are masked, never read as 0."""

    VALUED = "valued"
    INVALID = "invalid"
    MISSING = "missing"


class Finish(StrEnum):
    """Why an engine stopped.

    It sampled a stop token, used up its budget or the model's context, or could not go on (``ABORT``: no fault of the
    model, so nothing it said counts).
    """

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    ABORT = "abort"


class Ending(StrEnum):
    """How an episode ended."""

    DONE = "done"
    REFUSED = "refused"  # the environment refused the proposed task
    BROKE = "broke"  # an error on our side; recorded, excluded from training


@dataclass(frozen=True, slots=True)
class Task:
    """What one episode is about. ``payload`` may be read by any role; ``secret`` only by roles that ``sees`` names."""

    environment: str
    payload: Mapping[str, Any]
    secret: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    skills: tuple[str, ...] = ()
    origin: str = ""
    parent: str | None = None
    operator: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        """Derive ``key`` from environment and payload: equal problems have equal keys whoever set them."""
        if not self.key:
            object.__setattr__(self, "key", digest([self.environment, self.payload]))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a proposal is no task. ``reason`` is one word of a closed set the environment documents."""

    reason: str
    detail: str = ""


class CriterionKind(StrEnum):
    """What a criterion means for the total: points, or a veto that sets it to zero when broken."""

    HARD = "hard"
    PRINCIPLE = "principle"
    NUGGET = "nugget"
    VETO = "veto"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One row of a rubric. ``checker`` is ``rule`` (a registered rule reads ``text``) or ``judge`` (a role answers)."""

    text: str
    points: float = 1.0
    kind: CriterionKind = CriterionKind.HARD
    checker: str = "rule"


@dataclass(frozen=True, slots=True)
class Rubric:
    """Criteria for one task, in order. ``author``: index of the turn that wrote it, ``None`` if no turn did."""

    criteria: tuple[Criterion, ...]
    author: int | None = None
    version: int = 1
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class CriterionScore:
    """What one criterion of one rubric gave one turn: ``share`` in [0, 1] of its points, ``None`` unless valued."""

    rubric_turn: int | None
    criterion: int
    share: float | None
    validity: Validity
    by: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """One reward component of one turn. ``value`` is ``None`` unless ``validity`` is ``VALUED``; ``by``: who judged."""

    name: str
    value: float | None
    validity: Validity
    by: str
    note: str = ""
    criteria: tuple[CriterionScore, ...] = ()

    @classmethod
    def valued(cls, name: str, value: float, by: str, note: str = "", criteria: Sequence[CriterionScore] = ()) -> Score:
        """A usable score."""
        return cls(name, float(value), Validity.VALUED, by, note, tuple(criteria))

    @classmethod
    def invalid(cls, name: str, by: str, note: str) -> Score:
        """The judge failed (crash, time-out, garbage); ``note`` says how. Masked out of groups."""
        return cls(name, None, Validity.INVALID, by, note)

    @classmethod
    def missing(cls, name: str, by: str, note: str = "") -> Score:
        """Nothing to judge here (no attempts to compare, say). Masked out of groups."""
        return cls(name, None, Validity.MISSING, by, note)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a role's parser read from model text. ``problem`` is ``None`` when the contract was kept."""

    kind: str
    value: Any = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the role said something its contract allows."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Segment:
    """Text a role newly read before it spoke, and the token ids the engine saw for it."""

    text: str
    token_ids: tuple[int, ...]

    @property
    def key(self) -> str:
        """Content hash; siblings share one stored segment."""
        ids = array("I", self.token_ids)  # four bytes each, little-endian
        if sys.byteorder == "big":
            ids.byteswap()
        return hashlib.sha256(ids).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` up to, not including, ``end`` of a turn were sampled by policy ``version``."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One message by one author. Turns of an episode form a tree by ``parent``; a role's conversation is a chain by
    ``follows``.

    The engine's prompt for a role turn is, along the ``follows`` chain, each turn's ``context.token_ids`` and
    ``token_ids``, then this turn's ``context.token_ids``. Where there is a ``train_context`` it is the whole prompt
    that the update reads before this turn's tokens: help shown while sampling is stripped, and what was said before is
    not read. Environment turns have no tokens. ``engine`` names what spoke: an engine, ``demonstration`` where nobody
    sampled, the environment's ``stamp``. Log-probs are NaN where they are unknown. ``spans`` say which policy sampled
    which tokens where it changed in mid-turn; ``policy_version`` is then the oldest.
    """

    index: int
    parent: int | None
    node: str
    author: str  # a role's name, or "environment"
    said: str
    sample: int = 0
    follows: int | None = None
    context: Segment | None = None
    train_context: Segment | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish | None = None
    policy_version: int = 0
    engine: str = ""
    parsed: Parsed | None = None
    task: str | None = None  # key of the task in force once this turn was made
    seed: int = 0
    addressee: str | None = None  # the seat an environment turn is for; None: everybody
    spans: tuple[Span, ...] = ()  # empty: one policy sampled all of it

    def __post_init__(self) -> None:
        """Refuse tokens without a log-prob each: the trainer would weigh the wrong token."""
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(f"turn {self.index}: {len(self.token_ids)} token ids, {len(self.logprobs)} log-probs")

    def amended(self, **changes: Any) -> Turn:
        """A copy with ``changes``."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Position:
    """A decision of a game: who decides, what that seat reads, and the texts it may say. ``label`` names it."""

    label: str
    seat: str
    observation: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """One curriculum decision: ``count`` episodes with these ``parameters``. ``arm`` names the cell it came from."""

    arm: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    count: int = 1


@dataclass(frozen=True, slots=True)
class Episode:
    """One run of the graph: a tree of turns with the tasks, rubrics and scores that arose in it.

    ``pick`` is the index, within the step, of the curriculum decision this episode is a child of. ``scores`` maps a
    turn index to its scores, ``rubrics`` a rubric-writing turn to its rubric. Refused proposals are in ``refusals``.
    """

    index: int
    pick: int
    parameters: Mapping[str, Any]
    turns: tuple[Turn, ...]
    tasks: tuple[Task, ...]
    scores: Mapping[int, tuple[Score, ...]]
    rubrics: Mapping[int, Rubric]
    refusals: Mapping[int, Refusal]
    ending: Ending
    error: str = ""
    seconds: float = 0.0

    def task(self, key: str | None) -> Task | None:
        """The task with this key, if it arose here."""
        return next((task for task in self.tasks if task.key == key), None)

    def ancestors(self, index: int | None) -> list[Turn]:
        """The turn itself, its parent, and so on up to the root."""
        path: list[Turn] = []
        while index is not None:
            path.append(self.turns[index])
            index = self.turns[index].parent
        return path

    def descendants(self, index: int) -> list[Turn]:
        """All turns below this one, in the order they were made."""
        below = {index}
        found: list[Turn] = []
        for turn in self.turns[index + 1 :]:
            if turn.parent in below:
                below.add(turn.index)
                found.append(turn)
        return found

    def score(self, index: int, name: str) -> Score | None:
        """The score of this name on this turn, if any."""
        return next((score for score in self.scores.get(index, ()) if score.name == name), None)
