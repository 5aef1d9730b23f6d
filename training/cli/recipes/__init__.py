"""``recipes``: published systems as scenarios: which there are, what each is, a copy of one, what it does, measured."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.scenarios.errors import ScenarioError, SparringError

from ..options import AsJson
from ..output import console, print_json, table

if TYPE_CHECKING:
    from .book import Recipe
    from .results import Result

WORK = Path("sparring-recipes")

Slug = Annotated[str, typer.Argument(help="A recipe's name, or a scenario file with a recipe: block.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)


@app.callback()
def listed(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Published systems as short scenarios: list them, look at one, copy it, measure it against its control."""
    if ctx.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        raise ScenarioError(f"--json belongs after the command: sparring recipes {ctx.invoked_subcommand} ... --json")


@app.command("list")
def list_them(as_json: AsJson = False) -> None:
    """List every recipe with what was measured."""
    _list(as_json)


@app.command()
def show(slug: Slug, as_json: AsJson = False) -> None:
    """Tell what a recipe is: its paper, the keys it sets, its controls, what was measured, how to run it."""
    from .book import recipe
    from .results import stored

    one = recipe(slug)
    result = stored(one)
    if as_json:
        spec = one.spec.model_dump(mode="json")
        print_json({"recipe": one.slug, **spec, "sets": dict(sets(one)), "digest": one.digest, "result": result})
        return
    for line in _told(one, result):
        typer.echo(line)


