"""Episodes of one task each, groups formed from them as a step would, and a player that answers what stages want."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.training.stages.stub_solver import Player, make_attempts, make_groups

from sparring.envs.types import Episode
from sparring.training.groups import Group, Member, Place


@pytest.fixture(scope="session")
def attempts() -> Callable[..., Episode]:
    """``attempts(rewards, key, index, pick)``: one episode."""
    return make_attempts


@pytest.fixture(scope="session")
def groups() -> Callable[[Sequence[Episode]], list[Group]]:
    """``groups(episodes)``: the solver's groups."""
    return make_groups


@pytest.fixture(scope="session")
def player() -> Callable[..., Any]:
    """``player(chances, samples, seed)``: plays one task per chance, then what is wanted."""
    return Player


@pytest.fixture(scope="session")
def group() -> Callable[..., Group]:
    """``group(rewards, tokens)``: a group without episodes behind it."""

    def make(rewards: Sequence[float], tokens: Sequence[int] | None = None) -> Group:
        sizes = tokens or [2] * len(rewards)
        members = [Member(Place(0, at + 1), r, {"verifier": r}, sizes[at]) for at, r in enumerate(rewards)]
        return Group.of("solver", "solve", "episode 0 turn 0", members)

    return make
