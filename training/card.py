"""The built-in model's card: what it can do before any self-play, measured through the scenario people run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from sparring.envs.types import Pick
from sparring.scenarios.load import load
from sparring.storage.records import EvaluationRow
from sparring.storage.store import Store

from . import session as sessions
from .curriculum.grid import spread
from .pretrain import Lesson
from .summary import summarise

SCENARIO = "code-output"


def measure(folder: Path, tasks: int = 400, episodes: int = 48) -> dict[str, float]:
    """Held-out accuracy per arm at temperatures 1 and 0, and every role's figures in fresh play, before training."""
    overrides = [f"policy.model={folder.absolute()}", f"evaluation.tasks={tasks}"]
    with Store.memory() as store:
        session = sessions.start(load(SCENARIO, overrides), store)
        found: dict[str, float] = {}
        for heat in (1.0, 0.0):
            for row in asyncio.run(_evaluated(session, heat)):
                where = f" {row.parameters['arm']}" if row.parameters else ""
                found[f"{row.name}{where} at temperature {heat:g}"] = row.value
        cells = spread(session.scenario.curriculum.options)
        picks = [Pick(name, cell, episodes // len(cells)) for name, cell in cells.items()]
        played = summarise(asyncio.run(session.rollout.play(picks, 0)))
        kept = ("accepted", "score/", "balanced/")
        found |= {name: value for name, value in played.items() if value is not None and name.startswith(kept)}
        session.gate.close()
    return found


async def _evaluated(session: sessions.Session, temperature: float) -> tuple[EvaluationRow, ...]:
    assert session.evaluation is not None
    return await session.evaluation.measure(0, temperature)


def write(folder: Path, lessons: Sequence[Lesson], figures: Mapping[str, float]) -> None:
    """Put the card beside the weights as README.md."""
    taught = "\n".join(f"{number}. `{asdict(lesson)}`" for number, lesson in enumerate(lessons, 1))
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n\n"
        "# builtin:tiny\n\n"
        "A byte-level, Qwen3-shaped language model that can play the four roles of the `code-output` scenario and is "
        "not good at any: enough to start self-play, far from done. It knows nothing else, no English and no facts.\n\n"
        "Made by `sparring pretrain` from generated role demonstrations, without any downloaded data. In every lesson "
        "skills come first (`clean` of the examples); the rest shows habits to unlearn: answering at once instead of "
        "working line by line, judging by guess, slips in programs, empty rubric lines. `habits` are the shares of "
        "demonstrations that show the better way then.\n\n"
        f"{taught}\n\n"
        "Measured before any self-play, with `evaluation` tasks that neither the lesson nor training sees:\n\n"
        f"| figure | value |\n| --- | --: |\n{rows}\n"
    )
