"""``recipes``: what there is, what each is, a copy, and a measurement in processes of its own that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as Told

from sparring.scenarios.load import load
from sparring.storage.intervals import t_quantile
from sparring.training.cli.recipes import book
from sparring.training.cli.recipes.measuring import Measuring
from sparring.training.cli.recipes.results import Ran, Result, effects, note, save, stored

Tell = Callable[..., Told]
BLOCK = """\
# kept as it is
recipe:
  paper: "A paper of ours, arXiv 1234.56789"
  mechanism: "This. And that."
  controls:
    off: {training.optimizer.lr: 1.0e-9}
    longer: {training.steps: 3, budget: {}}
  gpu: {policy.model: Qwen/Qwen3-4B, engine: {kind: vllm}}
  watch: {tokens: "falls"}
"""


def ran(arm: str, *values: float) -> list[Ran]:
    return [Ran(arm, seed, value, 20, 100, 2, 1.5, "done") for seed, value in enumerate(values)]


def result(*runs: Ran, claim: str = "higher", digest: str = "d") -> Result:
    return Result("tiny", digest, "accuracy", claim, {"date": "2026-01-01"}, tuple(runs))


SURE = result(*ran("recipe", 0.80, 0.90, 0.85), *ran("off", 0.70, 0.80, 0.74))


def test_an_unknown_recipe_is_told_with_the_nearest_and_all_known(
    told: Tell, described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "RECIPES", described.parent)
    for command in ("show", "copy", "measure"):
        done = told("recipes", command, "timy")
        assert done.exit_code == 2
        assert done.stderr == "unknown recipe 'timy'; did you mean 'tiny'? known: tiny\n"


def test_show_tells_what_it_sets_and_lines_to_type(told: Tell, described: Path) -> None:
    lines = told("recipes", "show", "tiny.yaml").stdout.splitlines()
    assert lines[:2] == ["tiny: A paper of ours, arXiv 1234.56789", "  This. And that."]
    assert "  training.steps=2" in lines and "  not yet" in lines and "control off" in lines
    assert lines[-1].endswith("""-s 'policy.model="Qwen/Qwen3-4B"' -s 'engine={"kind": "vllm"}'""")


def test_a_copy_is_the_file_and_never_written_over(told: Tell, described: Path) -> None:
    assert told("recipes", "copy", "tiny.yaml", "mine").exit_code == 0
    assert Path("mine/tiny.yaml").read_bytes() == described.read_bytes()
    again = told("recipes", "copy", "tiny.yaml", "mine")
    assert again.exit_code == 2 and "is there already and is left as it is" in again.stderr


def test_a_difference_is_paired_by_seed_with_its_interval() -> None:
    found = SURE.against("off")
    half = t_quantile(2) * 0.0057735 / 3**0.5
    assert found.mean == pytest.approx(0.31 / 3) and found.n == 3
    assert found.high == pytest.approx(0.31 / 3 + half, abs=1e-6)
    assert SURE.measured("off") == "accuracy 0.850 against 0.747 (off), +0.103 [+0.089, +0.118], 3 seeds: as claimed"


@pytest.mark.parametrize(
    ("off", "claim", "verdict"),
    [
        ((0.70, 0.80, 0.74), "lower", "the other way"),
        ((0.90, 0.80, 0.85), "higher", "no effect shown"),
        ((0.95, 1.05, 1.01), "higher", "the other way"),
        ((0.70,), "higher", "one seed says nothing"),
    ],
)
def test_a_verdict_is_what_the_interval_says(off: tuple[float, ...], claim: str, verdict: str) -> None:
    assert result(*ran("recipe", 0.80, 0.90, 0.85), *ran("off", *off), claim=claim).verdict("off") == verdict


def test_a_result_comes_back_from_its_file(described: Path) -> None:
    one = book.read(described)
    assert stored(one) is None
    save(SURE, one.result_file)
    assert stored(one) == SURE
    one.result_file.write_text("{}")
    with pytest.raises(ValueError, match="is no result"):
        stored(one)


@pytest.mark.parametrize("before", ["", '  measured: "old"\n', "  measured: >-\n    old\n    words\n"])
@pytest.mark.parametrize("after", ["name: x\n", "\n# a comment\nname: x\n", ""])
def test_only_the_measured_line_of_a_recipe_is_written(before: str, after: str) -> None:
    head, tail = "# first\n", '  watch: {a: "b"}\n'
    text = f"{head}recipe:\n  paper: x\n{before}{tail}{after}"
    found = note(text, "0.9 against 0.8")
    said = '  measured: "0.9 against 0.8"\n'
    expected = [f"{said}{tail}", f"{tail}{said}"][not before]
    assert found == f"{head}recipe:\n  paper: x\n{expected}{after}"
    assert note(found, "0.9 against 0.8") == found


def test_what_is_said_of_a_recipe_changes_no_digest_and_a_control_does(described: Path) -> None:
    was, text = book.read(described).digest, described.read_text()
    described.write_text(note(text, "0.9 against 0.8").replace("This. And that.", "Other words."))
    assert book.read(described).digest == was
    described.write_text(text.replace("1.0e-9", "1.0e-8"))
    assert book.read(described).digest != was


def test_the_page_of_effects_has_a_row_for_each_control(described: Path) -> None:
    save(result(*SURE.runs, *ran("longer", 0.8, 0.9, 0.85)), book.read(described).result_file)
    rows = [line.split(" | ") for line in effects(described.parent).splitlines() if line.startswith("| [")]
    assert [row[3] for row in rows] == ["`off`", "`longer`"]
    assert [row[8] for row in rows] == ["as claimed", "no effect shown"]


def test_a_control_is_stopped_by_the_tokens_the_recipe_took(described: Path, tmp_path: Path) -> None:
    said = Measuring(book.read(described), tmp_path)
    assert said._limits("off", 77) == ["budget.tokens=77", "training.steps=4"]
    assert said._limits("longer", 77) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "0,x"],
        ["--seeds", "1,1"],
        ["--seeds", "0,00"],
        ["--control", "of"],
        ["--write", "--control", "longer"],
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(told: Tell, described: Path, words: list[str]) -> None:
    done = told("recipes", "measure", "tiny.yaml", *words)
    assert done.exit_code == 2 and done.stderr and not Path("sparring-recipes").exists()


def test_a_folder_with_runs_of_another_version_is_refused(told: Tell, described: Path) -> None:
    Path("work").mkdir()
    Measuring(book.read(described), Path("work"))._same_file()
    described.write_text(described.read_text().replace("steps: 2", "steps: 3"))
    done = told("recipes", "measure", "tiny.yaml", "--folder", "work")
    assert done.exit_code == 1 and "another version" in done.stderr


@pytest.mark.slow
def test_measuring_runs_every_arm_once_and_goes_on(told: Tell, described: Path) -> None:
    done = told("recipes", "measure", "tiny.yaml", "--seeds", "3,5", "--folder", "work", "--write")
    assert done.exit_code == 0, done.output
    one = book.read(described)
    found = stored(one)
    assert found is not None and found.digest == one.digest
    assert [(run.arm, run.seed) for run in found.runs] == [(a, s) for a in ("recipe", "off", "longer") for s in (3, 5)]
    tokens = {(run.arm, run.seed): run.tokens for run in found.runs}
    assert all(tokens["off", seed] >= tokens["recipe", seed] > 0 for seed in (3, 5))
    assert [run.steps for run in found.runs if run.arm == "longer"] == [3, 3]
    spec = load(described).recipe
    assert spec is not None and spec.measured == found.measured("off")
    assert (described.parent / "effects.md").read_text() == effects(described.parent)
    Path("work/off-5/result.json").unlink()
    before = Path("work/off-3/log.txt").stat().st_mtime_ns
    again = json.loads(told("recipes", "measure", "tiny.yaml", "--seeds", "3,5", "--folder", "work", "--json").stdout)
    same = [(run["arm"], run["seed"], run["value"], run["tokens"]) for run in again["result"]["runs"]]
    assert same == [(run.arm, run.seed, run.value, run.tokens) for run in found.runs]  # same seed, same run
    assert Path("work/off-3/log.txt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_recipe_and_control_can_learn_from_one_stored_run(told: Tell, described: Path) -> None:
    described.write_text(described.read_text().replace("  gpu:", "  collect: {training.steps: 1}\n  gpu:"))
    done = told("recipes", "measure", "tiny.yaml", "--seeds", "0", "--control", "off", "--folder", "work", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["result"]["runs"]
    assert [run["steps"] for run in found] == [2, 2] and found[0]["tokens"] == found[1]["tokens"]


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_words(told: Tell, described: Path) -> None:
    described.write_text(described.read_text().replace("{training.optimizer.lr: 1.0e-9}", "{policy.model: ./nowhere}"))
    done = told("recipes", "measure", "tiny.yaml", "--seeds", "0", "--control", "off", "--folder", "work")
    assert done.exit_code == 1 and "is not a model folder" in done.stderr and "log.txt" in done.stderr


def test_listing_recipes_imports_no_model_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from sparring.training.cli import app;"
        "done = CliRunner().invoke(app, ['recipes']); assert done.exit_code == 0, done.output;"
        "print([name for name in ('torch', 'transformers', 'langgraph', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
