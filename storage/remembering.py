"""What a role reads of its own past: the newest turns of a run's earlier steps that earned enough. Nothing is kept
beside the rows, so a run that was killed and resumed remembers the same."""

from __future__ import annotations

from sqlalchemy import select

from sparring.envs.types import Validity
from sparring.scenarios.schema import MemorySpec, Scenario

from .store import Store, run_number
from .tables import Episodes, Scores, Steps, Turns


def recall(store: Store, run: str, scenario: Scenario, step: int) -> dict[str, tuple[str, ...]]:
    """By role with a memory: what it reads in ``step``, oldest first.

    Steps that may not be saved yet when ``step`` is played (``rollout.ahead``) are left out, so timing decides nothing.
    """
    before = step - scenario.rollout.ahead
    return {
        name: remembered(store, run, name, role.memory, before)
        for name, role in scenario.roles.items()
        if role.memory is not None
    }


def remembered(store: Store, run: str, role: str, memory: MemorySpec, before: int) -> tuple[str, ...]:
    """What ``role`` said in its newest turns before step ``before`` that the memory keeps, as its parser read it."""
    wanted = select(Turns.parsed_value, Turns.said).join(Episodes, Episodes.id == Turns.episode_id)
    wanted = wanted.join(Steps, Steps.id == Episodes.step_id).join(Scores, Scores.turn_id == Turns.id)
    wanted = wanted.where(Steps.run_id == run_number(run), Steps.number < before, Turns.author == role)
    wanted = wanted.where(Scores.name == memory.score, Scores.validity == str(Validity.VALUED))
    wanted = wanted.where(Scores.value >= memory.at_least)
    newest = wanted.order_by(Steps.number.desc(), Episodes.number.desc(), Turns.number.desc()).limit(memory.keep)
    with store.read() as session:
        rows = session.execute(newest).all()
    return tuple(value if isinstance(value, str) else said for value, said in reversed(rows))
