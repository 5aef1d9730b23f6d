"""``check``, ``list`` and ``graph`` on the command line: what they print and which code they leave with."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sparring.scenarios.registry import PARTS
from sparring.training.cli import static


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    """The three commands alone."""
    made = typer.Typer()
    static.add_to(made)
    return made


def told(app: typer.Typer, *words: str) -> Result:
    """What one command line gives."""
    return CliRunner().invoke(app, words)


def test_check_of_a_sound_file_leaves_with_0(app: typer.Typer, folder: Path) -> None:
    done = told(app, "check", str(folder / "small.yaml"))
    assert done.exit_code == 0 and "no problems found" in done.stdout and "roles: solver, critic" in done.stdout


def test_check_of_a_wrong_override_leaves_with_2_and_one_line(app: typer.Typer, folder: Path) -> None:
    done = told(app, "check", str(folder / "small.yaml"), "-s", "training.stepz=3")
    assert done.exit_code == 2 and not done.stdout
    assert done.stderr.startswith("-s training.stepz=3: training.stepz: unknown key") and done.stderr.count("\n") == 1


def test_checking_creates_nothing(app: typer.Typer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    told(app, "check", "small.yaml")
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_list_names_every_kind_of_part(app: typer.Typer) -> None:
    lines = told(app, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(PARTS)


@pytest.mark.parametrize("kind", ["condition", "reward", "curriculum", "task-source"])
def test_list_of_a_kind_has_a_line_for_each_part(app: typer.Typer, kind: str) -> None:
    lines = told(app, "list", kind).stdout.splitlines()
    assert [line.split()[0] for line in lines] == PARTS[kind.replace("-", "_")].names()


def test_list_of_an_unknown_kind_has_a_hint(app: typer.Typer) -> None:
    done = told(app, "list", "rewrd")
    assert done.exit_code == 2 and "did you mean 'reward'?" in done.stderr


def test_graph_prints_mermaid(app: typer.Typer, folder: Path) -> None:
    done = told(app, "graph", str(folder / "small.yaml"))
    assert done.exit_code == 0 and "n0 -->|wrong| n1" in done.stdout
