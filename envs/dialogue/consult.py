"""Consultation: a client wants advice, does not say by itself what it depends on, and a rubric measures the advice.

Points count only for what was asked about: advice that is right by luck earns nothing. Rubric consultation as in
InfiMed-ORBIT (arXiv 2510.15859).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ScenarioError

from .base import field_of, figure, is_list, is_table, is_text, verdict
from .fiction import several, word
from .interview import Interview, InterviewTalk
from .words import says

NEEDS: Mapping[str, tuple[str, ...]] = {
    "soil": ("dry", "wet"),
    "wind": ("low", "big"),
    "sun": ("dim", "hot"),
    "room": ("few", "lot"),
    "pests": ("bug", "rat"),
    "time": ("day", "all"),
}
LINE = re.compile(r"(?:(?:0\.[5-9]\d*|[1-9](?:\.\d{1,3})?|10)|veto:)[ \t]+\S.{0,190}", re.IGNORECASE)
MOST_LINES = 12
NUGGET = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)[ \t]+says[ \t]+(\S.*)", re.IGNORECASE)
REASON = "1 gives a reason for each thing it recommends"
LONGEST = "veto: at most 60 words"


class Consult(Interview):
    """``payload``: ``question`` and, where generated, ``handbook``: for each topic what to advise under which fact.

    ``secret``: ``facts`` (topic: text), ``required`` (places of the topics a good advisor asks about), ``rubric``
    (lines; the first ones, one for each fact, are what the verifier checks) and ``criteria``, the same numbered and
    without points: a judge that reads them decides what no rule can.
    """

    name = "consult"
    seats = ("advisor", "client")
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"needs": range(1, len(NEEDS) + 1)}
    disclosures = ("facts", "rubric", "criteria")
    row_fields: ClassVar[Mapping[str, type]] = {"question": str, "facts": dict, "rubric": list}

    def draw(self, parameters: Mapping[str, Any], rng: Generator) -> Task | None:
        """Which seeds to sow in a made-up place: a handbook, so many circumstances, points for each right seed."""
        topics = [list(NEEDS)[at] for at in rng.permutation(len(NEEDS))[: int(parameters["needs"])]]
        seeds = iter(several(rng, sum(len(NEEDS[topic]) for topic in topics), self.options.syllables))
        handbook = {topic: {fact: next(seeds) for fact in NEEDS[topic]} for topic in topics}
        facts = {topic: NEEDS[topic][int(rng.integers(len(NEEDS[topic])))] for topic in topics}
        place = word(rng, self.options.syllables).capitalize()
        payload = {"question": f"Which seeds shall I sow in {place}?", "handbook": handbook}
        rubric = [f"{int(rng.integers(1, 4))} says {handbook[topic][facts[topic]]}" for topic in topics]
        lines = [*rubric, REASON, LONGEST]
        secret = {"facts": facts, "required": list(range(len(topics))), "rubric": lines, "criteria": criteria(lines)}
        return self.task(payload, secret, parameters, "generator")

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Fields: ``question``, ``facts`` (topic: text), ``rubric`` (lines such as ``2 says soap``; one such line per
        fact comes first, in the facts' order), ``required`` (list of topics; absent: all)."""
        question = field_of(row, "question", where, is_text, "a text")
        facts = field_of(row, "facts", where, is_table, "a mapping of topics to texts")
        rubric = field_of(row, "rubric", where, is_list, "a list of lines")
        for topic, line in zip(facts, [*rubric, *[""] * len(facts)], strict=False):
            if NUGGET.fullmatch(line.strip()) is None:
                wanted = f"'POINTS says WORDS' for the fact {topic!r}"
                raise ScenarioError(f"{where}: rubric line {line!r:.60} must be {wanted}; others come after these")
        for line in rubric:
            if LINE.fullmatch(line.strip()) is None or len(rubric) > MOST_LINES:
                wanted = f"at most {MOST_LINES} lines 'POINTS text' (0.5 to 10 points) or 'veto: text'"
                raise ScenarioError(f"{where}: the rubric must have {wanted}, got {len(rubric)} lines, {line!r:.60}")
        required = field_of({"required": list(facts), **row}, "required", where, is_list, "a list of topics")
        for topic in required:
            if topic not in facts:
                raise ScenarioError(f"{where}: required topic {topic!r} is not in facts: {', '.join(facts)}")
        known = ("question", "facts", "rubric", "required", *self.parameters)
        payload = {**{name: row[name] for name in row if name not in known}, "question": question}
        at = [list(facts).index(topic) for topic in required]
        secret = {"facts": dict(facts), "required": at, "rubric": list(rubric), "criteria": criteria(rubric)}
        return self.task(payload, secret, {"needs": len(facts)}, where)

    def counting(self, task: Task) -> Sequence[str]:
        """The topics a good advisor asks about."""
        topics = list(task.secret["facts"])
        return tuple(topics[at] for at in task.secret["required"])

    def opening(self, task: Task) -> str:
        """The handbook, a line for each topic, and the client's question."""
        lines = [
            f"{topic}: " + ", ".join(f"{fact} -> {seed}" for fact, seed in rules.items())
            for topic, rules in task.payload.get("handbook", {}).items()
        ]
        return "\n".join([*lines, str(task.payload["question"])])

    def goal(self, task: Task) -> str:
        """Say what is asked and no more."""
        asked = task.payload["question"]
        return f"This is how things are with you. You want to know: {asked} Tell only what you are asked."

    def best(self, task: Task) -> str:
        """Everything the nuggets want to read."""
        return ", ".join(said for _, said in _nuggets(task).values())

    def judge(self, task: Task, talk: InterviewTalk, answer: str) -> Sequence[Score]:
        """sum(points met and asked about) / sum(points); ``asked``: share of the required topics that came to light.

        A nugget is met when the advice says it and none of what the handbook has for other facts of that topic.
        """
        handbook = task.payload.get("handbook", {})
        required = self.counting(task)
        earned = total = 0.0
        for topic, (points, said) in _nuggets(task).items():
            total += points
            others = [other for other in handbook.get(topic, {}).values() if other != said]
            asked = topic in talk.revealed or topic not in required
            met = says(answer, said) and not any(says(answer, other) for other in others)
            earned += points * (met and asked)
        share = earned / total if total else 0.0
        asked_share = sum(topic in talk.revealed for topic in required) / len(required)
        return [verdict(share, f"{earned:g} of {total:g} points"), figure("asked", asked_share)]

    def decoy(self, task: Task) -> str:
        """Advice that fits nobody."""
        return "<answer>anything</answer>"


def criteria(rubric: Sequence[str]) -> list[str]:
    """The lines as a judge reads them, who does not need to know what they are worth."""
    return [f"{number}. {line.strip().partition(' ')[2].strip()}" for number, line in enumerate(rubric, 1)]


def _nuggets(task: Task) -> dict[str, tuple[float, str]]:
    """By topic: points, and what the advice must say."""
    found = [NUGGET.fullmatch(line.strip()) for line in task.secret["rubric"][: len(task.secret["facts"])]]
    return {
        topic: (float(line[1]), line[2])
        for topic, line in zip(task.secret["facts"], found, strict=True)
        if line is not None
    }
