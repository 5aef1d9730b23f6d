"""What a measurement's folder keeps, refuses and gives back, whatever was there, whoever else works in it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import Result as Told

from sparring.scenarios.errors import SparringError
from sparring.storage.locks import RunLock
from sparring.training.cli.recipes import book
from sparring.training.cli.recipes.arm import ANSWER, NAME
from sparring.training.cli.recipes.measuring import Measuring
from sparring.training.cli.recipes.results import Ran, Result, note, stored

Tell = Callable[..., Told]
BLOCK = """\
recipe:
  paper: "A paper of ours, arXiv 1234.56789"
  mechanism: "This. And that."
  controls:
    off: {training.optimizer.lr: 1.0e-9}
"""


class Quick(Measuring):
    """A measurement whose runs train nothing; ``done`` are those that it did, ``meanwhile`` what happens in one."""

    def __init__(self, recipe: book.Recipe, folder: Path) -> None:
        """Say nothing."""
        super().__init__(recipe, folder, say=lambda line: None)
        self.done: list[str] = []
        self.meanwhile: dict[str, Callable[[], object]] = {}

    def _do(self, arm: str, seed: int, place: Path) -> None:
        self.done.append(place.name)
        self.meanwhile.get(place.name, lambda: None)()
        (place / "run.db").write_text(f"{arm} {seed}")
        answer = {"status": "done", "steps": 2, "tokens": 9, "cpu_s": 1.0, "value": 0.5, "tasks": 2}
        (place / ANSWER).write_text(json.dumps(answer))


@pytest.fixture
def quick(described: Path) -> Callable[[], Quick]:
    """A new measurement of the recipe as its file now is."""
    return lambda: Quick(book.read(described), Path("work"))


def changed(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


# -- at the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("training.optimizer.lr:", "training.optimizer.lrr:", "recipe.controls.off: -s training.optimizer.lrr=1.0e-09"),
        ("  controls:", "  metric: accuraccy\n  controls:", "unknown metric 'accuraccy'; did you mean 'accuracy'?"),
        ("  controls:", "  evaluate: {evaluation.taks: 3}\n  controls:", "recipe.evaluate with recipe.metric: -s"),
        ("  controls:", "  collect: {training.stepz: 3}\n  controls:", "recipe.collect: -s training.stepz=3"),
        ("    off:", "    collect:", "and not recipe or collect"),
    ],
)
def test_a_variant_that_cannot_be_is_told_before_anything_runs(
    told: Tell, described: Path, before: str, after: str, says: str
) -> None:
    changed(described, before, after)
    for command in (["check"], ["recipes", "measure"]):
        done = told(*command, "tiny.yaml")
        assert done.exit_code == 2 and says in done.stderr
        assert done.stderr.startswith("tiny.yaml:") and not Path("sparring-recipes").exists()


def test_check_tries_the_variant_for_a_gpu_and_measuring_needs_it_not(
    told: Tell, described: Path, quick: Callable[[], Quick]
) -> None:
    changed(described, "  controls:", "  gpu: {training.stepz: 3}\n  controls:")
    done = told("check", "tiny.yaml")
    assert done.exit_code == 2 and done.stderr.startswith("tiny.yaml: recipe.gpu: -s training.stepz=3")
    assert len(quick().run([0], ["off"], 1).runs) == 2


def test_a_recipe_whose_result_cannot_be_written_is_not_measured(told: Tell, described: Path) -> None:
    Path("results").write_text("a file")
    done = told("recipes", "measure", "tiny.yaml", "--write")
    assert done.exit_code == 2 and "results: --write cannot write there" in done.stderr
    Path("results").unlink()
    Path("draft.yaml").write_text("recipe:\n  papper: x\n")
    done = told("recipes", "measure", "tiny.yaml", "--write")
    assert done.exit_code == 2 and done.stderr.startswith("effects.md, written with the result, needs every recipe")
    Path("draft.yaml").write_bytes(b"name: caf\xe9\n")  # no recipe, and none of our business
    changed(described, BLOCK, 'recipe: {paper: "x", mechanism: "y", controls: {off: {training.steps: 1}}}\n')
    done = told("recipes", "measure", "tiny.yaml", "--write")
    assert done.exit_code == 2 and done.stderr.startswith("tiny.yaml: no line `recipe:`")
    assert not Path("sparring-recipes").exists()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("gone.yaml", "gone.yaml: no such file"),
        ("there.txt/gone", "no such file"),
        ("sub.yaml", "sub.yaml: is a folder"),
        ("./there.txt", "not named .yaml or .yml"),
        ("misspelt.yaml", "misspelt.yaml:2: recipe.papper: unknown key 'papper'; did you mean 'paper'?"),
        ("without.yaml", "holds no recipe: block; write one"),
    ],
)
def test_what_is_no_recipe_is_told_with_its_reason(told: Tell, word: str, says: str) -> None:
    Path("sub.yaml").mkdir()
    Path("there.txt").write_text("x")
    Path("misspelt.yaml").write_text("recipe:\n  papper: x\n  mechanism: y\n")
    Path("without.yaml").write_text("name: x\n")
    done = told("recipes", "show", word)
    assert done.exit_code == 2 and says in done.stderr


def test_json_before_the_command_is_not_lost_in_silence(told: Tell) -> None:
    done = told("recipes", "--json", "show", "sec")
    assert done.exit_code == 2 and "sparring recipes show ... --json" in done.stderr


# -- the folder --------------------------------------------------------------------------------------------------------


def test_two_measurements_never_work_in_one_folder(told: Tell, described: Path) -> None:
    Path("work").mkdir()
    lock = RunLock(Path("work/lock"), "work")
    done = told("recipes", "measure", "tiny.yaml", "--folder", "work")
    lock.release()
    assert done.exit_code == 5 and "another measuring works there" in done.stderr
    assert [file.name for file in Path("work").iterdir()] == []


def test_what_is_finished_is_not_done_again_in_any_order_of_seeds(quick: Callable[[], Quick]) -> None:
    first = quick()
    first.run([2, 0], ["off"], 1)
    assert first.done == ["recipe-2", "off-2", "recipe-0", "off-0"]
    (Path("work/off-0") / ANSWER).write_text("{")  # killed while it was written
    again = quick()
    found = again.run([0, 1, 2], ["off"], 1)
    assert again.done == ["off-0", "recipe-1", "off-1"]
    assert [(run.arm, run.seed) for run in found.runs] == [
        (arm, seed) for arm in ("recipe", "off") for seed in (0, 1, 2)
    ]


def test_runs_that_are_finished_stay_so_when_recipe_and_folder_move(
    described: Path, quick: Callable[[], Quick]
) -> None:
    changed(described, "  controls:", "  collect: {training.steps: 1}\n  controls:")
    quick().run([0], ["off"], 1)
    moved = described.rename(described.with_name("moved.yaml"))
    again = Quick(book.read(moved), Path("work").rename("elsewhere"))
    again.run([0], ["off"], 1)
    assert again.done == []


def test_a_finished_run_of_other_settings_is_kept_beside_the_new_one(
    described: Path, quick: Callable[[], Quick]
) -> None:
    for before, after in pairwise(("1.0e-9", "1.0e-9", "1.0e-8", "1.0e-7")):
        changed(described, before, after)
        quick().run([0], ["off"], 1)
    rates = {name: json.loads(Path(f"work/{name}/{NAME}").read_text())["changes"][0] for name in ("off-0.1", "off-0.2")}
    assert rates == {"off-0.1": "training.optimizer.lr=1.0e-09", "off-0.2": "training.optimizer.lr=1.0e-08"}
    assert not Path("work/recipe-0.1").exists()


def test_a_run_that_broke_off_goes_and_what_is_no_run_is_never_removed(quick: Callable[[], Quick]) -> None:
    broken, other = Path("work/recipe-0"), Path("work/off-0")
    broken.mkdir(parents=True)
    (broken / NAME).write_text("{}")
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(SparringError, match="is no run of a recipe; move it away"):
        quick().run([0], ["off"], 1)
    assert (other / "thesis.txt").read_text() == "precious" and (broken / ANSWER).is_file()


def test_who_learns_from_another_first_run_is_another_run(described: Path, quick: Callable[[], Quick]) -> None:
    changed(described, "  controls:", "  collect: {training.steps: 1}\n  controls:")
    quick().run([0], ["off"], 1)
    changed(described, "  collect: {training.steps: 1}", "  collect: {training.steps: 3}")
    again = quick()
    again.run([0], ["off"], 1)
    assert again.done == ["collect-0", "recipe-0", "off-0"]
    assert Path("work/recipe-0.1", ANSWER).is_file()


@pytest.mark.parametrize("file", ["digest", "versions"])
def test_runs_of_another_recipe_or_made_by_others_are_not_taken_for_these(
    quick: Callable[[], Quick], file: str
) -> None:
    quick().run([0], ["off"], 1)
    Path("work", file).write_text("torch 1.0\n")
    with pytest.raises(SparringError, match=r"remove it or name another --folder"):
        quick().run([0], ["off"], 1)


def test_a_prompt_that_changed_makes_another_recipe(described: Path, quick: Callable[[], Quick]) -> None:
    was = book.read(described)
    quick().run([0], ["off"], 1)
    Path("say.md").write_text("Tell {{ text }}.\n")
    assert book.read(described).digest != was.digest and set(was.beside["files"]) == {"say.md"}
    with pytest.raises(SparringError, match="another version"):
        quick().run([0], ["off"], 1)


def test_a_recipe_that_is_changed_while_it_is_measured_gives_no_result(
    described: Path, quick: Callable[[], Quick]
) -> None:
    was, first = described.read_text(), quick()
    first.meanwhile = {"off-0": lambda: described.write_text(f"{was}seed: 3\n")}
    with pytest.raises(SparringError, match="was changed while it was measured; change it back"):
        first.run([0], ["off"], 1)
    described.write_text(was)
    again = quick()
    again.run([0], ["off"], 1)
    assert again.done == ["off-0"]


def test_a_folder_that_cannot_be_is_told(told: Tell, described: Path) -> None:
    Path("work").write_text("a file")
    done = told("recipes", "measure", "tiny.yaml", "--folder", "work")
    assert done.exit_code == 1 and done.stderr.startswith("work: File exists; what is finished stays in work")
    done = told("recipes", "copy", "tiny.yaml", "work")
    assert done.exit_code == 2 and "cannot be written" in done.stderr and "name another folder" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_no_run_outlives_a_measurement_that_was_killed(described: Path) -> None:
    command = [sys.executable, "-P", "-m", "sparring", "recipes", "measure", "tiny.yaml", "--folder", "work"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as measuring:
        job = str(Path("work/recipe-0").resolve() / NAME).encode()
        while not (runs := _with(job)) or not Path("work/recipe-0/run.db").exists():
            assert measuring.poll() is None
            time.sleep(0.05)
        measuring.kill()
    end = time.monotonic() + 30
    while _with(job) and time.monotonic() < end:
        time.sleep(0.05)
    assert runs and _with(job) == []


def _with(word: bytes) -> list[str]:
    """Living processes with this word on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if word in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:  # it ended just now
            continue
    return found


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recipe:\n    paper: x\nname: y\n", 'recipe:\n    paper: x\n    measured: "m"\nname: y\n'),
        ("recipe:\n paper: x\n measured: old\n a: b\n", 'recipe:\n paper: x\n measured: "m"\n a: b\n'),
        ("recipe:\n  paper: x", 'recipe:\n  paper: x\n  measured: "m"\n'),
        ("recipe:\r\n  paper: x\r\n", 'recipe:\r\n  paper: x\r\n  measured: "m"\r\n'),
        ("recipe:\n  measured: >-\n    a\n\n    b\n\n  c: d\n", 'recipe:\n  measured: "m"\n  c: d\n'),
    ],
)
def test_the_measured_line_fits_a_block_however_it_is_written(text: str, expected: str) -> None:
    assert note(text, "m") == expected


