"""The dialogue environment: two seats that hear each other through it alone. What they talk about is the mode's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.random import Generator
from pydantic import BaseModel

from sparring.envs.base import Environment
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.registry import environments

from .ask import Ask
from .base import VERIFIER, Heard, Mode, Talk
from .consult import Consult
from .manners import mannered
from .negotiate import Negotiate
from .options import DialogueOptions
from .tutor import Tutor
from .words import read

MODES: dict[str, type[Mode[Any]]] = {mode.name: mode for mode in (Ask, Tutor, Negotiate, Consult)}


def _all_parameters() -> dict[str, Sequence[Any]]:
    return {name: values for mode in MODES.values() for name, values in mode.parameters.items()}


@environments("dialogue")
class DialogueEnvironment(Environment):
    """Talk with a partner who knows something, wants something, or has something to learn.

    With a scripted partner one seat is left to play; with ``partner: role`` both are, and roles bear the seats' names.
    What a partner knows is in ``Task.secret``: its own brief says it, and the other seat reads it only once it is said.
    """

    Config = DialogueOptions
    parameters: ClassVar[Mapping[str, Sequence[Any]]] = _all_parameters()
    disclosures = tuple(dict.fromkeys(name for mode in MODES.values() for name in mode.disclosures))
    scores = ("revealed", "asked", "learnt", "value", "pareto", "outcome")
    examples = tuple({"mode": name} for name in MODES)

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """``config`` is a ``DialogueOptions``, or a mapping it validates."""
        super().__init__(config)
        self.mode: Mode[Any] = MODES[self.config.mode](self.config)
        self.main, self.partner = self.mode.seats
        self.scripted = self.config.partner == "scripted"
        self.seats = () if self.scripted else self.mode.seats  # type: ignore[misc]  # alone, anyone may take the one seat
        self.parameters = self.mode.parameters  # type: ignore[misc]  # a mode has parameters of its own
        self.row_fields = self.mode.row_fields  # type: ignore[misc]  # and rows
        self.unaudited = "" if self.scripted else self.mode.unaudited  # type: ignore[misc]  # and opponents
        self.talk: Talk | None = None
        self.troubled = False

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated task; ``split`` is ``train`` (default) or ``held_out``, told apart by hash."""
        wanted = dict(parameters)
        return self.mode.sample(wanted, rng, wanted.pop("split", "train"))

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A generated task of the held-out split."""
        return self.mode.sample(parameters, rng, "held_out")

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """A row as the mode reads it."""
        return self.mode.from_row(row, where)

    def begin(self, task: Task) -> str:
        """What the first seat addressed reads; a scripted partner who comes first has spoken by then."""
        self.troubled = False
        self.talk = self.mode.begin(task)
        self._answered(task, self.talk)
        return self.talk.observation

    @property
    def addressee(self) -> str | None:
        """The seat that speaks next; ``None`` where only one is left to play."""
        return self.talk.next or None if self.talk is not None and not self.scripted else None

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One turn of the seat addressed, and the scripted partner's reply to it."""
        if self.task is None or self.talk is None or not self.talk.next:
            raise ContractBroken("the conversation has not begun or is over; call reset first")
        heard = [self.mode.hear(self.task, self.talk, read(action, self.config.max_chars))]
        if not heard[-1].over:
            heard += self._answered(self.task, self.talk)
        scores: dict[str, list[Score]] = {}
        for one in heard:
            for seat, given in one.scores.items():
                scores.setdefault(seat, []).extend(given)
        over, truncated = heard[-1].over, heard[-1].truncated
        if over:
            self.talk.next = ""
        reward = next((s.value or 0.0 for s in scores.get(self.main, ()) if s.name == VERIFIER), 0.0)
        told: Any = scores.get(self.main, []) if self.scripted else scores
        return self.talk.observation, reward, over and not truncated, truncated, {"scores": told}

    def oracle(self) -> str | None:
        """The best thing to say now."""
        if self.task is None or self.talk is None or not self.talk.next:
            return None
        return self.mode.oracle(self.task, self.talk)

    def _answered(self, task: Task, talk: Talk) -> list[Heard]:
        """A scripted partner's turns, until the main seat is addressed or all is over."""
        heard: list[Heard] = []
        while self.scripted and talk.next == self.partner and not (heard and heard[-1].over):
            reply = self.mode.reply(task, talk)
            wild = self.config.manner != "plain" and not self.troubled and not self.mode.due(task, talk)
            self.troubled = wild and bool(self.np_random.random() < self.config.trouble)
            if self.troubled:
                reply = mannered(reply, self.config.manner, self.mode.decoy(task), self.np_random)
            heard.append(self.mode.hear(task, talk, read(reply, self.config.max_chars)))
        return heard

    def state(self) -> object:
        """The conversation, and whether the partner misbehaved just now."""
        return self.talk, self.troubled

    def set_state(self, state: Any) -> None:
        """Back to that moment."""
        self.talk, self.troubled = state
