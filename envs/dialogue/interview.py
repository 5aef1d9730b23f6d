"""What asking and consulting share: a partner with facts, questions that bring them to light, a last word in tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparring.envs.types import Score, Task

from .base import Heard, Mode, Talk, figure, verdict
from .words import CUT, Words, mentioned, quoted, says, tagged

ANSWER = "answer"
PUZZLED = "What do you mean?"


@dataclass
class InterviewTalk(Talk):
    """``revealed``: topics whose fact the partner has told, in that order. ``question``: what was asked last."""

    revealed: list[str] = field(default_factory=list)
    question: str = ""


class Interview(Mode[InterviewTalk]):
    """Ask a partner who holds ``Task.secret["facts"]`` (topic: text), then say the last word in ``<answer>`` tags.

    A fact is revealed once the partner's words say it, whatever was asked. Every question earns ``revealed``: the facts
    that count and were not told before, as a share of those that count, less the option ``cost``.
    """

    def counting(self, task: Task) -> Sequence[str]:
        """The topics that earn something."""
        raise NotImplementedError(f"mode {self.name} must define counting")

    def opening(self, task: Task) -> str:
        """What the main seat reads first."""
        raise NotImplementedError(f"mode {self.name} must define opening")

    def goal(self, task: Task) -> str:
        """What a partner that is a role is told to do."""
        raise NotImplementedError(f"mode {self.name} must define goal")

    def judge(self, task: Task, talk: InterviewTalk, answer: str) -> Sequence[Score]:
        """Scores of the last word, one of them named ``verifier``."""
        raise NotImplementedError(f"mode {self.name} must define judge")

    def best(self, task: Task) -> str:
        """The best last word."""
        raise NotImplementedError(f"mode {self.name} must define best")

    def begin(self, task: Task) -> InterviewTalk:
        """The main seat asks first."""
        return InterviewTalk(self.seats[0], self.opening(task))

    def hear(self, task: Task, talk: InterviewTalk, said: Words) -> Heard:
        """A question goes to the partner, its reply comes back, an answer is judged; one turn too many ends it."""
        main, partner = self.seats
        if talk.next == partner:
            talk.next, talk.observation = main, said.carried
            return Heard({main: [self._news(task, talk, said)]})
        answer = tagged(said.text, ANSWER)
        if answer is not None:
            return self._end(talk, self.judge(task, talk, answer))
        if talk.turns >= self.options.max_turns:
            return self._end(talk, [verdict(0.0, f"no answer after {talk.turns} questions")], truncated=True)
        talk.turns += 1
        talk.next, talk.question = partner, said.carried
        talk.observation = f"{self.brief(task)}\n{quoted(said.carried)}"
        kept = [figure("outcome", 0.0, "it goes on")] if talk.turns > 1 else []
        return Heard({partner: kept})

    def brief(self, task: Task) -> str:
        """What the partner alone reads before the other side's words: what it knows, what it wants."""
        known = "\n".join(f"{topic}: {fact}" for topic, fact in _facts(task).items())
        return f"{known}\n{self.goal(task)}"

    def reply(self, task: Task, talk: InterviewTalk) -> str:
        """Tell what is asked for, topic by topic, as many as the option ``answers`` allows."""
        facts = _facts(task)
        asked = mentioned(talk.question.removesuffix(CUT), list(facts))[: self.options.answers]
        return "; ".join(f"{topic}: {facts[topic]}" for topic in asked) or PUZZLED

    def oracle(self, task: Task, talk: InterviewTalk) -> str | None:
        """Ask for what is not known yet, one topic after the other; then the best last word. A partner answers."""
        if talk.next == self.seats[1]:
            return self.reply(task, talk)
        open_topics = [topic for topic in self.counting(task) if topic not in talk.revealed]
        if open_topics and talk.turns < self.options.max_turns:
            return f"{open_topics[0]}?"
        return f"<{ANSWER}>{self.best(task)}</{ANSWER}>"

    def _news(self, task: Task, talk: InterviewTalk, said: Words) -> Score:
        new = [topic for topic, fact in _facts(task).items() if topic not in talk.revealed and says(said.carried, fact)]
        talk.revealed += new
        counting = self.counting(task)
        share = sum(topic in counting for topic in new) / len(counting)
        return figure("revealed", share - self.options.cost, ", ".join(new) or "nothing new")

    def _end(self, talk: InterviewTalk, scores: Sequence[Score], truncated: bool = False) -> Heard:
        main, partner = self.seats
        value = next(score.value or 0.0 for score in scores if score.name == "verifier")
        talk.observation = scores[0].note
        told = {main: [*scores, figure("revealed", 0.0, "the last word")], partner: [figure("outcome", value)]}
        return Heard(told, over=True, truncated=truncated)


def _facts(task: Task) -> Mapping[str, str]:
    return dict(task.secret["facts"])