def test_a_block_that_cannot_take_the_line_is_left_alone() -> None:
    with pytest.raises(ValueError, match="write it as lines below"):
        note("recipe:\n  {paper: x,\n  mechanism: y}\n", "m")


def test_a_file_that_cannot_be_written_keeps_what_it_held(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 252)  # so long that nothing can be written beside it
    file.write_text("old")
    with pytest.raises(OSError, match="too long"):
        book.put(file, "new")
    assert file.read_text() == "old"
    short = tmp_path / "short"
    short.write_text("old")
    short.chmod(0o640)
    book.put(short, "new")
    assert short.read_text() == "new" and short.stat().st_mode & 0o777 == 0o640


def test_means_are_over_the_seeds_that_a_difference_is_over(described: Path) -> None:
    values = [("recipe", 0, 0.9), ("recipe", 1, 0.5), ("recipe", 2, 0.7), ("off", 1, 0.25), ("off", 2, 0.5)]
    runs = [Ran(arm, seed, value, 2, 9, 2, 1.0, "done") for arm, seed, value in values]
    found = Result("t", "d", "accuracy", "higher", {}, runs).measured("off")
    half = math.tan(0.475 * math.pi) * 0.025  # t(1) s / sqrt(2), where 0.25 and 0.2 are the differences
    spread = f"+0.225 [{0.225 - half:+.3f}, {0.225 + half:+.3f}]"
    assert found == f"accuracy 0.600 against 0.375 (off), {spread}, 2 seeds: no effect shown"


def test_a_result_without_a_seed_in_common_is_no_result(described: Path) -> None:
    one = book.read(described)
    one.result_file.parent.mkdir()
    runs = [Ran("recipe", 0, 0.5, 2, 9, 2, 1.0, "done").__dict__, Ran("off", 1, 0.5, 2, 9, 2, 1.0, "done").__dict__]
    data = {"recipe": "tiny", "digest": "d", "metric": "accuracy", "claim": "higher", "about": {}, "runs": runs}
    one.result_file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="is no result of sparring recipes measure"):
        stored(one)
