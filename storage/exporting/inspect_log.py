"""``inspect``: what roles said as a log of inspect_ai, one sample per turn, for its viewer and its data frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from sparring.scenarios.errors import MissingExtra, StoreError

from ..records import RunRow
from ..store import Store
from .target import beside
from .trl import Part, as_unicode, said_turns, score_names

ENDINGS = (".eval", ".json")
STATUSES = {"done": "success", "failed": "error", "running": "started"}  # any other: cancelled


class _Inspect(NamedTuple):
    """The modules of inspect_ai that are used."""

    log: Any
    model: Any
    scorer: Any


def _inspect() -> _Inspect:
    try:
        return _Inspect(*(import_module(f"inspect_ai.{name}") for name in _Inspect._fields))
    except ImportError as error:
        raise MissingExtra("logs of inspect_ai need it: pip install 'sparring[inspect]'") from error


def write_inspect(store: Store, run: str, out: Path) -> int:
    """Write the log ``out``, whose name ends in .eval or .json; returns how many samples it holds.

    A sample is a turn that has tokens, its scores those that have a value; the log's metrics are their means. The whole
    log is in memory while it is written. Raises ``MissingExtra`` without inspect_ai, ``RunNotFound``, ``StoreError``.
    """
    if out.suffix not in ENDINGS:
        raise StoreError(f"{out}: a log of inspect_ai ends in {' or '.join(ENDINGS)}; give another --out")
    api = _inspect()
    found = store.run(run)
    with store.read() as session:
        names = score_names(session, run)
        samples = [_sample(api, row, talk, names) for row, talk in said_turns(session, run, names)]
    log = api.log.EvalLog(
        status=STATUSES.get(found.status, "cancelled"),
        eval=_spec(api, found, len(samples)),
        results=_results(api, samples),
        stats=api.log.EvalStats(started_at=found.started_at, completed_at=found.finished_at or ""),
    )
    log.samples = samples
    with beside(out) as draft:
        api.log.write_eval_log(log, str(draft.absolute()), format="json" if out.suffix == ".json" else "eval")
    return len(samples)


def _spec(api: _Inspect, run: RunRow, samples: int) -> Any:
    return api.log.EvalSpec(
        created=run.started_at,
        task=run.name,
        task_id=run.id,
        run_id=run.id,
        eval_id=run.id,
        dataset=api.log.EvalDataset(name=run.name, samples=samples),
        model=f"sparring/{run.name}",
        config=api.log.EvalConfig(),
        metadata={"digest": run.digest, "seed": run.seed},
    )


def _sample(api: _Inspect, row: dict[str, Any], talk: Sequence[Part], names: Sequence[str]) -> Any:
    kinds = {"user": api.model.ChatMessageUser, "assistant": api.model.ChatMessageAssistant}
    messages = [kinds[part.role](content=as_unicode(part.content)) for part in talk]
    scored = {name: row[f"reward_{name}"] for name in names if row[f"reward_{name}"] is not None}
    where = {name: value for name, value in row.items() if not name.startswith("reward_") and name != "logprobs"}
    return api.log.EvalSample(
        id=f"{row['episode']}/{row['turn']}",
        epoch=1,
        input=messages[:-1] or "",
        target="",
        messages=messages,
        output=api.model.ModelOutput.from_content(f"version {row['policy_version']}", as_unicode(talk[-1].content)),
        scores={name: api.scorer.Score(value=value) for name, value in scored.items()},
        metadata=where,
    )


def _results(api: _Inspect, samples: Sequence[Any]) -> Any:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for name, score in sample.scores.items():
            values[name].append(score.value)
    scores = [
        api.log.EvalScore(
            name=name,
            scorer=name,
            scored_samples=len(given),
            unscored_samples=len(samples) - len(given),
            metrics={"mean": api.log.EvalMetric(name="mean", value=sum(given) / len(given))},
        )
        for name, given in sorted(values.items())
    ]
    return api.log.EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=scores)
