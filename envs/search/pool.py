"""The questions an index gives under given options, and tasks drawn from those that searching can answer.

Pools are shared by all environments of a process: an index and its options make the same questions for everyone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from numpy.random import Generator

from sparring.envs.types import Task
from sparring.scenarios.errors import ScenarioError

from .answers import holds
from .engines import IndexEngine
from .fiction import SHORTEST, Fiction, invent
from .index import Index, Way
from .masking import Question, held_out, questions
from .shown import opened, results

if TYPE_CHECKING:
    from .env import SearchOptions

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which questions: of this kind and number of hops, from this half of the documents, under these options."""

    kind: str
    hops: int
    held_out: bool
    options: SearchOptions


@dataclass
class Pool:
    """Questions in the order of the documents; ``checked`` says of those tried whether searching answers them."""

    engine: IndexEngine
    wanted: Wanted
    questions: tuple[Question, ...]
    checked: dict[int, bool] = field(default_factory=dict)

    def draw(self, rng: Generator, parameters: Mapping[str, Any]) -> Task:
        """A task; equal generators draw equal tasks. Raises ``ScenarioError`` when no question can be answered."""
        for at in rng.permutation(len(self.questions)):
            place = int(at)
            if place not in self.checked:  # two threads may both try: they find the same
                self.checked[place] = findable(self.engine, self.questions[place], self.wanted.options)
            if self.checked[place]:
                return task_of(self.questions[place], self.wanted.options, parameters)
        half = "evaluation" if self.wanted.held_out else "training"
        raise ScenarioError(
            f"the corpus {self.engine.index.manifest.source} gives no question of kind {self.wanted.kind} with"
            f" {self.wanted.hops} hops for {half}; allow longer ones, or choose another kind"
        )


_MAKING = threading.Lock()


def pool_of(engine: IndexEngine, wanted: Wanted) -> Pool:
    """The shared pool."""
    with _MAKING:  # threads that need the same pool wait for it instead of making it twice
        return _pool(engine.index, engine.way, wanted)


@lru_cache(maxsize=64)
def _pool(index: Index, way: Way, wanted: Wanted) -> Pool:
    options = wanted.options
    fitting = [
        question
        for question in _questions(index, wanted.kind, wanted.hops)
        if held_out(question.document) == wanted.held_out
        and len(question.text) <= options.longest_question
        and len(question.answers[0]) <= options.longest_answer
        and (not options.fictional or _hideable(question))
    ]
    return Pool(IndexEngine(index, way), wanted, tuple(fitting))


@lru_cache(maxsize=32)
def _questions(index: Index, kind: str, hops: int) -> tuple[Question, ...]:
    return questions(index, kind, hops)


def _hideable(question: Question) -> bool:
    """A short name cannot be taken out of every word it is a part of."""
    parts = _WORD.findall(question.document)
    return bool(parts) and min(len(parts[-1]), len(question.answers[0])) >= SHORTEST


def query_of(question: Question, options: SearchOptions) -> str:
    """What the demonstrations search for: the first words of the clue."""
    return " ".join(question.clue.split()[: options.query_words])


def findable(engine: IndexEngine, question: Question, options: SearchOptions) -> bool:
    """Whether the demonstration's query shows the answer (one hop), or the document that holds it and no answer."""
    query = query_of(question, options)
    if not query or options.backend == "simulated":
        return bool(query)
    hits = engine.search(query, options.k)
    document = engine.document(question.document)
    if document is None or all(hit.id != question.document for hit in hits):
        return False
    answer = question.answers[0]
    shown = holds(results(hits, query, options.snippet)[: options.max_result], answer)
    return shown if question.hops == 1 else not shown and holds(opened(document)[: options.max_result], answer)


def names_of(document: str, answer: str) -> tuple[str, ...]:
    """What gives a document away: the parts of its id, and the answer itself."""
    return tuple(dict.fromkeys((*_WORD.findall(document), answer)))


def fiction_of(task: Task) -> Fiction:
    """The invented names a task was written with."""
    return Fiction(dict(task.secret.get("names", {})))


def task_of(question: Question, options: SearchOptions, parameters: Mapping[str, Any]) -> Task:
    """The task; with ``fictional``, texts and answers hold invented names, which ``names`` explains."""
    fiction = Fiction({})
    if options.fictional:
        fiction = invent(names_of(question.document, question.answers[0]), set(_WORD.findall(question.text.lower())))
    hidden = [fiction.hide(answer) for answer in question.answers]
    secret = {
        "reference": hidden[0],
        "answers": hidden,
        "nuggets": [{"text": hidden[0], "points": 1.0, "any": hidden[1:]}],
        "document": question.document,
        "query": fiction.hide(query_of(question, options)),
        **({"names": dict(fiction.names)} if options.fictional else {}),
    }
    known = {"kind": question.kind, "hops": question.hops, **parameters}
    skills = ("search", f"{question.kind}-{question.hops}")
    return Task("search", {"question": fiction.hide(question.text)}, secret, known, skills, "masked")
