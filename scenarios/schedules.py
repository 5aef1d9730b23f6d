"""Where in a scenario a number may follow a schedule: found in the raw data by the type that stands there.

A mapping is a schedule exactly where the schema, or a part's ``Config``, wants a number. What a schedule is: see
``schedule.py``.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .explain import explain
from .problems import KeyPath, Problems, shown, unknown
from .registry import (
    Registry,
    advantages,
    curricula,
    engines,
    environments,
    group_stages,
    losses,
    rewards,
    task_sources,
    trainers,
)
from .schedule import KINDS, Schedule
from .schema import Scenario

# Numbers that the loop asks for anew at every step. A part's options are among them, its name is not.
CHANGING = (
    "roles.*.weight", "roles.*.reward.*", "roles.*.discount", "roles.*.demonstrated", "roles.*.sampling.*",
    "roles.*.scaffold.share", "roles.*.scaffold.kept",
    "environment.*", "rewards.*.*", "rollout.episodes", "rollout.picks",
    "curriculum.*", "group.stages.*.*", "training.advantage.*", "training.loss.*", "training.trainers.*.*",
    "training.optimizer.lr", "training.optimizer.weight_decay", "training.optimizer.betas.*", "training.max_grad_norm",
    "training.epochs", "training.minibatches",
)  # fmt: skip
CAN = (
    "a role's weight, discount, demonstrated, rewards, sampling and scaffold; rollout.episodes and rollout.picks; "
    "options of environment, rewards, curriculum, "
    "group.stages, training.advantage, training.loss and training.trainers; training.optimizer.lr, weight_decay and "
    "betas; training.max_grad_norm, epochs and minibatches"
)
# The first that fits tells why the others cannot; also for what the line above would let through.
FIXED = (
    ("seed", "one seed names every random number of a run"),
    ("training.steps", "schedules are measured by it"),
    ("training.trainers.*.after", "it says when the trainer runs"),
    ("training.trainers.*.until", "it says when the trainer runs"),
    ("training.trainers.*.every", "it says when the trainer runs"),
    ("training.trainers.*.when*", "it says when the trainer runs"),
    ("training.optimizer.warmup", "it is a schedule itself; give lr one instead"),
    ("training.checkpoint.*", "it changes nothing that is learnt"),
    ("training.micro_batch_tokens", "it changes nothing that is learnt"),
    ("evaluation.*", "evaluations of one run are compared with each other"),
    ("budget.*", "it says when the run stops"),
    ("rollout.max_broken", "it says when the run stops"),
    ("graph.*", "the graph is compiled once, when the run starts"),
    ("*", "it is read once, when the run starts"),
)
REFERENCES: tuple[tuple[str, Registry[Any]], ...] = (
    ("engine", engines), ("roles.*.engine", engines), ("environment", environments), ("tasks", task_sources),
    ("rewards.*", rewards),
    ("curriculum", curricula), ("group.stages.*", group_stages), ("training.advantage", advantages),
    ("training.loss", losses), ("training.trainers.*.advantage", advantages), ("training.trainers.*.loss", losses),
    ("training.trainers.*.losses.*", losses), ("training.trainers.*.stages.*", group_stages),
    ("training.trainers.*", trainers),
)  # fmt: skip


class Found(NamedTuple):
    """Schedules by the path of their number, and paths where one was meant but is wrong."""

    schedules: dict[KeyPath, Schedule]
    wrong: list[KeyPath]


class _Spot(NamedTuple):
    """A mapping where a number may stand: what holds it under ``key``, and what the number must be."""

    path: KeyPath
    holder: Any
    key: str | int
    whole: bool
    fixed: str  # why the number cannot change, "" when it can


def take(data: dict[str, Any], problems: Problems) -> Found:
    """Replace every schedule in ``data`` by its first number; what is wrong with one becomes a problem.

    A wrong schedule is taken out, so that the rest can still be checked.
    """
    found = Found({}, [])
    for spot in list(_spots(data, [Scenario], ())):
        schedule = _read(spot, problems)
        if schedule is not None and spot.fixed:
            problems.add(spot.path, f"cannot follow a schedule: {spot.fixed}; numbers that can: {CAN}")
        if schedule is None or spot.fixed:
            found.wrong.append(spot.path)
        else:
            found.schedules[spot.path] = schedule
        if schedule is not None:
            spot.holder[spot.key] = schedule.first
        elif isinstance(spot.holder, dict):
            del spot.holder[spot.key]
    return found


def _read(spot: _Spot, problems: Problems) -> Schedule | None:
    written = spot.holder[spot.key]
    if len(written) != 1:
        problems.add(spot.path, f"found {shown(written)}; a number, or one of {', '.join(KINDS)}: is needed")
        return None
    ((kind, form),) = written.items()
    if kind not in KINDS:
        problems.add(spot.path, unknown("schedule", kind, KINDS))
        return None
    try:
        return Schedule(kind, KINDS[kind].model_validate(form), spot.whole)
    except ValidationError as error:
        explain(error, KINDS[kind], form, (*spot.path, kind), problems)
        return None


def _spots(value: Any, wanted: Sequence[Any], path: KeyPath, fixed: str = "") -> Iterator[_Spot]:
    """Every mapping inside ``value`` that stands where ``wanted`` has a number and nothing that takes a mapping."""
    if isinstance(value, dict):
        for key in list(value):
            inner, name, reason = _below(value, key, wanted, path)
            yield from _entry(value, key, inner, (*path, name), fixed or reason)
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _entry(value, index, _items(wanted, index), (*path, index), fixed)


def _entry(holder: Any, key: str | int, wanted: Sequence[Any], path: KeyPath, fixed: str) -> Iterator[_Spot]:
    value = holder[key]
    numbers = [kind for kind in wanted if kind in (int, float)]
    takes_more = any(_takes_mapping(kind) for kind in wanted)
    meant = isinstance(value, dict) and (not takes_more or (len(value) == 1 and set(value) <= set(KINDS)))
    if numbers and meant:
        yield _Spot(path, holder, key, float not in numbers, fixed or _reason(path))
    else:
        yield from _spots(value, wanted, path, fixed)


def _below(value: dict[str, Any], key: str, wanted: Sequence[Any], path: KeyPath) -> tuple[list[Any], str, str]:
    """What may stand under ``key``, the key's name in a resolved scenario, and why a number there is fixed."""
    inner: list[Any] = []
    name, fixed = key, ""
    for kind in [*wanted, *_config(value, path)]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for own, field in kind.model_fields.items():
                if key in (own, field.alias):
                    inner += _members(field.annotation)
                    name, fixed = field.alias or own, _fixed(field)
        elif isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping):
            inner += _members(get_args(kind)[1])
    return inner, name, fixed


