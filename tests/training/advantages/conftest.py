"""Groups and traces made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sparring.training.advantages.base import Trace
from sparring.training.groups import Group, Member, Place


def make_group(rewards: Sequence[float], at: int = 0, tokens: Sequence[int] | None = None, **more: Any) -> Group:
    """Siblings with these rewards in episode ``at``."""
    sizes = tokens or [3] * len(rewards)
    members = [Member(Place(at, i), r, {"r": r}, sizes[i]) for i, r in enumerate(rewards)]
    return Group.of(more.get("role", "role"), "node", f"episode {at} turn 0", members)


def make_trace(rewards: Sequence[float], **columns: Any) -> Trace:
    """One row of one turn; columns by name without the suffix, zeros where none is given."""
    n = len(rewards)

    def column(name: str) -> Any:
        return np.asarray(columns[name], float) if name in columns else None

    turns, groups = columns.get("turn", [0] * n), columns.get("group", [0] * n)
    return Trace(
        columns.get("role", "role"),
        np.asarray(rewards, float),
        np.asarray(columns.get("advantage", [0.0] * n), float),
        np.ones(n),
        np.asarray(columns.get("logprob", [0.0] * n), float),
        column("reference"),
        column("value"),
        column("process"),
        np.asarray(turns),
        np.asarray(groups),
    )


@pytest.fixture(scope="session")
def group() -> Callable[..., Group]:
    """``group(rewards, at, tokens)``: one group."""
    return make_group


@pytest.fixture(scope="session")
def trace() -> Callable[..., Trace]:
    """``trace(rewards, value=..., process=...)``: one row's trained tokens."""
    return make_trace
