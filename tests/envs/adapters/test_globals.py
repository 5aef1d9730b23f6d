"""Global generators are lent to foreign code for a call: neither side sees the other's draws."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparring.envs.adapters.globals import Globals, need
from sparring.scenarios.errors import MissingExtra


def draw() -> tuple[float, float]:
    return random.random(), float(np.random.random())


def test_equal_seeds_draw_equally_and_go_on_between_calls() -> None:
    first, second = Globals("a", 1), Globals("a", 1)
    drawn = []
    for generators in (first, second, first, second):
        with generators.lend():
            drawn.append(draw())
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_a_foreign_draw_between_calls_changes_nothing() -> None:
    alone, disturbed = Globals("b"), Globals("b")
    with alone.lend():
        expected = [draw(), draw()]
    found = []
    for _ in range(2):
        with disturbed.lend():
            found.append(draw())
        draw()
        random.seed(99)
    assert found == expected


def test_lending_changes_nothing_outside_even_when_the_call_raises() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = draw()
    random.seed(5)
    np.random.seed(5)
    with pytest.raises(ZeroDivisionError), Globals("c").lend():
        draw()
        raise ZeroDivisionError
    assert draw() == expected


def test_threads_do_not_mix_their_draws() -> None:
    def played(number: int) -> list[tuple[float, float]]:
        generators, drawn = Globals("d", number), []
        for _ in range(50):
            with generators.lend():
                drawn.append(draw())
        return drawn

    expected = [played(number) for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(played, range(4))) == expected


def test_a_missing_library_is_named_with_the_line_to_type() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'sparring\[textarena\]'"):
        need("no_such_library_here", "textarena")