def _config(value: Mapping[str, Any], path: KeyPath) -> list[Any]:
    """The ``Config`` of the part that ``value`` names, when ``path`` is the place of one; nothing if it is unknown."""
    registry = next((parts for pattern, parts in REFERENCES if _is(path, pattern)), None)
    kind = value.get("kind", path[-1] if registry is trainers else None)
    if registry is None or not isinstance(kind, str) or kind not in registry.names():
        return []
    try:
        config = getattr(registry.get(kind), "Config", None)
    except Exception:  # told when the part is checked
        return []
    return [config] if isinstance(config, type) else []


def _items(wanted: Sequence[Any], index: int) -> list[Any]:
    inner: list[Any] = []
    for kind in wanted:
        origin, types_ = get_origin(kind), get_args(kind)
        if isinstance(origin, type) and issubclass(origin, Sequence) and types_:
            inner += _members(types_[index] if index < len(types_) and types_[-1] is not ... else types_[0])
    return inner


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [] if annotation is type(None) else [annotation]


def _takes_mapping(kind: Any) -> bool:
    plain = get_origin(kind) or kind
    return kind is Any or (isinstance(plain, type) and issubclass(plain, (BaseModel, Mapping)))


def _fixed(field: FieldInfo) -> str:
    """A part's own reason: ``Field(json_schema_extra={"fixed": "the head is built once"})``."""
    extra = field.json_schema_extra
    return str(extra.get("fixed", "")) if isinstance(extra, dict) else ""


def _reason(path: KeyPath) -> str:
    specific = next(((pattern, why) for pattern, why in FIXED if _fits(path, pattern)), ("*", ""))
    if specific[0] == "*" and any(_fits(path, pattern) for pattern in CHANGING):
        return ""
    return specific[1]


def _fits(path: KeyPath, pattern: str) -> bool:
    """Whether a dotted pattern covers ``path``: ``*`` is one name, and at the end everything below."""
    length = pattern.count(".") + 1
    return len(path) >= length and (len(path) == length or pattern.endswith("*")) and _is(path[:length], pattern)


def _is(path: KeyPath, pattern: str) -> bool:
    wanted = pattern.split(".")
    return len(path) == len(wanted) and all(fnmatchcase(str(n), w) for n, w in zip(path, wanted, strict=True))