@app.command()
def copy(slug: Slug, folder: Annotated[Path, typer.Argument(help="Where to.")] = Path()) -> None:
    """Put a recipe's YAML into your folder, to change and run there."""
    from .book import put, recipe

    one = recipe(slug)
    target = folder / f"{one.slug}.yaml"
    if target.exists():
        raise ScenarioError(f"{target} is there already and is left as it is; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(target, one.file.read_bytes().decode())
    except OSError as error:
        raise ScenarioError(f"{target}: cannot be written: {error.strerror or error}; name another folder") from error
    typer.echo(f"{target}\nrun it with  sparring run {shlex.quote(str(target))}")


@app.command()
def measure(
    slug: Slug,
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0,1,2.")] = "0,1,2",
    control: Annotated[
        list[str] | None, typer.Option("--control", help="Only this control; repeatable. All without it.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds that run at once.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write the result beside the recipe, and into it.")] = False,
    folder: Annotated[Path | None, typer.Option("--folder", help="Work folder; what is finished there stays.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep checkpoints too, not only databases.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe and its controls over seeds, and compare what they learnt on held-out tasks.

    A control trains until it has sampled as many tokens as the recipe did on that seed. Stopped, it goes on later.
    """
    from sparring.scenarios.problems import unknown

    from .book import recipe
    from .measuring import Measuring

    one = recipe(slug)
    names = list(dict.fromkeys(control or one.spec.controls))
    for name in names:
        if name not in one.spec.controls:
            raise ScenarioError(unknown("control", name, one.spec.controls))
    if not names:
        raise ScenarioError(f"{one.file}: recipe.controls names none, so there is nothing to compare with")
    if write and names[:1] != list(one.spec.controls)[:1]:
        raise ScenarioError(f"--write needs the control {next(iter(one.spec.controls))!r}, the recipe's first")
    if write:
        _check_written(one)
    work = folder or WORK / f"{one.slug}-{one.digest[:8]}"
    said = Measuring(one, work, keep, say=lambda line: typer.echo(line, err=as_json))
    result = said.run(_seeds(seeds), names, jobs)
    if as_json:
        print_json({"result": result, "differences": {name: result.against(name) for name in names}})
    else:
        _print(result)
        typer.echo(f"runs and words: {work}")
    if write:
        for line in written(one, result):
            typer.echo(line, err=as_json)


def add_to(app_: typer.Typer) -> None:
    """Put these commands on ``app_``."""
    app_.add_typer(app, name="recipes")


def written(one: Recipe, result: Result) -> list[str]:
    """Write a result, the line in the recipe, and the page of all; what was written."""
    from .book import put
    from .results import EFFECTS, effects, note, save

    page = one.file.parent / EFFECTS
    try:
        save(result, one.result_file)
        put(one.file, note(one.file.read_bytes().decode(), result.measured(result.controls[0])))
        put(page, effects(one.file.parent))
    except OSError as error:
        where = error.filename or one.file.parent
        raise SparringError(
            f"{where}: cannot be written: {error.strerror or error}; the runs stay, and measuring again only writes"
        ) from error
    return [f"written: {file}" for file in (one.result_file, one.file, page)]


def _check_written(one: Recipe) -> None:
    """Raise ``ScenarioError`` before hours of runs when their result could not be written."""
    from .results import EFFECTS, effects, note

    for place in (one.file.parent, one.result_file.parent):
        if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
            raise ScenarioError(f"{place}: --write cannot write there; copy the recipe to a folder of yours")
    try:
        note(one.file.read_bytes().decode(), "")
    except ScenarioError as error:
        raise ScenarioError(f"{one.file}: {error}") from error
    try:
        effects(one.file.parent)
    except ScenarioError as error:
        raise ScenarioError(
            f"{one.file.parent / EFFECTS}, written with the result, needs every recipe there: {error}"
        ) from error


def sets(one: Recipe) -> Iterator[tuple[str, Any]]:
    """The keys a recipe sets to something else than their default, dotted, with their values."""
    from sparring.scenarios.schema import Scenario

    fields = Scenario.model_fields
    for key, value in one.written.items():
        field = fields.get(key)
        default: Any = None if field is None or field.is_required() else field.get_default(call_default_factory=True)
        standard = default.model_dump(mode="json") if hasattr(default, "model_dump") else default
        if key == "name" or value == standard:
            continue
        if isinstance(value, Mapping) and "kind" not in value and key != "graph":
            yield from ((f"{key}.{k}", v) for k, v in value.items() if v != (standard or {}).get(k))
        else:
            yield key, value


def _list(as_json: bool) -> None:
    from .book import recipes
    from .results import spread, stored

    found = [(one, stored(one)) for one in recipes()]
    if as_json:
        print_json([
            {"recipe": one.slug, "paper": one.spec.paper, "metric": one.spec.metric, "measured": one.spec.measured,
             "result": result}
            for one, result in found
        ])  # fmt: skip
        return
    columns = ("recipe", "paper", "metric", "value", "control", "value ", "difference", "seeds", "shown")
    shown = table(*columns, right=("value", "value ", "seeds"))
    for one, result in found:
        title = re.sub(r",? *arXiv.*$", "", one.spec.paper)
        cells = [one.slug, title if len(title) <= 44 else f"{title[:43]}…", one.spec.metric]
        if result is None or not result.controls:
            shown.add_row(*cells, "-", next(iter(one.spec.controls), "-"), "-", "not measured", "-", "")
            continue
        name = result.controls[0]
        means = [f"{mean:.3f}" for mean in result.means(name)]
        against = result.against(name)
        shown.add_row(*cells, means[0], name, means[1], spread(against), str(against.n), result.verdict(name))
    console().print(shown)
    typer.echo("\none of them: sparring recipes show NAME, sparring run NAME, sparring recipes measure NAME")


def _told(one: Recipe, result: Result | None) -> Iterator[str]:
    from sparring.scenarios.recipe_spec import words

    def typed(changes: Mapping[str, Any]) -> str:
        return "".join(f" -s {shlex.quote(word)}" for word in words(changes))

    spec = one.spec
    yield f"{one.slug}: {spec.paper}"
    yield f"  {spec.mechanism}"
    yield "sets"
    for key, value in sets(one):
        yield f"  {words({key: value})[0]}"
    for title, changes in (("measured with", spec.evaluate), ("learns from a first run with", spec.collect)):
        if changes:
            yield from (title, *(f"  {word}" for word in words(changes)))
    for name, changes in spec.controls.items():
        yield f"control {name}"
        yield from (f"  {word}" for word in words(changes))
    yield f"claim: {spec.metric} {spec.claim} than the control's"
    yield "measured"
    yield from (f"  {result.measured(name)}" for name in result.controls) if result else ["  not yet"]
    if result is not None and result.digest != one.digest:
        yield "  with another version of this file"
    if spec.watch:
        yield "watch, in sparring health"
        yield from (f"  {name}: {says}" for name, says in spec.watch.items())
    word = shlex.quote(str(one.file)) if not _ours(one) else one.slug
    yield f"run it      sparring run {word}"
    yield f"measure it  sparring recipes measure {word}"
    if spec.gpu:
        yield f"on a GPU    sparring run {word}{typed(spec.gpu)}"


def _ours(one: Recipe) -> bool:
    from sparring.scenarios.load import shipped

    return shipped().get(one.slug) == one.file


def _print(result: Result) -> None:
    from .results import RECIPE, spread

    numbers = ("seed", "tokens", "steps", "CPU s", result.metric)
    shown = table("arm", *numbers, right=numbers)
    for run in result.runs:
        cells = (str(run.seed), f"{run.tokens:,}", str(run.steps), f"{run.cpu_s:.0f}", f"{run.value:.3f}")
        shown.add_row(run.arm, *cells)
    screen = console()
    screen.print(shown)
    for name in result.controls:
        found = result.against(name)
        claimed = f"claimed: {result.claim}; {result.verdict(name)}"
        typer.echo(f"{RECIPE} minus {name}: {spread(found)} over {found.n} seeds, 95 % t interval ({claimed})")
        tokens = {arm: sum(run.tokens for run in result.runs if run.arm == arm) for arm in (RECIPE, name)}
        if tokens[name] < 0.95 * tokens[RECIPE]:
            less = f"{tokens[name]:,} of the {tokens[RECIPE]:,} tokens"
            typer.echo(f"  {name} sampled only {less}: its steps ran out first")


def _seeds(text: str) -> list[int]:
    found = re.split(r"[ ,]+", text.strip(" ,"))
    if not all(re.fullmatch(r"[0-9]{1,9}", one) for one in found) or len(set(map(int, found))) < len(found):
        raise ScenarioError(f"--seeds {text!r}: whole numbers, each once, are needed, as in --seeds 0,1,2")
    return [int(one) for one in found]
