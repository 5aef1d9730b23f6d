"""Information seeking: find out facts about a made-up subject by asking, then say them all.

After proactive information gathering (arXiv 2507.21389): only a fact that was not known yet earns anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ScenarioError

from .base import field_of, is_list, is_table, is_text, verdict
from .fiction import NUMBERED, SLOTS, several, word
from .interview import Interview, InterviewTalk
from .words import words


class Ask(Interview):
    """``payload``: ``subject``, ``wanted`` (topics). ``secret``: ``facts``, some of them not wanted (``distractors``).

    The answer names the wanted facts in the order asked for, or each with its topic. It is right when all of them are.
    """

    name = "ask"
    seats = ("asker", "partner")
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"facts": range(1, 7), "distractors": range(0, 5)}
    disclosures = ("facts",)
    row_fields: ClassVar[Mapping[str, type]] = {"subject": str, "facts": dict}

    def draw(self, parameters: Mapping[str, Any], rng: Generator) -> Task | None:
        """A subject with so many facts wanted and so many beside them."""
        count, beside = int(parameters["facts"]), int(parameters["distractors"])
        slots = NUMBERED if self.options.values == "numbers" else SLOTS
        topics = [slots[at] for at in rng.permutation(len(slots))[: count + beside]]
        values = several(rng, len(topics), self.options.syllables)
        if self.options.values == "numbers":
            values = [str(10 + int(n)) for n in rng.permutation(90)[: len(topics)]]
        subject = word(rng, self.options.syllables, {*slots, *values}).capitalize()
        facts = dict(zip(topics, values, strict=True))
        return self.task({"subject": subject, "wanted": topics[:count]}, {"facts": facts}, parameters, "generator")

    def from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """Fields: ``subject``, ``facts`` (topic: text), ``wanted`` (list of topics; absent: all)."""
        subject = field_of(row, "subject", where, is_text, "a text")
        facts = field_of(row, "facts", where, is_table, "a mapping of topics to texts")
        if len({tuple(words(fact)) for fact in facts.values()} - {()}) < len(facts):
            raise ScenarioError(f"{where}: two facts say the same, or one says no word; they could not be told apart")
        wanted = field_of({"wanted": list(facts), **row}, "wanted", where, is_list, "a list of topics")
        for topic in wanted:
            if topic not in facts:
                raise ScenarioError(f"{where}: wanted topic {topic!r} is not in facts; those are {', '.join(facts)}")
        extra = {name: row[name] for name in row if name not in ("subject", "facts", "wanted", *self.parameters)}
        parameters = {"facts": len(wanted), "distractors": len(facts) - len(wanted)}
        payload = {**extra, "subject": subject, "wanted": list(wanted)}
        return self.task(payload, {"facts": dict(facts)}, parameters, where)

    def counting(self, task: Task) -> Sequence[str]:
        """The wanted topics."""
        return tuple(task.payload["wanted"])

    def opening(self, task: Task) -> str:
        """The subject and what is wanted."""
        return f"{task.payload['subject']}: {', '.join(self.counting(task))}"

    def goal(self, task: Task) -> str:
        """Answer what is asked and no more."""
        return f"This is what you know about {task.payload['subject']}. Tell only what you are asked, a fact at a time."

    def best(self, task: Task) -> str:
        """The wanted facts in order."""
        return ", ".join(task.secret["facts"][topic] for topic in self.counting(task))

    def judge(self, task: Task, talk: InterviewTalk, answer: str) -> Sequence[Score]:
        """1 when every wanted fact is there and nothing else, 0 otherwise."""
        facts = task.secret["facts"]
        plain = [said for topic in self.counting(task) for said in words(facts[topic])]
        named = [said for topic in self.counting(task) for said in (*words(topic), *words(facts[topic]))]
        right = words(answer) in (plain, named)
        return [verdict(float(right), "right" if right else "wrong")]

    def decoy(self, task: Task) -> str:
        """An answer with a topic in place of a fact."""
        return f"<answer>{', '.join('none' for _ in self.counting(task))}</answer>"
