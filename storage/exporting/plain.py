"""An episode as plain JSON values and back, equal to the one that was stored. Pure functions, no SQL.

Fields are named as in ``sparring.envs.types``. Mappings with turn numbers as keys have them as text. An unknown
log-prob (NaN) is ``null``. Values that JSON would change are ``{"$tagged": ...}``, as in the database.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sparring.envs.types import (
    Criterion,
    CriterionKind,
    CriterionScore,
    Ending,
    Episode,
    Finish,
    Parsed,
    Refusal,
    Rubric,
    Score,
    Segment,
    Span,
    Task,
    Turn,
    Validity,
)

from ..codec import pack_json, unpack_json

_FREE = {"payload", "secret", "parameters", "value"}  # fields that may hold anything


def to_plain(record: Any) -> dict[str, Any]:
    """The fields of a record of ``sparring.envs.types`` as JSON values, records inside it included."""
    return {item.name: _value(record, item.name) for item in dataclasses.fields(record)}


def _value(record: Any, name: str) -> Any:
    value = getattr(record, name)
    if name in _FREE and not isinstance(record, Score):
        return json.loads(pack_json(value))
    if name == "logprobs":
        return [number if math.isfinite(number) else _odd(number) for number in value]
    return _plain(value)


def _odd(number: float) -> str | None:
    return None if math.isnan(number) else str(number)


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def from_plain(plain: Mapping[str, Any]) -> Episode:
    """The episode ``to_plain`` was given. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on anything else."""
    return Episode(
        **{
            **plain,
            "parameters": _free(plain["parameters"]),
            "turns": tuple(_turn(turn) for turn in plain["turns"]),
            "tasks": tuple(_task(task) for task in plain["tasks"]),
            "scores": {int(turn): tuple(_score(score) for score in given) for turn, given in plain["scores"].items()},
            "rubrics": {int(turn): _rubric(rubric) for turn, rubric in plain["rubrics"].items()},
            "refusals": {int(turn): Refusal(**refusal) for turn, refusal in plain["refusals"].items()},
            "ending": Ending(plain["ending"]),
        }
    )


def _free(value: Any) -> Any:
    return unpack_json(json.dumps(value))


def _segment(plain: Mapping[str, Any] | None) -> Segment | None:
    return None if plain is None else Segment(plain["text"], tuple(plain["token_ids"]))


def _turn(plain: Mapping[str, Any]) -> Turn:
    parsed = plain["parsed"]
    return Turn(
        **{
            **plain,
            "context": _segment(plain["context"]),
            "train_context": _segment(plain["train_context"]),
            "token_ids": tuple(plain["token_ids"]),
            "logprobs": tuple(math.nan if number is None else float(number) for number in plain["logprobs"]),
            "finish": None if plain["finish"] is None else Finish(plain["finish"]),
            "parsed": None if parsed is None else Parsed(**{**parsed, "value": _free(parsed["value"])}),
            "spans": tuple(Span(**span) for span in plain["spans"]),
        }
    )


def _task(plain: Mapping[str, Any]) -> Task:
    mappings = {name: _free(plain[name]) for name in ("payload", "secret", "parameters")}
    return Task(**{**plain, **mappings, "skills": tuple(plain["skills"])})


def _score(plain: Mapping[str, Any]) -> Score:
    criteria = tuple(CriterionScore(**{**item, "validity": Validity(item["validity"])}) for item in plain["criteria"])
    return Score(**{**plain, "validity": Validity(plain["validity"]), "criteria": criteria})


def _rubric(plain: Mapping[str, Any]) -> Rubric:
    criteria = tuple(Criterion(**{**item, "kind": CriterionKind(item["kind"])}) for item in plain["criteria"])
    return Rubric(**{**plain, "criteria": criteria})
