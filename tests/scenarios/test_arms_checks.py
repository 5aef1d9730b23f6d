"""Arms and ranges fit the environment, and what does not is told at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load

SCENARIO = """\
name: box
environment: {{kind: code, mode: {mode}}}
roles: {{solver: {{prompt: brief/solver, reward: [verifier]}}}}
graph: solve
curriculum: {curriculum}
evaluation:
  arms: {arms}
"""
WRONG = [
    ("{kind: random, ranges: {depth: [1, 9]}}", "{}", 5, r"ranges.depth\[1\]: found 9; it lies between 1 and 6"),
    ("{kind: random, ranges: {deph: [1, 3]}}", "{}", 5, "unknown continuous parameter of the environment 'deph'; did"),
    ("{kind: random, ranges: {depth: [1.0, 3.5]}}", "{}", 5, r"found \[1.0, 3.5\]; it is a whole number: write"),
    ("{kind: random, ranges: {magnitude: [1, 3]}}", "{}", 5, r"mean whole numbers only; write \[1.0, 3.0\]"),
    ("{kind: random, ranges: {depth: [3, 1]}}", "{}", 5, r"depth: \[3, 1\] is no range; the lower bound comes first"),
    ("{kind: random, ranges: {depth: 3}}", "{}", 5, "curriculum.ranges.depth: found 3; a list is needed"),
    ("{kind: random, ranges: {depth: [1]}}", "{}", 5, r"ranges.depth: found \[1\]; more entries are needed"),
    ("{kind: random, ranges: {depth: wide}}", "{}", 5, "curriculum.ranges.depth: found 'wide'; a list is needed"),
    ("{kind: sec, ranges: {depth: [1, 2]}, arms: {depth: [3]}}", "{}", 5, "is among the arms too"),
    ("{kind: sec, arms: {magnitude: [1.0, 5.0]}}", "{}", 5, r"magnitude\[1\]: found 5.0; it lies between 0.5 and 4.0"),
    ("{kind: sec, arms: {depth: []}}", "{}", 5, "curriculum.arms.depth: is empty"),
    ("{kind: alp_gmm}", "{}", 5, "curriculum.ranges: is required and missing"),
    ("{kind: alp_gmm, ranges: {depth: [1, 3]}, components: [3, 2]}", "{}", 5, r"components: \[3, 2\] is no range"),
    ("{kind: alp_gmm, ranges: {depth: [1, 3]}, memory: 99}", "{}", 5, "memory: 99 tasks cannot hold the 250 of"),
    ("random", "{depth: [1, 7]}", 7, r"evaluation.arms.depth\[1\]: found 7; allowed: 1, 2, 3, 4, 5, 6"),
    ("random", "{size: [1]}", 7, "evaluation.arms.size: unknown parameter of the environment 'size'"),
]


def written(folder: Path, curriculum: str, arms: str = "{}", mode: str = "predict_output") -> Path:
    file = folder / "box.yaml"
    file.write_text(SCENARIO.format(curriculum=curriculum, arms=arms, mode=mode))
    return file


@pytest.mark.parametrize(("curriculum", "arms", "line", "words"), WRONG, ids=[words[:40] for *_, words in WRONG])
def test_what_the_environment_does_not_take_is_told_at_its_line(
    tmp_path: Path, curriculum: str, arms: str, line: int, words: str
) -> None:
    file = written(tmp_path, curriculum, arms)
    with pytest.raises(ScenarioError, match=words) as caught:
        load(file)
    assert f"box.yaml:{line}: " in str(caught.value)


def test_a_mode_without_ranges_says_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"is not continuous: list its values under curriculum.arms"):
        load(written(tmp_path, "{kind: random, ranges: {depth: [1, 3]}}", mode="function"))


@pytest.mark.parametrize("kind", ["random", "interleaved", "blocked", "sec", "ucb", "alp_gmm"])
def test_curricula_of_a_box_are_swapped_by_one_key(tmp_path: Path, kind: str) -> None:
    box = "ranges: {depth: [1, 5], magnitude: [0.5, 4.0]}"
    scenario = load(written(tmp_path, f"{{kind: {kind}, {box}}}", "{depth: [1, 2], magnitude: [0.5, 2.0]}"))
    assert scenario.curriculum.kind == kind and scenario.curriculum.options["ranges"]["magnitude"] == [0.5, 4.0]
