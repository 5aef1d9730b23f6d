"""``check``, ``list`` and ``graph`` on the command line: what they print and which code they leave with."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sparring.scenarios import docstrings
from sparring.scenarios.registry import PARTS
from sparring.training.cli import Commands, static

ROOT = Path(__file__).resolve().parents[2]


def entry_points_of(kind: str) -> list[str]:
    """The names of our own parts of one kind; other tests register parts of theirs."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return sorted(points.get(f"sparring.{kind}", {}))


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    """The three commands alone."""
    made = typer.Typer(cls=Commands)
    static.add_to(made)
    return made


def told(app: typer.Typer, *words: str) -> Result:
    """What one command line gives."""
    return CliRunner().invoke(app, words)


def test_check_of_a_sound_file_leaves_with_0(app: typer.Typer, folder: Path) -> None:
    done = told(app, "check", str(folder / "small.yaml"))
    assert done.exit_code == 0 and "no problems found" in done.stdout and "roles: solver, critic" in done.stdout


def test_check_tells_what_teaches_and_what_moves(app: typer.Typer, folder: Path) -> None:
    moving = "training.optimizer.lr={linear: {from: 1.0e-3, to: 0}}"
    done = told(app, "check", str(folder / "small.yaml"), "-s", "training.loss=reinforce", "-s", moving)
    assert "loss reinforce\n" in done.stdout and "on a schedule: training.optimizer.lr\n" in done.stdout


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


def test_list_takes_several_kinds_and_short_names(app: typer.Typer) -> None:
    lines = told(app, "list", "stage", "advantage").stdout.splitlines()
    assert [line for line in lines if line.endswith(":")] == ["group_stage:", "advantage:"]
    assert told(app, "list", "stage").stdout == told(app, "list", "group_stage").stdout != ""


@pytest.mark.parametrize("kind", ["loss", "advantage", "stage", "trainer", "objective"])
def test_list_tells_formula_and_source(app: typer.Typer, kind: str) -> None:
    rows = [line.split(maxsplit=1) for line in told(app, "list", kind).stdout.splitlines()]
    names = PARTS[static.SHORT.get(kind, kind)].names()
    assert [first for first, *_ in rows] == [word for name in names for word in (name, "formula", "source")]
    assert set(json.loads(told(app, "list", kind, "--json").stdout).popitem()[1]) == set(names)


@pytest.mark.parametrize(("kind", "name"), [
    (kind, name) for kind in static.EXPLAINED for name in entry_points_of(kind)
])  # fmt: skip
def test_what_teaches_has_a_formula_and_a_source(kind: str, name: str) -> None:
    one = docstrings.told(PARTS[kind].get(name))
    assert 5 < len(one.summary) <= 120
    assert docstrings.MATHS.search(one.formula), f"{kind} {name}: its docstring holds no formula"
    assert docstrings.CITATION.search(one.source), f"{kind} {name}: its docstring holds no citation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R - mean, no scaling (Dr. GRPO, arXiv 2503.20783).", ("R - mean", "Dr. GRPO, arXiv 2503.20783")),
        ("Z.\n\nL = -A logp; done.\nSource: Williams 1992.\nGradient: none.", ("L = -A logp; done", "Williams 1992")),
        ("Pairs.\n\nLoss -log s(h) (DPO, arXiv 2305.18290). More.", ("Loss -log s(h)", "DPO, arXiv 2305.18290")),
        ("KL per token: forward covers.\n\nThe gradient is 0. D = a - b (trl#534).", ("D = a - b", "trl#534")),
        ("Adds a few, then b >= c (Xi and Yu 1992).", ("Adds a few, then b >= c", "Xi and Yu 1992")),
        ("Keeps a few (the best).", ("", "")),
        ("", ("", "")),
    ],
)
def test_formula_and_source_are_read_from_a_docstring(text: str, expected: tuple[str, str]) -> None:
    class Part: ...

    Part.__doc__ = text
    assert docstrings.told(Part)[1:] == expected


def test_graph_prints_mermaid(app: typer.Typer, folder: Path) -> None:
    done = told(app, "graph", str(folder / "small.yaml"))
    assert done.exit_code == 0 and "n0 -->|wrong| n1" in done.stdout
