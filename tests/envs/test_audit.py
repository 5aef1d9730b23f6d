"""The verifier audit: each way in which a verifier can be fooled or breaks shows, and a sound one passes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from sparring.envs.audit import AuditReport, audit
from sparring.envs.base import Environment
from sparring.envs.types import Score, Task

Stepped = tuple[str, float, bool, bool, dict[str, Any]]


def scored(value: float, over: bool = True) -> Stepped:
    return "seen", float(value), over, False, {"scores": [Score.valued("verifier", value, by="test")]}


class Sums(Environment):
    """Sound: the sum of two numbers, in tags."""

    largest = 50

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        first, second = (int(one) for one in rng.integers(self.largest, size=2))
        return Task("sums", {"text": f"{first} and {second}"}, {"reference": str(first + second)})

    def begin(self, task: Task) -> str:
        return str(task.payload["text"])

    @property
    def reference(self) -> str:
        assert self.task is not None
        return str(self.task.secret["reference"])

    def oracle(self) -> str | None:
        return f"<answer>{self.reference}</answer>"

    def right(self, action: str) -> bool:
        return action.strip() == f"<answer>{self.reference}</answer>"

    def step(self, action: str) -> Stepped:
        return scored(self.right(action))


def best(report: AuditReport) -> tuple[float, str]:
    assert report.best is not None
    return report.best.mean, report.best.name


def test_a_sound_verifier_gives_nothing_away() -> None:
    report = audit(Sums())
    assert report.oracle == 1.0 and best(report)[0] < 0.1 and len(report.ways) > 100
    assert (report.exceptions.count, report.invalid.count, report.unstable.count) == (0, 0, 0)


class TakesAnything(Sums):
    def right(self, action: str) -> bool:
        return True


class TakesTheEcho(Sums):
    def right(self, action: str) -> bool:
        assert self.task is not None
        return action == self.task.payload["text"] or super().right(action)


class TakesPraise(Sums):
    def right(self, action: str) -> bool:
        return "correct" in action or super().right(action)


class TakesWhatHoldsIt(Sums):
    def right(self, action: str) -> bool:
        return self.reference in action


class TakesAnyLength(Sums):
    def right(self, action: str) -> bool:
        return len(action) > 10_000 or super().right(action)


class YesOrNo(Sums):
    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        return Task(
            "sums", {"text": f"{rng.integers(10**6)}"}, {"reference": ["affirmative", "negative"][rng.integers(2)]}
        )


class Reads(Sums):
    """The first look is free, the second word is judged: only a whole play earns anything."""

    def begin(self, task: Task) -> str:
        self.looked = False
        return super().begin(task)

    def oracle(self) -> str | None:
        return "<answer>ok</answer>" if self.looked else "look closely"

    def step(self, action: str) -> Stepped:
        if not self.looked and action == "look closely":
            self.looked = True
            return "go on", 0.0, False, False, {"scores": []}
        return scored(self.looked and action == "<answer>ok</answer>")


@pytest.mark.parametrize(
    ("kind", "least", "named"),
    [
        (TakesAnything, 1.0, ""),
        (TakesTheEcho, 1.0, "echo"),
        (TakesPraise, 1.0, "correct"),
        (TakesWhatHoldsIt, 1.0, ""),
        (TakesAnyLength, 1.0, "overlong"),
        (YesOrNo, 0.3, "right answer of"),
        (Reads, 1.0, "right play of"),
    ],
)
def test_a_weak_verifier_is_found_with_the_answer_that_fools_it(kind: type[Sums], least: float, named: str) -> None:
    mean, name = best(audit(kind()))
    assert mean >= least and named in name


def test_a_constant_is_not_blamed_for_the_one_task_it_is_right_on() -> None:
    class Three(Sums):
        def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
            return Task(
                "sums", {"text": f"{(which := int(rng.integers(3)))}"}, {"reference": ["oak", "elm", "ash"][which]}
            )

    report = audit(Three())
    assert report.tasks == 3 and best(report)[0] == 0.0


def test_the_best_of_many_ways_is_measured_on_tasks_it_was_not_chosen_on() -> None:
    class Rolls(Sums):
        def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
            return Task("sums", {"text": f"{rng.integers(10**6)}"}, {"reference": f"face{rng.integers(6)}"})

    reports = [audit(Rolls(), seed=seed) for seed in range(12)]
    assert all(report.best is not None and report.best.tasks == 32 for report in reports)
    assert abs(sum(best(report)[0] for report in reports) / 12 - 1 / 6) < 0.08


class Raises(Sums):
    def step(self, action: str) -> Stepped:
        return scored(int(action.removeprefix("<answer>").removesuffix("</answer>")) == int(self.reference))


class NotANumber(Sums):
    def step(self, action: str) -> Stepped:
        return scored(1.0 if self.right(action) else math.nan)


class Away(Sums):
    def step(self, action: str) -> Stepped:
        score = Score.invalid("verifier", by="test", note="service away")
        return "", 0.0, True, False, {"scores": [score]}


class Moody(Sums):
    def step(self, action: str) -> Stepped:
        return scored(random.random())


def test_exceptions_are_counted_with_the_answer_that_caused_one() -> None:
    report = audit(Raises())
    assert report.exceptions.value > 0.4 and "ValueError" in report.exceptions.example and report.oracle == 1.0


@pytest.mark.parametrize("kind", [NotANumber, Away])
def test_an_unusable_score_is_counted_and_never_read_as_zero(kind: type[Sums]) -> None:
    report = audit(kind())
    assert report.invalid.value > 0.8
    assert all(way.mean == 1.0 for way in report.ways)  # only answers that happened to be right have a mark


def test_a_verifier_that_changes_its_mind_is_found() -> None:
    report = audit(Moody())
    assert report.unstable.value > 0.9 and "earned" in report.unstable.example


def test_an_environment_without_a_verifier_is_not_audited() -> None:
    class Unscored(Sums):
        def step(self, action: str) -> Stepped:
            return "", 0.0, True, False, {"scores": []}

    assert "score named verifier" in audit(Unscored()).skipped


def test_an_environment_without_tasks_is_not_audited() -> None:
    class Dry(Sums):
        def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
            raise LookupError("no rows")

    assert "no rows" in audit(Dry()).skipped


def test_a_plain_reward_counts_where_no_scores_are_given() -> None:
    class Plain(Sums):
        def step(self, action: str) -> Stepped:
            return "", 1.0, True, False, {}

    assert best(audit(Plain()))[0] == 1.0


class Duet(Sums):
    """Two seats: the first says half of the sum, the second the rest; the first seat's verifier takes anything."""

    seats: ClassVar[tuple[str, ...]] = ("first", "second")

    def begin(self, task: Task) -> str:
        self.turns = 0
        return super().begin(task)

    @property
    def addressee(self) -> str | None:
        return self.seats[self.turns % 2]

    def step(self, action: str) -> Stepped:
        self.turns += 1
        right = self.right(action)
        if self.turns == 1:
            return "now you", 0.0, False, False, {"scores": {}}
        scores = {
            "first": [Score.valued("verifier", 1.0, by="test")],
            "second": [Score.valued("verifier", right, by="test")],
        }
        return "", float(right), True, False, {"scores": scores}


