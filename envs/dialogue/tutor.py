"""Tutoring: a student sits an exam, is taught, sits it again; the tutor earns the normalised learning gain.

The gain is Hake's (1998): what was learnt of what could be. A tutor that tells an exam answer earns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.random import Generator

from sparring.envs.types import Score, Task

from .base import Heard, Mode, Talk, figure, verdict
from .fiction import several, word
from .words import Words, mentioned, quoted, says, words

DONE = "<done>"
PUZZLED = "I do not follow."
EXAM = "Exam. Write one line for each question, with a number at its end."
OPS = ("add", "times")
VERBS = ("is", "means")  # what may stand between a word and its rule for a scripted student to take it in
ATTENTION = 20  # words of a turn that a scripted student takes in: everything at once teaches nothing
SMALLEST, LARGEST = 2, 9  # constants of rules; exams ask about numbers above these
_NUMBER = re.compile(r"\d+")


@dataclass
class TutorTalk(Talk):
    """``stage``: before, lesson or after. ``beliefs``: topic to rule, as the student has it; ``confessed``: topics it
    spoke about last. ``spoken``: every word of the tutor's; ``leaked``: whether an exam answer is among them."""

    stage: str = "before"
    beliefs: dict[str, str] = field(default_factory=dict)
    answer: str = ""
    told: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    confessed: dict[str, str] = field(default_factory=dict)
    taught: str = ""
    spoken: set[str] = field(default_factory=set)
    leaked: bool = False
    before: float = 0.0


