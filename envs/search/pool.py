"""The questions an index gives under given options, and tasks drawn from those that searching can answer.

Pools are shared by all environments of a process: an index and its options make the same questions for everyone.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping
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
from .masking import Question, clue, held_out, questions, shortened
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
        options = self.wanted.options
        for at in rng.permutation(len(self.questions)):
            place = int(at)
            if place not in self.checked:  # two threads may both try: they find the same
                self.checked[place] = findable(self.engine, self.questions[place], options)
            if self.checked[place]:
                salt = int(rng.integers(1 << 31)) if options.fictional else None
                return task_of(self.questions[place], parameters, salt, self.engine.index.ranker.vocab_dict)
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
    cut = [shortened(question, options.question_words) for question in _questions(index, wanted.kind, wanted.hops)]
    times = Counter(question.text for question in cut if question is not None)
    fitting = [
        question
        for question in cut
        if question is not None
        and times[question.text] == 1
        and held_out(question.document) == wanted.held_out
        and len(question.text) <= options.longest_question
        and (not options.fictional or _hideable(question))
        and _answer_length(question, options) <= options.longest_answer
    ]
    return Pool(IndexEngine(index, way), wanted, tuple(fitting))


@lru_cache(maxsize=32)
def _questions(index: Index, kind: str, hops: int) -> tuple[Question, ...]:
    return questions(index, kind, hops)


def _answer_length(question: Question, options: SearchOptions) -> int:
    answer = question.answers[0]
    return len(invent(names_of(question.document, answer)).hide(answer) if options.fictional else answer)


def _hideable(question: Question) -> bool:
    """A short name cannot be taken out of every word it is a part of."""
    parts = _WORD.findall(question.document)
    return bool(parts) and min(len(parts[-1]), *map(len, question.answers)) >= SHORTEST


def findable(engine: IndexEngine, question: Question, options: SearchOptions) -> bool:
    """Whether the demonstration's query shows the answer (one hop), or the document that holds it and no answer."""
    query = clue(question.text, options.query_words)
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
    """What gives a document away: the parts of its id, and the answer itself unless it is made of those."""
    parts = _WORD.findall(document)
    return tuple(dict.fromkeys(parts if set(_WORD.findall(answer)) <= set(parts) else [*parts, answer]))


def fiction_of(task: Task) -> Fiction:
    """The invented names a task was written with."""
    return Fiction(dict(task.secret.get("names", {})))


def task_of(
    question: Question, parameters: Mapping[str, Any], salt: int | None = None, known: Collection[str] = ()
) -> Task:
    """The task. With ``salt``, texts and answers hold names invented for it alone, none of them a word in ``known``;
    ``names`` explains them."""
    fiction = Fiction({})
    if salt is not None:
        fiction = invent(names_of(question.document, question.answers[0]), known, salt)
    hidden = [fiction.hide(answer) for answer in question.answers]
    secret = {
        "reference": hidden[0],
        "answers": hidden,
        "nuggets": [{"text": hidden[0], "points": 1.0, "any": hidden[1:]}],
        "document": question.document,
        "names": dict(fiction.names),
    }
    payload = {"question": fiction.hide(question.text), **({} if salt is None else {"world": salt})}
    asked = {"kind": question.kind, "hops": question.hops, **parameters}
    return Task("search", payload, secret, asked, ("search", f"{question.kind}-{question.hops}"), "masked")