def test_seats_are_audited_one_by_one_with_the_oracle_in_the_others() -> None:
    report = audit(Duet())
    assert report.best is not None and (report.best.seat, report.best.mean) == ("first", 1.0)
    assert max(way.mean for way in report.ways if way.seat == "second") < 0.1


def test_an_environment_may_say_why_it_cannot_be_audited() -> None:
    class Game(Duet):
        unaudited = "what an action earns depends on the opponent"

    assert audit(Game()).skipped == Game.unaudited


@given(seed=st.integers(0, 2**40), tasks=st.integers(1, 6))
def test_equal_seeds_give_equal_reports_and_every_mean_lies_within_the_scores(seed: int, tasks: int) -> None:
    one, two = (audit(YesOrNo(), seed=seed, tasks=tasks) for _ in range(2))
    assert one.ways == two.ways and one.oracle == two.oracle == 1.0
    assert all(0.0 <= way.mean <= 1.0 for way in one.ways)
    assert [way.mean for way in one.ways] == sorted((way.mean for way in one.ways), reverse=True)


def test_a_mean_just_above_a_limit_is_no_proof() -> None:
    found = audit(YesOrNo()).best
    assert found is not None and found.least < found.mean < 1.0
    sure = audit(TakesAnything()).best
    assert sure is not None and sure.least == sure.mean == 1.0


def test_time_that_is_up_leaves_ways_untried_and_says_so() -> None:
    report = audit(Sums(), limit_s=0.0)
    assert report.untried > 100 and "ways are untried" in report.lines()[-1]
