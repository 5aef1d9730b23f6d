"""Content hashes: of an episode (to notice damage) and of a run (to compare two runs). Wall-clock never enters.

Left out: seconds, time stamps, integer ids, checkpoint paths and sizes, the run's name, and metrics whose last word
(split at ``_``, ``/`` and ``.``) is a clock or memory unit such as ``s`` or ``mb``: they differ between equal runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sparring.envs.types import CriterionScore, Episode, Rubric, Score, Segment, Task, Turn

from .codec import pack_json, pack_logprobs, pack_wide

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=repr).encode
_CLOCKS = frozenset({"s", "ms", "seconds", "mb", "gb", "mib", "gib"})


def sha(parts: Iterable[Any]) -> str:
    """Hex SHA-256, 32 characters, over JSON lines of ``parts``; the order of a mapping's keys does not matter."""
    return _sha_of_lines(_JSON(_ordered(part)) for part in parts)


def _sha_of_lines(lines: Iterable[str]) -> str:
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update((line + "\n").encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()[:32]


def _ordered(value: Any) -> Any:
    """Mappings as lists sorted by their keys' text: a resumed run may hold equal state in another order."""
    if isinstance(value, Mapping):
        return {
            "of": sorted(([str(key), _ordered(item)] for key, item in value.items()), key=lambda pair: str(pair[0]))
        }
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value


def is_clock(metric: str) -> bool:
    """Whether a metric measures the machine rather than the run.

    >>> is_clock("rollout_seconds"), is_clock("tokens_per_s"), is_clock("loss")
    (True, True, False)
    """
    return re.split(r"[_/.]", metric.lower())[-1] in _CLOCKS


class Blobs(NamedTuple):
    """A turn's token ids (``codec.pack_wide``) and log-probs, packed."""

    tokens: bytes | None
    logprobs: bytes | None


def blobs_of(turn: Turn) -> Blobs:
    """The blobs of a turn."""
    return Blobs(pack_wide(turn.token_ids), pack_logprobs(turn.logprobs))


def episode_hash(episode: Episode, blobs: Sequence[Blobs] | None = None) -> str:
    """Hash of everything in an episode but its duration. ``blobs``: of its turns, where they are packed already."""
    blobs = [blobs_of(turn) for turn in episode.turns] if blobs is None else blobs
    read: dict[int, str] = {}  # siblings share one segment object
    others: Iterator[list[Any]] = itertools.chain(
        (_task(task) for task in episode.tasks),
        ([i, *(_score(score) for score in episode.scores[i])] for i in sorted(episode.scores) if episode.scores[i]),
        ([i, *_rubric(episode.rubrics[i])] for i in sorted(episode.rubrics)),
        ([i, episode.refusals[i].reason, episode.refusals[i].detail] for i in sorted(episode.refusals)),
    )  # none of them holds a mapping: there is no order of keys to settle
    lines = itertools.chain(
        [_JSON([episode.index, episode.pick, pack_json(episode.parameters), str(episode.ending), episode.error])],
        (_turn(turn, packed, read) for turn, packed in zip(episode.turns, blobs, strict=True)),
        map(_JSON, others),
    )
    return _sha_of_lines(lines)


def _blob(data: bytes | None) -> str:
    return "" if data is None else data.hex()


def _segment(segment: Segment | None, read: dict[int, str]) -> str:
    if segment is None:
        return "null"
    if id(segment) not in read:
        read[id(segment)] = _JSON([segment.text, _blob(pack_wide(segment.token_ids))])
    return read[id(segment)]


def _turn(turn: Turn, blobs: Blobs, read: dict[int, str]) -> str:
    """The turn as JSON; what is long goes around the encoder, which would look at every character."""
    parsed = turn.parsed and [turn.parsed.kind, pack_json(turn.parsed.value), turn.parsed.problem]
    said = _JSON([turn.index, turn.parent, turn.node, turn.author, turn.said, turn.sample, turn.follows])
    context, train_context = _segment(turn.context, read), _segment(turn.train_context, read)
    rest = [
        *(turn.finish, turn.policy_version, turn.engine, parsed, turn.task, turn.seed),
        *([turn.addressee] if turn.addressee is not None else []),  # absent: as rows of older schemas were hashed
        *([[span.version, span.start, span.end] for span in turn.spans]),  # absent too where there are none
    ]
    tokens, logprobs = _blob(blobs.tokens), _blob(blobs.logprobs)
    return f'{said[:-1]},{context},{train_context},"{tokens}","{logprobs}",{_JSON(rest)[1:]}'


def _task(task: Task) -> list[Any]:
    mappings = (pack_json(task.payload), pack_json(task.secret), pack_json(task.parameters))
    return [task.key, task.environment, *mappings, list(task.skills), task.origin, task.parent, task.operator]


def _score(score: Score) -> list[Any]:
    verdict = (score.name, _number(score.value), score.validity, score.by, score.note)
    return [*verdict, *(_criterion_score(item) for item in score.criteria)]


def _criterion_score(item: CriterionScore) -> list[Any]:
    return [item.rubric_turn, item.criterion, _number(item.share), item.validity, item.by, item.quote]


def _number(value: float | None) -> float | None:
    return None if value is None else float(value) + 0.0  # 1 and 1.0, -0.0 and 0: one value each to the database


def _rubric(rubric: Rubric) -> list[Any]:
    criteria = [[item.text, _number(item.points), item.kind, item.checker] for item in rubric.criteria]
    return [rubric.author, rubric.version, rubric.provenance, criteria]


def lasting(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The metrics that two equal runs share."""
    return {name: metrics[name] for name in sorted(metrics) if not is_clock(name)}
