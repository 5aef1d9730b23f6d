"""``new``: what it writes passes ``check``, trains at once, installs, and never overwrites anything."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.load import load
from sparring.storage.store import Store
from sparring.training.cli import scaffold

Told = Callable[..., Result]
NUMBERS = itertools.count()


@pytest.fixture
def name() -> str:
    """A name no other test has: what is checked here stays registered as long as the process lives."""
    return f"world-{next(NUMBERS)}"


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.strip()]


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_environment_is_a_whole_package_that_passes_check(told: Told, tmp_path: Path, name: str) -> None:
    done, package = told("new", "environment", name), name.replace("-", "_")
    assert done.exit_code == 0 and f"sparring check {name}" in done.stdout and f"{name}/scenario.yaml" in done.stdout
    assert set(files(tmp_path / name)) == {
        "pyproject.toml", "README.md", "scenario.yaml", "prompt.md",
        f"{package}/__init__.py", f"{package}/environment.py", f"tests/test_{package}.py",
    }  # fmt: skip
    assert 20 <= len(lines(tmp_path / name / package / "environment.py")) <= 30
    checked = told("check", name)
    assert checked.exit_code == 0, checked.output
    assert "oracle earns the full mark           kept  mean 1.000" in checked.stdout


def test_every_step_it_prints_is_one_that_can_be_typed(told: Told, name: str) -> None:
    shown = [line.split() for line in told("new", "environment", name).stdout.splitlines()[1:]]
    assert [words[0] for words in shown] == ["sparring", "sparring", "pytest", "pip"]
    assert told(*shown[0][1:3]).exit_code == 0
    assert load(shown[1][2]).name == name and Path(shown[2][1]).is_dir() and shown[3][3] == f"./{name}"


def test_its_scenario_trains_two_steps_without_anything_installed(told: Told, tiny_model: Path, name: str) -> None:
    told("new", "environment", name)
    asked = ("-s", "training.steps=2", "-s", f"policy.model={tiny_model}", "-s", "evaluation.tasks=3")
    done = told("run", f"{name}/scenario.yaml", *asked)
    assert done.exit_code == 0, done.output
    with Store("sparring.db", create=False) as store:
        assert store.run("r1").last_step == 2
    assert "first attempts right 1.000" in done.stdout and "nothing to learn" not in done.stdout  # the oracle shows how


@pytest.mark.slow
def test_its_own_test_passes(told: Told, tmp_path: Path) -> None:
    told("new", "environment", "word-count", "--to", "envs")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "envs/word-count"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


def test_its_wheel_holds_the_module_and_the_entry_point(told: Told, tmp_path: Path) -> None:
    told("new", "environment", "word-count")
    built = next(WheelBuilder(str(tmp_path / "word-count")).build(directory=str(tmp_path), versions=["standard"]))
    held = zipfile.ZipFile(built)
    assert {"word_count/__init__.py", "word_count/environment.py"} <= set(held.namelist())
    points = held.read("word_count-0.1.0.dist-info/entry_points.txt").decode()
    assert "[sparring.environment]" in points and "word-count = word_count.environment:WordCount" in points


def test_what_is_there_already_is_left_untouched(told: Told, tmp_path: Path, name: str) -> None:
    for words in (("new", "environment", name), ("new", "scenario", name)):
        told(*words)
        before = files(tmp_path)
        done = told(*words)
        assert done.exit_code == 2 and "left as it is" in done.stderr and files(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert told("new", "environment", "empty").exit_code == 2 and not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Coin", "is no name"),
        ("9lives", "is no name"),
        ("../up", "is no name"),
        ("a" * 41, "is no name"),
        ("coin--flip", "is no name"),
        ("code", "is there already"),
        ("json", "Python already has 'json'"),
        ("numpy", "Python already has 'numpy'"),
        ("class", "Python already has 'class'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    told: Told, tmp_path: Path, name: str, says: str
) -> None:
    done = told("new", "environment", name)
    assert done.exit_code == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(told: Told, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = told("new", "environment", "pfennig", "--to", "locked")
    assert done.exit_code == 1 and "cannot be written" in done.stderr


def test_a_file_where_a_folder_should_be_is_named(told: Told, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for what in ("environment", "scenario"):
        done = told("new", what, "pfennig", "--to", "file/inner")
        assert done.exit_code == 1 and "file/inner" in done.stderr and "Traceback" not in done.output
    assert (tmp_path / "file").read_text() == "kept"


def test_a_scenario_checks_and_trains(told: Told, tiny_model: Path) -> None:
    assert "sparring run mine.yaml" in told("new", "scenario", "mine").stdout
    assert told("check", "mine.yaml").exit_code == 0
    asked = ("-s", "training.steps=2", "-s", f"policy.model={tiny_model}", "-s", "evaluation.every=0")
    done = told("run", "mine.yaml", *asked)
    assert done.exit_code == 0 and "step 2/2" in done.stdout, done.output


@given(name=st.from_regex(scaffold.NAME, fullmatch=True))
def test_every_name_it_takes_makes_a_module_and_a_class(name: str) -> None:
    try:
        words = scaffold._words(name)
    except ScenarioError:
        assert len(name) > scaffold.LONGEST
        return
    tree = ast.parse(scaffold._filled("environment/environment.py", words))
    assert words["package"].isidentifier() and words["kind"] in [
        one.name for one in tree.body if isinstance(one, ast.ClassDef)
    ]
