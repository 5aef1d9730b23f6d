"""``check``: a scenario's mistakes, or whether an environment keeps its contract and its verifier cannot be fooled."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.explain import explain
from sparring.scenarios.load import load, shipped
from sparring.scenarios.overrides import apply
from sparring.scenarios.parts import filled, run_user_files
from sparring.scenarios.problems import Problems, Sources, dotted
from sparring.scenarios.registry import engines, environments, nearest, parted, wrapped, wrappers
from sparring.scenarios.schema import Ref, Scenario

from .options import AsJson
from .output import console, print_json, table, visible
from .recipes.variants import check_block

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sparring.envs.base import Environment
    from sparring.envs.check import CheckReport

TASKS, SEED, MOST = 16, 0, 0.25
WORDS = {True: "kept", False: "BROKEN", None: "-"}
FILE = re.compile(r"(?P<file>.+\.py)(?::(?P<name>\w+))?")


class World(NamedTuple):
    """An environment to check, and what the command line called it."""

    name: str
    kind: type[Environment]


def check(
    target: Annotated[
        str,
        typer.Argument(help="A scenario's file or name; or an environment's name, its folder, or FILE.py:Class."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", metavar="KEY=VALUE", help="A value of the scenario, an option of the environment."),
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(min=1, max=10_000, help=f"Environment: tasks the audit plays ({TASKS}).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=f"Environment: which tasks those are ({SEED}).")] = None,
    most: Annotated[
        float | None, typer.Option(min=0, help=f"Environment: what a cheap answer may earn on the average ({MOST}).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a scenario, or an environment: its contract, and what its verifier gives for cheap answers."""
    world = aimed(target)
    if world is None:
        if (tasks, seed, most) != (None, None, None):
            raise ScenarioError(f"{target} is a scenario; --tasks, --seed and --most are for checking an environment")
        scenario = load(target.removeprefix("scenario:"), overrides or ())
        check_block(scenario)
        _tell_scenario(scenario, as_json)
        return
    world, given = _dressed(world, overrides or ())
    reports = [
        (
            options,
            _inspected(world, options, tasks or TASKS, SEED if seed is None else seed, MOST if most is None else most),
        )
        for options in _uses(world, given)
    ]
    broken = sum(len(report.broken) for _, report in reports)
    if as_json:
        print_json({"target": target, "broken": broken, "checks": [_plain(*one) for one in reports]})
    else:
        for options, report in reports:
            _tell_environment(world, options, report)
    if broken:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Put this command on ``app``."""
    app.command("check")(check)


def aimed(target: str) -> World | None:
    """The environment that ``target`` names, ``None`` when it names a scenario.

    Raises ``ScenarioError`` when it can mean two things, ``UnknownPart`` for an ``environment:`` nobody registered.
    """
    what, _, name = target.partition(":")
    if what == "scenario":
        return None
    if what == "environment":
        return World(name, environments.get(name))
    if found := FILE.fullmatch(target):
        return World(target, _class_in(Path(found["file"]), found["name"]))
    file = _file_in(Path(target))
    registered = target in environments.names()
    choices = {
        f"scenario:{target}": Path(target).is_file() or target in shipped(),
        f"environment:{target}": registered and not (file is not None and _lies_in(target, Path(target))),
        str(file): file is not None,
    }
    ways = [way for way, possible in choices.items() if possible]
    if len(ways) > 1:
        raise ScenarioError(f"{target!r} can mean {len(ways)} things; write {' or '.join(ways)}")
    if file is not None:
        return World(target.rstrip("/"), _class_in(file, None))
    if registered:
        return World(target, environments.get(target))
    hint = None if ways or Path(target).suffix or Path(target).is_dir() else nearest(target, environments.names())
    if hint is not None and nearest(target, [hint, *shipped()]) == hint:
        raise ScenarioError(f"{target}: no such scenario or environment; did you mean the environment {hint!r}?")
    return None


def _file_in(folder: Path) -> Path | None:
    """The environment module of a package folder such as ``sparring new environment`` writes."""
    found = [file for file in (folder / "environment.py", *sorted(folder.glob("*/environment.py"))) if file.is_file()]
    if len(found) > 1:
        raise ScenarioError(f"{folder} holds several environments; write {' or '.join(map(str, found))}")
    return found[0] if found else None


def _lies_in(name: str, folder: Path) -> bool:
    """Whether the registered environment is the one in this folder, installed from there."""
    try:
        return Path(inspect.getfile(environments.get(name))).resolve().is_relative_to(folder.resolve())
    except Exception:  # a plug-in that cannot be imported is another thing than this folder
        return False


def _class_in(file: Path, name: str | None) -> type[Environment]:
    """The environment class of this name in a Python file, its only one when no name is given."""
    from sparring.envs.base import Environment

    if not file.is_file():
        raise ScenarioError(f"{file}: no such file; an environment is named FILE.py:Class")
    problems = Problems(Sources(str(file)))
    run_user_files([str(file.resolve())], file.parent, problems)
    try:
        problems.raise_if_any()
    except ScenarioError as error:
        raise ScenarioError(str(error).replace("load[0]: ", "")) from None
    [module] = [one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == str(file.resolve())][:1]
    found = {
        key: one
        for key, one in vars(module).items()
        if inspect.isclass(one) and issubclass(one, Environment) and one.__module__ == module.__name__
    }
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        ways = " or ".join(f"{file}:{key}" for key in found) or "give it a class that inherits Environment"
        said = f"has no environment {name!r}" if name else f"has {len(found) or 'no'} environments"
        raise ScenarioError(f"{file} {said}; {'write ' if found else ''}{ways}")
    return found[name]


def _dressed(world: World, overrides: Sequence[str]) -> tuple[World, dict[str, Any]]:
    """The environment with the wrappers that the overrides ask for, and the other options they give."""
    problems = Problems(Sources(world.name))
    given: dict[str, Any] = {}
    apply(list(overrides), given, problems)
    problems.raise_if_any()
    own, on = parted(world.kind, given)
    for name, options in on.items():
        if not isinstance(options, Mapping):
            problems.add((name,), f"found {options!r}; its options are needed, or null")
        else:
            filled(wrappers, Ref.model_validate({"kind": name, **options}), (name,), problems)
    problems.raise_if_any()
    return (World(world.name, wrapped(world.kind, given)[0]) if on else world), own


def _uses(world: World, given: Mapping[str, Any]) -> Iterator[BaseModel]:
    """The options to check it with: those given, else each of the examples the environment names."""
    for options in [given] if given else list(world.kind.examples):
        yield _options(world, options)


def _options(world: World, options: Mapping[str, Any]) -> BaseModel:
    from pydantic import ValidationError

    config = world.kind.Config
    try:
        return config.model_validate(dict(options))
    except ValidationError as error:
        problems = Problems(Sources(f"environment {world.name}"))
        explain(error, config, dict(options), (), problems)
        problems.raise_if_any()
        raise


def _inspected(world: World, options: BaseModel, tasks: int, seed: int, most: float) -> CheckReport:
    from sparring.envs.check import inspect_environment

    world.kind(options).close()  # what it refuses to be built with is a message, not a finding
    return inspect_environment(lambda: world.kind(options), tasks=tasks, seed=seed, most=most)


def _plain(options: BaseModel, report: CheckReport) -> dict[str, Any]:
    return {
        "environment": report.environment,
        "options": options.model_dump(mode="json"),
        "findings": list(report.findings),
        "audit": report.audit.to_json() if report.audit is not None else None,
    }


def _tell_environment(world: World, options: BaseModel, report: CheckReport) -> None:
    chosen = options.model_dump(mode="json", exclude_defaults=True)
    told = "".join(f" {key}={value}" for key, value in chosen.items())
    rows = table("point", "", "seen")
    for finding in report.findings:
        rows.add_row(finding.name, WORDS[finding.kept], visible(finding.detail))
    screen = console()
    screen.print(f"{world.name}{told} ({report.environment})", markup=False)
    screen.print(rows)
    for line in report.audit.lines() if report.audit is not None else ():
        typer.echo(f"  {visible(line)}")
    said = {kept: sum(finding.kept is kept for finding in report.findings) for kept in WORDS}
    typer.echo(f"{world.name}: {said[True]} points kept, {said[False]} broken, {said[None]} do not apply")


class Speaker(NamedTuple):
    """An engine beside the embedded one, for whom, and where its key is looked for ("" without one; never the key)."""

    roles: tuple[str, ...]
    kind: str
    about: str
    untrainable: str
    key_variable: str

    @property
    def key_is_set(self) -> bool | None:
        """Whether the variable holds anything here and now; ``None`` where no key is asked for."""
        return bool(os.environ.get(self.key_variable, "").strip()) if self.key_variable else None

    @property
    def line(self) -> str:
        """For people."""
        frozen = ", which cannot be trained" if self.untrainable else ""
        told = f"{', '.join(self.roles)}: {self.kind}{f' ({self.about})' if self.about else ''}{frozen}"
        if self.key_is_set is None:
            return told
        variable = self.key_variable
        state = "is set" if self.key_is_set else f"is not set here: export {variable}=..."
        return f"{told}; its key is read from {variable}, which {state}"


def speakers(scenario: Scenario) -> list[Speaker]:
    """Every engine that a role has of its own, and the policy's where it is on a server or cannot be trained."""
    shared = tuple(name for name, role in scenario.roles.items() if role.engine is None)
    given = [(shared, scenario.engine)] if shared else []
    own = [((name,), role.engine) for name, role in scenario.roles.items() if role.engine is not None]
    found = [_speaker(roles, ref) for roles, ref in [*given, *own]]
    plain = [one for one in found[: len(given)] if not (one.untrainable or one.key_variable or one.about)]
    return [one for one in found if one not in plain]


