"""The options of the dialogue environment, whatever its mode."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ModeName = Literal["ask", "tutor", "negotiate", "consult"]
Manner = Literal["plain", "rude", "silent", "evasive", "injecting"]


class DialogueOptions(BaseModel):
    """``mode``: what the conversation is for. ``partner``: ``scripted`` (the environment answers by fixed rules) or
    ``role`` (a role of the scenario that bears the partner's seat).

    ``manner``: how a scripted partner misbehaves, ``trouble``: in which share of its replies, never in two running.
    ``max_turns``: turns before the last word is due; 0 allows no question at all. ``max_chars``: characters of one turn
    that the other side gets to hear. ``answers``: facts a scripted partner tells in one reply. ``cost``: taken off
    ``revealed`` for every question. ``values``: facts to ask for are made-up words or two-digit numbers. ``syllables``:
    length of the generated words. ``exam``: whether a tutor reads the questions, ``report``: whether it hears how the
    student did before the lesson.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: ModeName = "ask"
    partner: Literal["scripted", "role"] = "scripted"
    manner: Manner = "plain"
    trouble: float = Field(0.5, ge=0, le=1)
    max_turns: int = Field(12, ge=0, le=200)
    max_chars: int = Field(500, ge=1)
    answers: int = Field(1, ge=1)
    cost: float = Field(0.0, ge=0, le=1)
    values: Literal["words", "numbers"] = "words"
    syllables: int = Field(2, ge=1, le=4)
    exam: Literal["hidden", "shown"] = "hidden"
    report: Literal["score", "none"] = "score"
