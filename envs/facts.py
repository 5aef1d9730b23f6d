"""Made-up facts: a subject and its number, as short documents. No model can know them; a question has one answer.

``draw`` invents them, ``written`` puts one into words, ``chain`` says which of them a question needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import task_sources

from .base import Environment
from .dialogue.fiction import DRAWS, Split, on_side, several
from .types import Task

Style = Literal["plain", "prose"]
ROW = ("question", "answer", "documents", "document")  # what the source gives an environment
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Fact:
    """``subject`` has the number ``value``; where ``value`` is another subject, it has that one's number."""

    subject: str
    value: str


def draw(
    rng: Generator, count: int, linked: int = 0, syllables: int = 1, digits: int = 2, letters: int = len(LETTERS)
) -> list[Fact]:
    """``count`` facts about different subjects in random order; ``linked`` of them refer to one that states its number.

    ``syllables`` 0: subjects are single letters, the first ``letters``, or ``count`` where that is more.
    Numbers have ``digits`` digits and differ from each other while there are enough; 0 and 1 are not among them, so
    that no constant answer is often right.

    >>> import numpy as np
    >>> draw(np.random.default_rng(0), 3, linked=1, syllables=0)
    [Fact(subject='e', value='47'), Fact(subject='k', value='t'), Fact(subject='t', value='46')]
    """
    linked = min(linked, count - 1)
    if syllables:
        subjects = several(rng, count, syllables)
    else:
        subjects = [LETTERS[at] for at in rng.permutation(max(letters, count))[:count]]
    least = max(2, 10 ** (digits - 1))
    room = 10**digits - least
    drawn = rng.choice(room, size=count - linked, replace=room < count - linked)
    stated = [Fact(subject, str(least + int(n))) for subject, n in zip(subjects, drawn, strict=False)]
    targets = rng.integers(len(stated), size=linked)
    referring = zip(subjects[len(stated) :], targets, strict=True)
    found = [*stated, *(Fact(subject, stated[int(at)].subject) for subject, at in referring)]
    return [found[at] for at in rng.permutation(len(found))]


def written(fact: Fact, style: Style = "prose") -> str:
    """The fact as a document.

    >>> written(Fact("tom", "52")), written(Fact("b", "tom"), "plain")
    ('The number of tom is 52.', 'b=tom')
    """
    if style == "plain":
        return f"{fact.subject}={fact.value}"
    return f"The number of {fact.subject} is {fact.value if fact.value.isdigit() else f'that of {fact.value}'}."


def asked(subject: str, style: Style = "prose") -> str:
    """The question about a subject."""
    return subject if style == "plain" else f"What is the number of {subject}?"


def chain(facts: Sequence[Fact], subject: str) -> list[Fact]:
    """The facts one must read to learn the subject's number, in order; empty when they do not tell it.

    >>> chain([Fact("a", "b"), Fact("b", "7")], "a")
    [Fact(subject='a', value='b'), Fact(subject='b', value='7')]
    """
    known = {fact.subject: fact for fact in facts}
    found: list[Fact] = []
    while subject in known and known[subject] not in found:
        found.append(known[subject])
        subject = known[subject].value
    return found if found and found[-1].value.isdigit() else []


class FactOptions(BaseModel):
    """``facts``: how many are invented for a task. ``linked``: how many of them refer to another one. ``syllables`` of
    a subject (0: a letter), ``digits`` of a number. ``style``: ``prose`` (sentences) or ``plain`` (``tom=52``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    facts: int = Field(1, ge=1, le=26)
    linked: int = Field(0, ge=0, le=25)
    syllables: int = Field(1, ge=0, le=4)
    digits: int = Field(2, ge=1, le=6)
    style: Style = "prose"


@task_sources("facts")
class FactSource:
    """Questions about made-up facts, for any environment that takes rows with ``question`` and ``answer``.

    A row also has ``documents``, all the facts in words, and ``document``, the one that the question begins with.
    """

    Config: ClassVar[type[BaseModel]] = FactOptions
    finite = False

    def __init__(self, config: BaseModel | Mapping[str, Any] | None, environment: Environment) -> None:
        """``config`` is a ``FactOptions``, or a mapping it validates."""
        self.options = config if isinstance(config, FactOptions) else FactOptions.model_validate(dict(config or {}))
        self._environment = environment

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A fresh task of the training side, with these parameters."""
        return self._drawn(parameters, rng, "train")

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A fresh task of the side that is kept for evaluation."""
        return self._drawn(parameters, rng, "held_out")

    def tasks(self) -> Iterator[Task]:
        """There is no end to invented facts: always ``ScenarioError``."""
        raise ScenarioError("task source 'facts' has no list of tasks; sample from it, or use kind: jsonl")

    def _drawn(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        options = self.options
        self._check(parameters)
        for _ in range(DRAWS):
            facts = draw(rng, options.facts, options.linked, options.syllables, options.digits)
            one = facts[int(rng.integers(len(facts)))]
            if on_side([[fact.subject, fact.value] for fact in facts], split):
                return self._environment.task_from_row(self._row(facts, one) | dict(parameters), "facts")
        raise ScenarioError(f"task source 'facts': no task for {split} after {DRAWS} draws")

    def _check(self, parameters: Mapping[str, Any]) -> None:
        """A curriculum can change nothing of what is made here; ``ScenarioError`` where it says otherwise."""
        own = self.options.model_dump()
        bad = [name for name in parameters if name in ROW or name in own]
        if bad:
            way = f"set tasks.{bad[0] if bad[0] in own else 'facts'} instead"
            raise ScenarioError(
                f"task source 'facts' makes every task with the options under tasks:, so {bad[0]!r} cannot be an arm: "
                f"take it out of curriculum.arms and evaluation.arms, and {way}"
            )

    def _row(self, facts: Sequence[Fact], one: Fact) -> dict[str, Any]:
        style = self.options.style
        return {
            "question": asked(one.subject, style),
            "answer": chain(facts, one.subject)[-1].value,
            "documents": [written(fact, style) for fact in facts],
            "document": written(one, style),
        }