def _speaker(roles: tuple[str, ...], ref: Ref) -> Speaker:
    engine: Any = engines.get(ref.kind)
    about = getattr(engine, "about", None)
    told = about(engine.Config.model_validate(ref.options)) if about is not None else ""
    variable = ref.options.get("api_key_env")
    return Speaker(roles, ref.kind, told, str(getattr(engine, "untrainable", "")), str(variable or ""))


def _tell_scenario(scenario: Scenario, as_json: bool) -> None:
    if as_json:
        beside = [{**one._asdict(), "key_is_set": one.key_is_set} for one in speakers(scenario)]
        print_json({"digest": scenario.digest, "engines": beside, "scenario": scenario.resolved()})
        return
    graph = scenario.graph_spec()
    source = scenario.task_source()
    typer.echo(f"{scenario.name}: no problems found (content {scenario.digest})")
    typer.echo(f"  roles: {', '.join(_told(scenario, name) for name in scenario.roles)}")
    for speaker in speakers(scenario):
        typer.echo(f"  engine of {visible(speaker.line)}")
    shape = scenario.graph if isinstance(scenario.graph, str) else "its own"
    typer.echo(f"  graph: {shape}, {len(graph.nodes)} nodes; tasks from {source.kind if source else 'the graph'}")
    rollout = scenario.rollout
    typer.echo(f"  {scenario.training.steps} steps of {rollout.episodes} episodes from {rollout.picks} picks")
    _tell_training(scenario)


def _tell_training(scenario: Scenario) -> None:
    training = scenario.training
    stages = f", stages {', '.join(stage.kind for stage in scenario.group.stages)}" if scenario.group.stages else ""
    named = f" (objective {training.objective})" if training.objective else ""
    typer.echo(f"  advantage {training.advantage.kind}, loss {training.loss.kind}{stages}{named}")
    if list(training.trainers) != ["rl"]:
        typer.echo(f"  trainers: {', '.join(training.trainers)}")
    if scenario.scheduled:
        typer.echo(f"  on a schedule: {', '.join(map(dotted, scenario.scheduled))}")


def _told(scenario: Scenario, name: str) -> str:
    return name if scenario.roles[name].trainable else f"{name} (not trained)"
