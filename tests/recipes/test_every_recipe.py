"""What holds for every recipe: its file is short and whole, its variants load, and shared parts know none of them."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from sparring.scenarios.load import RECIPES, load
from sparring.scenarios.recipe_spec import words
from sparring.storage.queries import steps
from sparring.storage.store import Store
from sparring.training.cli.recipes.book import Recipe, recipes
from sparring.training.cli.recipes.variants import measuring

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("agents", "envs", "storage", "training", "benchmarks", "tools", "Makefile", "pyproject.toml")
KNOWS = {  # what reads the block: its schema and check, the commands about recipes, the health view
    "scenarios/schema.py", "scenarios/checks.py", "training/cli/health.py", "training/cli/recipes",
    "tools/recipe_matrix.py",
}  # fmt: skip
WORDS = {  # slugs that are words of the field, with what they mean there
    "score": "one component of a reward",
    "dump": "json.dump",
    "spell": "in words like spelling, and in the names of data sets of others",
}
MEANT = ("envs/dialogue/tutor.py",)  # compares an option's value with such a word: what the student tells of its exam
ALL = recipes()
every = pytest.mark.parametrize("recipe", ALL, ids=lambda one: one.slug)


def parts() -> dict[str, list[str]]:
    """The kinds under which each name of pyproject.toml is registered as a part."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    found: dict[str, list[str]] = {}
    for group, names in points.items():
        for name in names:
            found.setdefault(name, []).append(group.removeprefix("sparring."))
    return found


def shared() -> list[Path]:
    """Every tracked file of shared parts, and the code that reads scenarios."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *SHARED, "scenarios/*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if Path(line).suffix in (".py", ".md", ".toml", "")]


def test_every_file_among_the_recipes_is_one() -> None:
    assert [file.stem for file in sorted(RECIPES.glob("*.yaml"))] == [one.slug for one in ALL]


@every
def test_a_recipe_is_short_and_its_block_is_whole(recipe: Recipe) -> None:
    text = recipe.file.read_text()
    assert text.startswith("recipe:\n") and len(text.splitlines()) <= 64
    spec = recipe.spec
    assert recipe.written["name"] == recipe.slug
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi|20\d\d", spec.paper)
    assert len(spec.mechanism) > 40 and spec.controls and spec.gpu and spec.watch
    assert all(len(says) > 15 for says in spec.watch.values())


@every
def test_a_recipe_loads_by_its_name_and_from_a_copy(recipe: Recipe, tmp_path: Path) -> None:
    assert load(recipe.slug).name == recipe.slug
    copy = tmp_path / recipe.file.name
    copy.write_bytes(recipe.file.read_bytes())
    assert load(copy).digest == load(recipe.file).digest


@every
def test_its_controls_load_and_are_not_the_recipe(recipe: Recipe) -> None:
    own = load(recipe.file).digest
    digests = [load(recipe.file, words(changes)).digest for changes in recipe.spec.controls.values()]
    assert len({own, *digests}) == 1 + len(digests)


@every
def test_it_resolves_for_a_real_model_on_a_gpu(recipe: Recipe) -> None:
    scenario = load(recipe.file, words(recipe.spec.gpu))
    assert not scenario.policy.model.startswith("builtin:")


@every
def test_what_it_is_measured_in_loads_for_any_seed(recipe: Recipe) -> None:
    scenario = load(recipe.file, measuring(recipe, 7))
    assert scenario.seed == 7 and scenario.evaluation.metrics == (recipe.spec.metric,)
    if recipe.spec.collect:
        load(recipe.file, words(recipe.spec.collect))


@pytest.mark.slow
@every
def test_every_figure_it_watches_is_one_of_its_steps(recipe: Recipe, tmp_path: Path) -> None:
    from sparring.training.loop import learn
    from sparring.training.offline import start as read
    from sparring.training.offline import study
    from sparring.training.session import start

    scenario = load(recipe.file, [*(words(recipe.spec.collect)), *_begun(recipe)])
    with closing(Store(str(tmp_path / "run.db"))) as store:
        session = start(scenario, store)
        asyncio.run(learn(session))
        run = session.run
        if recipe.spec.collect:
            reader = read(load(recipe.file, ["training.steps=2", "evaluation.every=0"]), store, run)
            study(reader)
            run = reader.run
            reader.close()
        metrics = {name for step in steps(store, run) for name, value in step.metrics.items() if value is not None}
        session.close()
    assert set(recipe.spec.watch) - metrics == set()


def _begun(recipe: Recipe) -> list[str]:
    """As many steps as it takes until every trainer has taken part twice."""
    begin = max((plan.after for plan in load(recipe.file).training.trainers.values()), default=0)
    return [f"training.steps={begin + 2}", "evaluation.every=0"]


@every
def test_no_shared_part_names_a_recipe(recipe: Recipe) -> None:
    """A slug that is no word of the field and no part's name stands nowhere; any slug's file stands nowhere."""
    slug = recipe.slug
    own = re.compile(rf"(?<![\w-]){re.escape(slug)}(?![\w-])")
    path = re.compile(rf"recipes?/{re.escape(slug)}\b")
    ordinary = slug in WORDS or slug in parts()
    named = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in shared()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if path.search(line) or (not ordinary and own.search(line))
    ]
    assert named == []


def operands(node: ast.AST) -> list[ast.expr]:
    """What a comparison compares, alternatives one by one; a key or an argument inside an operand is none."""
    if isinstance(node, ast.MatchValue):
        return [node.value]
    sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    return [
        one for side in sides for one in (side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side])
    ]


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """Every node of a Python file, read once."""
    return tuple(ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize("slug", sorted({one.slug for one in ALL} & (set(WORDS) | set(parts()))))
def test_a_slug_that_is_also_a_word_or_a_part_decides_nothing(slug: str) -> None:
    """No code compares anything with it, other than a part registered under that very name."""
    compared = [
        f"{file.relative_to(ROOT)}:{one.lineno}"
        for file in shared()
        if file.suffix == ".py"
        for node in nodes(file)
        for one in operands(node)
        if isinstance(one, ast.Constant) and one.value == slug and str(file.relative_to(ROOT)) not in MEANT
    ]
    assert compared == []


def test_only_what_is_about_recipes_reads_the_block() -> None:
    """Nothing else can ask which recipe runs: nobody reads the block, and nobody compares a scenario's name."""
    found = [f"{file}:{line}" for file, line in _readers() if not any(file.startswith(one) for one in KNOWS)]
    assert found == []


def _readers() -> Iterator[tuple[str, int]]:
    for file in shared():
        if file.suffix != ".py":
            continue
        for node in nodes(file):
            compares = isinstance(node, ast.Compare) and any(map(_is_name, (node.left, *node.comparators)))
            if compares or (isinstance(node, ast.Attribute) and node.attr == "recipe"):
                yield str(file.relative_to(ROOT)), getattr(node, "lineno", 0)


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node).endswith("scenario.name")
