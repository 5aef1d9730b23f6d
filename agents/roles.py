"""The built-in roles: seven parsers. Each reads model text, which is hostile: no parser raises, whatever it reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparring.envs.reading import read_proposal
from sparring.envs.types import Parsed
from sparring.scenarios.registry import roles

from .role import SIBLINGS, Role
from .rubric import parse_rubric

FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
MARK = re.compile(r"[ \t]*(\d{1,3})[ \t]*[:.)][ \t]*(yes|no)\b", re.IGNORECASE)
LETTERED = re.compile(r"[ \t]*([A-Z]{0,2})(\d{1,3})[ \t]*[:.)][ \t]*(yes|no)\b", re.IGNORECASE)


def tagged(text: str, tag: str) -> str | None:
    """What stands in the last ``<tag>...</tag>``, stripped; ``None`` when it is absent or not closed.

    >>> tagged("<answer>1</answer> no: <answer> 2 </answer>", "answer")
    '2'
    """
    _, found, rest = text.rpartition(f"<{tag}>")
    inside, closed, _ = rest.partition(f"</{tag}>")
    return inside.strip() if found and closed else None


def without_thoughts(text: str) -> str:
    """``text`` after its last ``</think>``; all of it when there is none."""
    return text.rpartition("</think>")[2]


@roles("teacher")
class Teacher(Role):
    """Proposes a task as a program; code fences around it are taken off."""

    contract = "program"
    default_prompt = "full/teacher"

    def parse(self, text: str) -> Parsed:
        """``value`` is the program's text."""
        spoken = without_thoughts(text)
        fenced = FENCE.findall(spoken)
        program = (fenced[-1] if fenced else spoken).strip("\n").rstrip()
        return Parsed(self.contract, program, None if program.strip() else "no program")


@roles("questioner")
class Questioner(Role):
    """Asks a question and answers it: the question, in ``<question>`` tags or bare, then the ``<answer>``."""

    contract = "question"
    default_prompt = "reading/questioner"

    def parse(self, text: str) -> Parsed:
        """``value`` is the question followed by its answer in tags."""
        found = read_proposal(without_thoughts(text))
        if found is None:
            return Parsed(self.contract, None, "no question with an answer")
        return Parsed(self.contract, f"{found.question}<answer>{found.answer}</answer>")


@roles("solver")
class Solver(Role):
    """Answers: the text in the last ``<answer>`` tag."""

    contract = "answer"
    default_prompt = "full/solver"

    def parse(self, text: str) -> Parsed:
        """``value`` is the answer, ``None`` without a closed tag; an empty answer is none."""
        answer = tagged(text, "answer")
        return Parsed(self.contract, answer, None if answer else "no answer")


@roles("critic")
class Critic(Role):
    """Judges an attempt: ``right`` or ``wrong`` in the last ``<verdict>`` tag."""

    contract = "verdict"
    default_prompt = "full/critic"
    sealed_prompt = "sealed/critic"

    def parse(self, text: str) -> Parsed:
        """``value`` is ``"right"``, ``"wrong"`` or ``None``."""
        verdict = (tagged(text, "verdict") or "").lower()
        if verdict in ("right", "wrong"):
            return Parsed(self.contract, verdict)
        return Parsed(self.contract, None, "no verdict")

    def turn_down(self, criteria: Sequence[str]) -> str | None:
        """Wrong."""
        return "<verdict>wrong</verdict>"


@roles("rubric_writer")
class RubricWriter(Role):
    """Writes a rubric: one criterion per line, ``POINTS text`` or ``veto: text``.

    A line may say what it is: ``2 hard rule: text``, ``1 principle: text``, ``1 nugget: text``.
    """

    contract = "rubric"
    default_prompt = "full/rubric_writer"

    def parse(self, text: str) -> Parsed:
        """``value`` is a list of criteria as plain mappings; see ``rubric.parse_rubric``."""
        inside = tagged(text, "rubric")
        return parse_rubric(without_thoughts(text) if inside is None else inside)


@roles("judge")
class Judge(Role):
    """Answers the criteria no rule can check: one line ``NUMBER: yes|no`` each.

    One that sees ``siblings`` reads several attempts at once and names them: ``A1: yes``, ``B1: no``.
    """

    contract = "marks"
    default_prompt = "full/judge"
    sealed_prompt = "sealed/judge"

    def parse(self, text: str) -> Parsed:
        """``value`` maps a criterion's number, as text, to a bool; the last line about a number counts.

        Where attempts are named their letters stand before the number.
        """
        lines = without_thoughts(text).splitlines()
        if SIBLINGS in self.sees:
            named = (LETTERED.match(line) for line in lines)
            marks = {f"{mark[1].upper()}{int(mark[2])}": mark[3].lower() == "yes" for mark in named if mark}
        else:
            found = (MARK.match(line) for line in lines)
            marks = {str(int(mark[1])): mark[2].lower() == "yes" for mark in found if mark}
        return Parsed(self.contract, marks, None if marks else "no marks")

    def turn_down(self, criteria: Sequence[str]) -> str | None:
        """No criterion is met; without criteria there is nothing to say."""
        return "\n".join(f"{number}: no" for number in range(1, len(criteria) + 1)) or None


@roles("plain")
class Plain(Role):
    """Says something; any words keep the contract, silence does not."""

    contract = "text"

    def parse(self, text: str) -> Parsed:
        """``value`` is the text without outer white space."""
        spoken = text.strip()
        return Parsed(self.contract, spoken, None if spoken else "nothing said")
