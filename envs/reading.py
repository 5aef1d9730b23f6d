"""Reading: answer a question about documents. Questions are made up with their facts, proposed by a role, or in a file.

Source: questions about long contexts that a policy sets itself, SPELL, arXiv 2509.23863.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.errors import ContractBroken, ScenarioError
from sparring.scenarios.registry import environments

from .base import Environment
from .dialogue.fiction import DRAWS, Split, on_side
from .facts import Fact, Style, asked, chain, draw, written
from .types import Refusal, Score, Task

BY = "reading"
LETTERS = 4  # that subjects of a letter are drawn from: few of them are met often
_WORD = re.compile(r"\w+")


class Proposed(NamedTuple):
    """A question with the answer that its author holds to be right."""

    question: str
    answer: str


def read_proposal(text: str) -> Proposed | None:
    """A question and its ``<answer>`` in what a role said; ``<question>`` tags around the question may be left out.

    >>> read_proposal("How old is Tom?<answer>52</answer>")
    Proposed(question='How old is Tom?', answer='52')
    """
    before, found, rest = text.rpartition("</think>")[2].rpartition("<answer>")
    answer, closed, _ = rest.partition("</answer>")
    _, tag, inside = before.rpartition("<question>")
    question = inside.partition("</question>")[0] if tag else before
    proposed = Proposed(question.strip(), answer.strip())
    return proposed if found and closed and all(proposed) else None


def words(text: str) -> list[str]:
    """The words and numbers of a text, case and signs aside: what is compared.

    >>> words("The Answer: 52.")
    ['the', 'answer', '52']
    """
    return _WORD.findall(text.casefold())


class ReadingOptions(BaseModel):
    """``shown``: how many of a generated task's documents whoever asks about them reads (``excerpt``); the others are
    there to distract whoever answers. ``syllables`` of a made-up subject (0: a letter), ``digits`` of its number,
    ``style``: documents in ``prose`` or ``plain`` (``tom=52``). ``longest``: characters of a proposed question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shown: int = Field(2, ge=1, le=16)
    syllables: int = Field(1, ge=0, le=4)
    digits: int = Field(2, ge=1, le=6)
    style: Style = "prose"
    longest: int = Field(300, ge=1)


