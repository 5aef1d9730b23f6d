"""Generated programs mean what the generator says they mean, and keep to their depth, range and split."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from numpy.random import default_rng

from sparring.envs.code.env import count_lines
from sparring.envs.code.programs import DEEPEST, LITERAL, WIDEST, held_out, write, write_solved
from sparring.envs.code.sandbox import Sandbox

LINE = re.compile(
    r"[abcd]=([0-9]|[abcd][+\-][abcd1-9]|[abcd]\*[23]|[abcd]%7|[abcd]//2|(max|min)\([abcd],[abcd]\))"
    r"|[abcd][+\-]=[abcd1-9]|[abcd]\*=[23]|if [abcd][<>][abcd]:[abcd]=[abcd]"
)


def test_python_prints_and_assigns_what_the_generator_says() -> None:
    rng = default_rng(0)
    with Sandbox("auto", workers=1) as sandbox:
        for n in range(200):
            solved = write_solved(n % DEEPEST + 1, rng)
            ran = sandbox.run(solved.program, trace=True)
            assert (ran.stdout, ran.trace) == (solved.output + "\n", solved.trace), solved.program


@pytest.mark.parametrize("depth", range(1, DEEPEST + 1))
def test_programs_have_their_depth_the_shown_forms_and_small_values(depth: int) -> None:
    rng = default_rng(depth)
    for _ in range(100):
        solved = write_solved(depth, rng)
        *lines, last = solved.program.split("\n")
        assert len(lines) == depth == count_lines(solved.program)
        assert all(LINE.fullmatch(line) for line in lines) and last.startswith("print(")
        assert all(abs(int(entry.split("=")[1])) <= LITERAL * WIDEST for entry in [*solved.trace, f"x={solved.output}"])
        assert all(one != two for one, two in pairwise(lines))


def test_equal_generators_write_equal_programs() -> None:
    one, two = default_rng(7), default_rng(7)
    assert [write(4, one) for _ in range(50)] == [write(4, two) for _ in range(50)]


def test_splits_do_not_overlap_and_a_tenth_is_held_out() -> None:
    rng = default_rng(1)
    assert not any(held_out(write(3, rng, "train")) for _ in range(100))
    assert all(held_out(write(3, rng, "held_out")) for _ in range(20))
    assert 0.07 < sum(held_out(write(6, rng)) for _ in range(2000)) / 2000 < 0.13


@pytest.mark.parametrize("depth", [0, 7, -1])
def test_an_impossible_depth_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 6"):
        write(depth, default_rng(0))
