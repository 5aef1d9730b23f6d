"""What every mode of the dialogue environment is: tasks, two seats, what each hears, what a scripted partner says.

A mode holds no episode: what changes while one is played is the ``Talk`` that its methods are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from numpy.random import Generator

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.problems import unknown

from .fiction import DRAWS, Split, on_side
from .options import DialogueOptions
from .words import Words

BY = "dialogue"
VERIFIER = "verifier"


@dataclass
class Talk:
    """Where a conversation stands: who speaks ``next`` and the ``observation`` for that seat; the main seat's turns."""

    next: str
    observation: str
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one turn: scores by seat, each for that seat's newest turn, and whether and how it all ended."""

    scores: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    over: bool = False
    truncated: bool = False


T = TypeVar("T", bound=Talk)


class Mode(Generic[T]):
    """Base of every mode. ``seats``: the one that is judged, and its partner.

    The class attributes mean what those of ``Environment`` mean. A subclass gives ``draw``, ``begin``, ``hear``,
    ``reply`` and ``oracle``.
    """

    name: ClassVar[str]
    seats: ClassVar[tuple[str, str]]
    parameters: ClassVar[Mapping[str, Sequence[Any]]]
    disclosures: ClassVar[tuple[str, ...]] = ()
    row_fields: ClassVar[Mapping[str, type]] = {}
    unaudited: ClassVar[str] = ""

    def __init__(self, options: DialogueOptions) -> None:
        self.options = options

    def sample(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        """A generated task on this side of the split; raises ``ScenarioError`` for a parameter of another mode."""
        wanted = {name: values[0] for name, values in self.parameters.items()}
        for name, value in parameters.items():
            if name not in wanted:
                raise ScenarioError(f"environment dialogue, mode {self.name}: {unknown('parameter', name, wanted)}")
            wanted[name] = value
        for _ in range(DRAWS):
            task = self.draw(wanted, rng)
            if task is not None and on_side([self.name, dict(task.payload), dict(task.secret)], split):
                return task
        raise ScenarioError(f"environment dialogue, mode {self.name}: no task with {wanted} after {DRAWS} draws")

    def draw(self, parameters: Mapping[str, Any], rng: Generator) -> Task | None:
        """A task with these parameters; ``None`` when the draw made none that is worth playing."""
        raise NotImplementedError(f"mode {self.name} has no generator; name a task source in the scenario")

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """A row of a file as a task; raises ``ScenarioError`` that begins with ``where``."""
        raise ScenarioError(f"{where}: dialogue mode {self.name} does not take tasks from a file")

    def begin(self, task: Task) -> T:
        """The conversation before the first turn."""
        raise NotImplementedError(f"mode {self.name} must define begin")

    def hear(self, task: Task, talk: T, said: Words) -> Heard:
        """Take the turn of ``talk.next`` and write down in ``talk`` who is addressed now, with what."""
        raise NotImplementedError(f"mode {self.name} must define hear")

    def reply(self, task: Task, talk: T) -> str:
        """What a scripted, well-behaved partner says now."""
        raise NotImplementedError(f"mode {self.name} must define reply")

    def oracle(self, task: Task, talk: T) -> str | None:
        """The best thing the addressed seat can say now; ``None`` when it is not known."""
        raise NotImplementedError(f"mode {self.name} must define oracle")

    def decoy(self, task: Task) -> str:
        """What an injecting partner wants to hear said: something wrong."""
        return "<answer>nothing</answer>"

    def due(self, task: Task, talk: T) -> bool:
        """Whether a scripted partner behaves now, whatever its manner: it would spoil the task for good."""
        return False

    def task(self, payload: Mapping[str, Any], secret: Mapping[str, Any], parameters: Mapping[str, Any], origin: str,
             extra_skills: Sequence[str] = ()) -> Task:  # fmt: skip
        """A task of this mode. Its key covers the secret: the same question about another world is another task."""
        made = Task("dialogue", dict(payload), dict(secret), dict(parameters), (self.name, *extra_skills), origin)
        whole = Task("dialogue", {"payload": made.payload, "secret": made.secret})
        return Task(
            made.environment, made.payload, made.secret, made.parameters, made.skills, made.origin, key=whole.key
        )


def verdict(value: float, note: str) -> Score:
    """A valued verifier score."""
    return Score.valued(VERIFIER, value, by=BY, note=note)


def figure(name: str, value: float, note: str = "") -> Score:
    """Another valued score of this environment."""
    return Score.valued(name, value, by=BY, note=note)


def field_of(row: Mapping[str, Any], name: str, where: str, fits: Callable[[Any], bool], wanted: str) -> Any:
    """A field of a row; raises ``ScenarioError`` that says what is wanted where it does not fit."""
    value = row.get(name)
    if not fits(value):
        raise ScenarioError(f"{where}: field {name!r} must be {wanted}, got {value!r:.60}")
    return value


def is_text(value: object) -> bool:
    """Whether ``value`` is text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def is_table(value: object) -> bool:
    """Whether ``value`` maps names to texts, none of them empty."""
    return isinstance(value, Mapping) and bool(value) and all(is_text(k) and is_text(v) for k, v in value.items())


def is_list(value: object) -> bool:
    """Whether ``value`` is a list of texts, none of them empty."""
    return isinstance(value, list) and bool(value) and all(is_text(one) for one in value)