@environments("reading")
class ReadingEnvironment(Environment):
    """Answer a question about documents, most of which are beside the point.

    ``payload``: ``documents``, ``question`` and, where a role is to ask one, ``excerpt``. A proposal is about the task
    that was set before it. It is refused for its ``format``, as too ``long``, ``told`` (the answer stands in the
    question), ``ungrounded`` (the answer stands in no document of the excerpt), ``off_topic`` (the question shares no
    word with the excerpt), or without documents to ask about (``no_seed``).
    """

    Config = ReadingOptions
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"documents": range(2, 17), "linked": range(0, 9)}
    disclosures = ("reference",)
    scores = ("truth",)
    row_fields: ClassVar[Mapping[str, type]] = {"documents": list}
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"style": "plain", "syllables": 0, "digits": 1})

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A question about one of ``documents`` made-up facts, ``linked`` of which refer to another one."""
        return self._drawn(parameters, rng, "train")

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A question about facts that no training task has."""
        return self._drawn(parameters, rng, "held_out")

    def _drawn(self, parameters: Mapping[str, Any], rng: Generator, split: Split) -> Task:
        options = self.config
        count, linked = int(parameters.get("documents", 2)), int(parameters.get("linked", 0))
        for _ in range(DRAWS):
            facts = draw(rng, count, linked, options.syllables, options.digits, LETTERS)
            one = facts[int(rng.integers(count))]
            excerpt = self._excerpt(facts, one, rng)
            if on_side([[fact.subject, fact.value] for fact in facts], split):
                return self._task(facts, one, excerpt, parameters)
        raise ScenarioError(f"environment reading: no task with {dict(parameters)} after {DRAWS} draws")

    def _excerpt(self, facts: Sequence[Fact], one: Fact, rng: Generator) -> list[Fact]:
        """What the question needs, and others up to ``shown``, in the order of ``facts``."""
        needed = chain(facts, one.subject)
        others = [facts[at] for at in rng.permutation(len(facts)) if facts[at] not in needed]
        kept = [*needed, *others[: max(0, self.config.shown - len(needed))]]
        return [fact for fact in facts if fact in kept]

    def _task(self, facts: Sequence[Fact], one: Fact, excerpt: Sequence[Fact], parameters: Mapping[str, Any]) -> Task:
        style = self.config.style
        payload = {
            "documents": [written(fact, style) for fact in facts],
            "excerpt": [written(fact, style) for fact in excerpt],
            "question": asked(one.subject, style),
        }
        secret = {
            "reference": chain(facts, one.subject)[-1].value,
            "facts": {fact.subject: fact.value for fact in facts},
        }
        return Task("reading", payload, secret, dict(parameters), ("reading",), "generator")

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """``documents`` (texts); ``question`` with ``answer``, or neither where a role asks; ``excerpt``."""
        documents = row.get("documents")
        if not isinstance(documents, list) or not documents or not all(isinstance(text, str) for text in documents):
            raise ScenarioError(f"{where}: field 'documents' must be a list of texts, got {documents!r:.60}")
        excerpt = row.get("excerpt", documents)
        if not isinstance(excerpt, list) or not all(isinstance(text, str) for text in excerpt):
            raise ScenarioError(f"{where}: field 'excerpt' must be a list of texts, got {excerpt!r:.60}")
        if "answer" in row and not words(str(row["answer"])):
            raise ScenarioError(f"{where}: field 'answer' has no word or number to compare, got {row['answer']!r:.60}")
        if ("question" in row) != ("answer" in row):
            raise ScenarioError(f"{where}: give question and answer together, or neither where a role is to ask")
        hidden = {"answer", *self.parameters}
        payload = {"documents": documents, "excerpt": documents, "question": ""}
        payload |= {name: value for name, value in row.items() if name not in hidden or name == "documents"}
        secret = {"reference": str(row["answer"])} if "answer" in row else {}
        linked = {"linked": row["linked"]} if "linked" in row else {}
        return Task("reading", payload, secret, {"documents": len(documents), **linked}, ("reading",), where)

    def admit(self, text: str, parameters: Mapping[str, Any], rng: Generator) -> Task | Refusal:
        """A question about the documents of the task that is set, answered by what its excerpt says."""
        seed = self.task
        if seed is None or not seed.payload.get("documents"):
            return Refusal("no_seed", "there are no documents to ask about; the graph needs seeded: true")
        proposed = read_proposal(text)
        if proposed is None:
            return Refusal("format", "write a question, then <answer>...</answer>")
        if len(proposed.question) > self.config.longest:
            return Refusal("long", f"{len(proposed.question)} characters, {self.config.longest} are allowed")
        if _within(words(proposed.answer), words(proposed.question)):
            return Refusal("told", "the answer stands in the question")
        excerpt = [words(one) for one in seed.payload.get("excerpt", seed.payload["documents"])]
        if not any(_within(words(proposed.answer), one) for one in excerpt):
            return Refusal("ungrounded", "the answer stands in no document")
        if not set(words(proposed.question)) & {word for one in excerpt for word in one}:
            return Refusal("off_topic", "the question shares no word with the documents")
        payload = {name: value for name, value in seed.payload.items() if name != "excerpt"}
        secret = {**seed.secret, "reference": proposed.answer}
        payload["question"] = proposed.question
        return Task("reading", payload, secret, dict(seed.parameters), ("reading",), operator="asked")

    def begin(self, task: Task) -> str:
        """The documents and the question."""
        self.answered = False
        return "\n".join([*task.payload["documents"], str(task.payload["question"])]).strip()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """``verifier``: the ``<answer>`` has the words of the reference. ``truth``: those of the facts, if known."""
        assert self.task is not None, "reset first"
        self.answered = True
        given = _answer(action)
        reference = self.task.secret.get("reference")
        if reference is None:
            return "", 0.0, True, False, {"scores": [Score.invalid("verifier", BY, "the task has no answer")]}
        right = given is not None and words(given) == words(reference)
        scores = [Score.valued("verifier", right, BY, "right" if right else "wrong")]
        true = self._true()
        if true is not None:
            scores.append(Score.valued("truth", given is not None and words(given) == words(true), BY))
        return scores[0].note, float(right), True, False, {"scores": scores}

    def _needed(self, question: str) -> list[Fact]:
        """The made-up facts that this question needs, where it names one subject of them; else none."""
        assert self.task is not None, "reset first"
        facts = [Fact(*item) for item in self.task.secret.get("facts", {}).items()]
        named = [fact.subject for fact in facts if fact.subject.casefold() in words(question)]
        return chain(facts, named[0]) if len(named) == 1 else []

    def _true(self) -> str | None:
        """What the made-up facts say to the question, where it is one about them."""
        assert self.task is not None, "reset first"
        needed = self._needed(str(self.task.payload["question"]))
        return needed[-1].value if needed else None

    def oracle(self) -> str | None:
        """The answer, after the documents that it follows from where the environment wrote them."""
        if self.task is None or self.answered or "reference" not in self.task.secret:
            return None
        reference = str(self.task.secret["reference"])
        needed = self._needed(str(self.task.payload["question"]))
        return f"{self._thought(needed) if reference == self._true() else ''}<answer>{reference}</answer>"

    def _thought(self, needed: Sequence[Fact]) -> str:
        read = "\n".join(written(fact, self.config.style) for fact in needed)
        return f"<think>{read}</think>" if needed else ""

    def demonstration(self, contract: str, said: str) -> str | None:
        """The answer; a verdict on the one in ``said``; or a question with its answer, of those the excerpt tells."""
        if self.task is None or contract not in ("question", "verdict"):
            return self.oracle()
        secret = self.task.secret
        if contract == "verdict":
            given = _answer(said)
            right = given is not None and words(given) == words(str(secret.get("reference", "")))
            return f"<verdict>{'right' if right else 'wrong'}</verdict>"
        return self._question()

    def _question(self) -> str | None:
        """A question about one of the facts that the excerpt tells, with its answer; equal tasks give equal ones."""
        assert self.task is not None, "reset first"
        excerpt = set(self.task.payload.get("excerpt", ()))
        questions = [asked(subject, self.config.style) for subject in self.task.secret.get("facts", {})]
        ways = [(question, self._needed(question)) for question in questions]
        told = [way for way in ways if way[1] and {written(fact, self.config.style) for fact in way[1]} <= excerpt]
        if not told:
            return None
        question, needed = told[int(np.random.default_rng(int(self.task.key, 16)).integers(len(told)))]
        return f"{self._thought(needed)}{question}<answer>{needed[-1].value}</answer>"

    def state(self) -> object:
        """Whether the answer was given."""
        return self.answered

    def set_state(self, state: Any) -> None:
        """Back to that moment."""
        if not isinstance(state, bool):
            raise ContractBroken(f"ReadingEnvironment.set_state takes what state() returned, got {state!r:.60}")
        self.answered = state


def _answer(text: str) -> str | None:
    """What stands in the last closed ``<answer>`` tag; ``None`` without one, or when it is empty."""
    _, found, rest = text.rpartition("<answer>")
    inside, closed, _ = rest.partition("</answer>")
    return inside.strip() or None if found and closed else None


def _within(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether the words of ``part`` stand together in ``whole``; no words stand nowhere."""
    n = len(part)
    return n > 0 and any(list(whole[at : at + n]) == list(part) for at in range(len(whole) - n + 1))
