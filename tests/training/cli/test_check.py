"""``check``: what a word on the command line means, and that a broken environment ends with exit status 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from sparring.envs.points import POINTS

Told = Callable[..., Result]

WORLD = """
from sparring.envs.base import Environment
from sparring.envs.types import Score, Task


class {name}(Environment):
    "Say the number that follows."

    parameters = {{"digits": range(3, 6)}}

    def sample(self, parameters, rng):
        number = int(rng.integers(10 ** parameters["digits"]))
        return Task("{name}", {{"number": number}}, {{"reference": str(number + 1)}}, parameters)

    def begin(self, task):
        return str(task.payload["number"])

    def oracle(self):
        return self.task.secret["reference"]

    def step(self, action):
        right = {verdict}
        return "", float(right), True, False, {{"scores": [Score.valued("verifier", right, by="test")]}}
"""
SOUND = WORLD.format(name="Next", verdict='action.strip() == self.task.secret["reference"]')
WEAK = WORLD.format(name="Weak", verdict="len(action) > 20")


def test_a_sound_environment_in_a_file_passes_and_every_point_is_shown(told: Told, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOUND)
    done = told("check", "mine.py:Next", "--tasks", "4")
    assert done.exit_code == 0, done.output
    assert all(point in done.stdout for point in POINTS) and "BROKEN" not in done.stdout
    assert told("check", "mine.py").exit_code == 0  # one class: no name is needed


def test_a_fooled_verifier_is_exit_status_one_with_the_answer_that_fooled_it(told: Told, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WEAK)
    done = told("check", "mine.py", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    broken = [point["name"] for point in found["checks"][0]["findings"] if point["kept"] is False]
    assert "verifier resists cheap answers" in broken and found["broken"] == len(broken)
    assert found["checks"][0]["audit"]["ways"][0]["mean"] == 1.0


def test_the_limit_the_tasks_and_the_seed_can_be_chosen(told: Told) -> None:
    first, second = (
        json.loads(told("check", "code", "-s", "mode=predict_output", "--seed", seed, "--tasks", "5", "--json").stdout)[
            "checks"
        ][0]["audit"]
        for seed in ("1", "2")
    )
    assert first["tasks"] == second["tasks"] == 5 and first["ways"] != second["ways"]
    assert told("check", "code", "-s", "mode=predict_output", "--most", "0").exit_code == 1


def test_a_registered_environment_is_checked_with_the_options_given(told: Told) -> None:
    found = json.loads(told("check", "echo", "-s", "tries=3", "--json").stdout)
    assert [one["options"] for one in found["checks"]] == [{"tries": 3}] and found["broken"] == 0


def test_a_name_that_means_two_things_says_how_to_choose(told: Told, tmp_path: Path) -> None:
    (tmp_path / "echo").write_text("name: mine\n")
    done = told("check", "echo")
    assert done.exit_code == 2 and "scenario:echo or environment:echo" in done.stderr
    assert told("check", "environment:echo").exit_code == 0
    assert "environment: is required" in told("check", "scenario:echo").stderr


def test_a_folder_is_its_environment_module(told: Told, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "environment.py").write_text(SOUND)
    assert told("check", "mine").exit_code == told("check", "mine/").exit_code == 0
    (tmp_path / "mine" / "other").mkdir()
    (tmp_path / "mine" / "other" / "environment.py").write_text(SOUND)
    assert (
        "several environments; write mine/environment.py or mine/other/environment.py" in told("check", "mine").stderr
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "ecko"), "did you mean the environment 'echo'?"),
        (("check", "smokey"), "did you mean 'smoke'?"),
        (("check", "environment:ecko"), "did you mean 'echo'?"),
        (("check", "echo", "-s", "trie=2"), "did you mean 'tries'?"),
        (("check", "echo", "-s", "tries=many"), "a whole number is needed"),
        (("check", "echo", "-s", "tries"), "key=value"),
        (("check", "smoke", "--tasks", "4"), "are for checking an environment"),
        (("check", "away.py"), "away.py: no such file"),
        (("check", "two.py"), "write two.py:One or two.py:Two"),
        (("check", "two.py:Tow"), "has no environment 'Tow'"),
        (("check", "none.py"), "has no environments"),
        (("check", "broken.py"), "broken.py:1: SyntaxError"),
        (("check", "."), "name a scenario file in it"),
    ],
)
def test_a_mistake_is_one_message_that_names_the_way_on(
    told: Told, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    base = "from sparring.envs.base import Environment\n"
    (tmp_path / "two.py").write_text(f"{base}class One(Environment): pass\nclass Two(Environment): pass\n")
    (tmp_path / "none.py").write_text(base)
    (tmp_path / "broken.py").write_text("class One(:\n")
    done = told(*words)
    assert done.exit_code == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


FOOLED = """
name: fooled
load: [fooled.py]
environment: fooled-by-length
policy: {model: ./model}
roles: {solver: {kind: plain, prompt: say.md, reward: [verifier], sampling: {max_tokens: 4}}}
graph: solve
curriculum: {kind: random, arms: {digits: [3]}}
rollout: {episodes: 2, picks: 1}
training: {steps: 1}
evaluation: {every: 0}
"""


def test_a_run_whose_verifier_is_fooled_is_refused_and_leaves_nothing_unless_trusted(
    told: Told, tmp_path: Path, tiny_model: Path
) -> None:
    register = "\nfrom sparring.scenarios.registry import environments\nenvironments('fooled-by-length')(Weak)\n"
    (tmp_path / "fooled.py").write_text(WEAK + register)
    (tmp_path / "fooled.yaml").write_text(FOOLED)
    (tmp_path / "say.md").write_text("{{ number }}\n")
    (tmp_path / "model").symlink_to(tiny_model)
    done = told("run", "fooled.yaml")
    assert done.exit_code == 1 and "earns 1.000" in done.stderr and "--trust-verifier" in done.stderr
    assert json.loads(told("runs", "--json").stdout) == [] and not (tmp_path / "checkpoints").exists()
    for way in (("--trust-verifier",), ("-s", "audit.most=1")):
        assert told("run", "fooled.yaml", *way).exit_code == 0
    asked = json.loads(told("sql", "SELECT json_extract(info, '$.audit.trusted') AS t FROM runs", "--json").stdout)
    assert [row["t"] for row in asked] == [1, 0]