class Tutor(Mode[TutorTalk]):
    """``payload``: ``subject``, ``rules`` (made-up word to what it does to a number), ``exam`` where that is shown.

    ``secret``: ``unknown`` and ``mistaken``, by place of the rule: what the student has no idea of, and what it
    believes instead; ``exam``: the questions. A scripted student learns a rule it did not know when it is told ("zib is
    add 3"); one it has wrong only when what it believes is denied, too ("not add 5"), and it says what that is.
    """

    name = "tutor"
    seats = ("tutor", "student")
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = {"topics": range(1, 7), "mistakes": range(0, 4)}
    disclosures = ("unknown", "mistaken", "exam")

    def draw(self, parameters: Mapping[str, Any], rng: Generator) -> Task | None:
        """So many rules, of which ``mistakes`` are believed otherwise and at least one, if none is, not known."""
        count = int(parameters["topics"])
        wrong = min(int(parameters["mistakes"]), count)
        made = [f"{op} {n}" for op in OPS for n in range(SMALLEST, LARGEST + 1)]
        texts = [made[at] for at in rng.permutation(len(made))]
        names = several(rng, count, self.options.syllables)
        order = [int(at) for at in rng.permutation(count)]
        mistaken = {str(at): texts[count + place] for place, at in enumerate(order[:wrong])}
        n_unknown = int(rng.integers(0 if wrong else 1, count - wrong + 1))
        unknown = sorted(order[wrong : wrong + n_unknown])
        numbers = [int(n) for n in rng.integers(LARGEST + 1, 30, size=count)]
        exam = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
        rules = dict(zip(names, texts, strict=False))
        if any(_apply(texts[count + place], numbers[at]) == _apply(texts[at], numbers[at])
               for place, at in enumerate(order[:wrong])):  # fmt: skip
            return None  # the mistake would not show
        subject = word(rng, self.options.syllables, {*names}).capitalize()
        payload = {"subject": subject, "rules": rules}
        secret: dict[str, Any] = {"unknown": unknown, "mistaken": mistaken}
        (payload if self.options.exam == "shown" else secret)["exam"] = exam
        return self.task(payload, secret, parameters, "generator")

    def begin(self, task: Task) -> TutorTalk:
        """The student sits the exam first."""
        return TutorTalk(self.seats[1], self._sheet(task), beliefs=_beliefs(task))

    def hear(self, task: Task, talk: TutorTalk, said: Words) -> Heard:
        """Exam, lesson turn by turn, exam."""
        tutor, student = self.seats
        if talk.next == tutor:
            return self._teach(task, talk, said)
        if talk.stage == "lesson":
            talk.next, talk.observation = tutor, said.carried
            return Heard({tutor: [self._learnt(task, talk)]})
        share = marked(task, said.text)
        if talk.stage == "before":
            talk.stage, talk.before, talk.next = "lesson", share, tutor
            talk.observation = self._lesson(task, share)
            return Heard({student: [figure("outcome", 0.0, "before the lesson")]})
        talk.observation = f"exam: {share:.2f}, before: {talk.before:.2f}"
        told = {tutor: self._end(task, talk, share), student: [figure("outcome", share, "after the lesson")]}
        return Heard(told, over=True)

    def reply(self, task: Task, talk: TutorTalk) -> str:
        """The scripted student: its exam by what it believes, or what it has to say to its tutor."""
        if talk.stage == "lesson":
            return talk.answer
        lines = []
        for question in _exam(task):
            number, name = question.split()
            rule = talk.beliefs.get(name, "")
            known = question in talk.told  # learnt by heart
            right = _apply(task.payload["rules"][name], int(number))
            value = right if known else _apply(rule, int(number)) if rule else None
            lines.append(f"{question}: {'I do not know' if value is None else value}")
        return "\n".join(lines)

    def oracle(self, task: Task, talk: TutorTalk) -> str | None:
        """Tell one rule after the other, deny what the student believes instead, then let the exam begin."""
        if talk.next == self.seats[1]:
            return self.reply(task, talk)
        rules = task.payload["rules"]
        for name, wrong in talk.confessed.items():
            if name not in talk.settled:
                return f"{name} is {rules[name]}, not {wrong}."
        left = [name for name in rules if name not in talk.settled]
        return f"{left[0]} is {rules[left[0]]}." if left else DONE

    def decoy(self, task: Task) -> str:
        """The end of the lesson."""
        return DONE

    def due(self, task: Task, talk: TutorTalk) -> bool:
        """A student sits its exams in earnest."""
        return talk.stage != "lesson"

    def _sheet(self, task: Task) -> str:
        """What a student that is a role reads: what it believes, and the exam."""
        return "\n".join([self._brief(task), EXAM, *_exam(task)])

    def _brief(self, task: Task) -> str:
        beliefs = _beliefs(task)
        known = [f"{name}: {beliefs.get(name) or 'you do not know'}" for name in task.payload["rules"]]
        return "\n".join([f"This is what you believe about {task.payload['subject']} so far.", *known])

    def _lesson(self, task: Task, share: float) -> str:
        """What the tutor reads first: the rules and, with ``report: score``, how the exam went."""
        lines = [f"{name}: {rule}" for name, rule in task.payload["rules"].items()]
        if self.options.report == "score":
            lines.append(f"right before: {round(share * len(lines))} of {len(lines)}")
        return "\n".join([*lines, *(task.payload.get("exam") or ())])

    def _teach(self, task: Task, talk: TutorTalk, said: Words) -> Heard:
        tutor, student = self.seats
        talk.turns += 1
        talk.taught = ""
        self._listen(task, talk, said)
        talk.next = student
        done = DONE in said.text or talk.turns > self.options.max_turns
        kept: dict[str, list[Score]] = {student: []}
        if talk.turns > 1:
            kept = {student: [figure("outcome", 0.0, "in the lesson")]}
        if done:
            talk.stage = "after"
            talk.observation = f"{quoted(said.carried)}\n{EXAM}\n" + "\n".join(_exam(task))
            return Heard({**kept, tutor: []})
        talk.observation = f"{self._brief(task)}\n{quoted(said.carried)}"
        return Heard(kept)

    def _listen(self, task: Task, talk: TutorTalk, said: Words) -> None:
        """What the scripted student makes of a tutor's words, of which it takes in the first topic only."""
        self._watch(task, talk, said)
        heard = " ".join(words(said.carried)[:ATTENTION])
        names = mentioned(heard, list(task.payload["rules"]))
        if not names:
            talk.answer = PUZZLED
            return
        name = names[0]
        rule, belief = task.payload["rules"][name], talk.beliefs.get(name, "")
        if not any(says(heard, f"{name} {verb} {rule}") for verb in VERBS):
            talk.answer = f"I think {name} is {belief}." if belief else f"I do not know {name}."
        elif belief == rule:
            talk.answer = f"I know that {name} is {rule}."
            talk.settled.append(name)
        elif belief and not says(heard, f"not {belief}"):
            talk.answer = f"But I thought {name} is {belief}."
            talk.confessed[name] = belief
        else:
            talk.answer = f"I see, {name} is {rule}."
            talk.beliefs[name], talk.taught = rule, name
            talk.settled.append(name)

    def _watch(self, task: Task, talk: TutorTalk, said: Words) -> None:
        """Note exam questions whose number, word and answer the tutor has said by now: it tells, it does not teach."""
        talk.spoken |= set(words(said.text))
        for question in _exam(task):
            number, name = question.split()
            if {number, name, str(_apply(task.payload["rules"][name], int(number)))} <= talk.spoken:
                talk.leaked = True
                talk.told.append(question)

    def _learnt(self, task: Task, talk: TutorTalk) -> Score:
        """The share of the rules that this turn taught; what a role has learnt shows in its exam alone."""
        if self.options.partner == "role":
            return figure("learnt", 0.0, "the exam will show")
        return figure("learnt", 1 / len(task.payload["rules"]) if talk.taught else 0.0, talk.taught or "nothing new")

    def _end(self, task: Task, talk: TutorTalk, share: float) -> Sequence[Score]:
        last = self._learnt(task, talk)
        if talk.leaked:
            return [verdict(0.0, "an exam answer was told"), last]
        if talk.before >= 1.0:
            return [Score.missing("verifier", "dialogue", "the student knew everything before"), last]
        return [verdict(gain(talk.before, share), f"{talk.before:.2f} -> {share:.2f}"), last]


def gain(before: float, after: float) -> float:
    """Normalised change: (after - before) / (1 - before), or / before for a loss (Marx and Cummings, 2007).

    >>> gain(0.5, 1.0), gain(0.5, 0.25)
    (1.0, -0.5)
    """
    return (after - before) / ((1 - before) if after >= before else before)


def marked(task: Task, text: str) -> float:
    """Share of the exam's questions whose line ends in the right number; lines are matched by place."""
    lines = [line for line in text.splitlines() if line.strip()]
    exam = _exam(task)
    right = 0
    for question, line in zip(exam, lines, strict=False):
        number, name = question.split()
        found = _NUMBER.findall(line)
        right += bool(found) and found[-1] == str(_apply(task.payload["rules"][name], int(number)))
    return right / len(exam)


def _exam(task: Task) -> Sequence[str]:
    return tuple(task.payload.get("exam") or task.secret["exam"])


def _beliefs(task: Task) -> dict[str, str]:
    """What the student believes at the start; what it does not know is absent."""
    mistaken, unknown = task.secret["mistaken"], task.secret["unknown"]
    return {
        name: mistaken.get(str(at), rule)
        for at, (name, rule) in enumerate(task.payload["rules"].items())
        if at not in unknown
    }


def _apply(rule: str, number: int) -> int:
    op, _, constant = rule.partition(" ")
    return number + int(constant) if op == "add" else number * int(constant)
