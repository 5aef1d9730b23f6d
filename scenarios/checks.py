"""What must fit together in a scenario: roles with rewards, prompts with what a role sees, tasks with the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import ValidationError

from .arms_checks import check_arms
from .engine_checks import check_engines, check_sampling
from .errors import SparringError
from .graph_checks import check_graph
from .jsonl import check_jsonl
from .parts import filled, known_part, part
from .problems import KeyPath, Problems, shown, unknown
from .recipe_spec import check_recipe
from .registry import (
    advantages,
    curricula,
    engines,
    environments,
    graphs,
    group_stages,
    losses,
    parted,
    rewards,
    roles,
    task_sources,
    trainers,
    wrappers,
)
from .reward_checks import check_reward, check_rewards
from .schema import GraphSpec, Ref, RoleSpec, Scenario, TrainerSpec

R = TypeVar("R", bound=Ref)
ALWAYS_THERE = (
    *("parameters", "said", "last", "heard", "tools", "nonce", "scaffold", "memory"),  # what a role's view gives
    *("range", "dict", "namespace", "cycler", "joiner"),  # what jinja gives
)
# what a role may see whatever the environment discloses: rubrics, the verifier's word on the attempt, other attempts
RUBRIC = "rubric"
ALWAYS_SEEN = (RUBRIC, "outcome", "siblings")
BESIDES = {"siblings": ("attempt", "pair")}  # what else a role reads that sees these
PASS_AT = re.compile(r"(?:pass|succ)@([1-9][0-9]{0,3})")
SCORE_OF = re.compile(r"(?P<whose>[\w-]+)\.(?P<score>[\w-]+)")  # a node's or role's score in play of the whole graph


def check(scenario: Scenario, problems: Problems, skip_graph: bool = False) -> Scenario:
    """Note everything that does not fit; returns the scenario with its parts' defaults filled in."""
    complete = fill(scenario, problems)
    world = part(environments, scenario.environment.kind, ("environment",), Problems(problems.sources))
    world = _faceted(world, complete.environment.options)
    _check_evaluation(scenario, world, problems)
    if scenario.recipe is not None:
        check_recipe(scenario.recipe, Scenario.model_fields, problems)
    _check_lora(scenario, problems)
    _check_zeros(scenario, problems)
    check_arms(complete, world, problems)
    check_rewards(complete, world, problems)
    for name, role in scenario.roles.items():
        _check_role(role, ("roles", name), world, complete.rewards, problems)
        if role.trainable:
            _check_trained(role, name, scenario, problems)
        else:
            _check_frozen(role, name, problems)
    check_engines(scenario, problems)
    graph = None if skip_graph else _graph(scenario, problems)
    _check_names(complete, graph, problems)
    if graph is not None:
        _check_metrics(scenario, graph, world, problems)
        check_graph(graph, scenario.roles, problems)
        _check_searches(graph, world, problems)
        _check_speakers(scenario, graph, problems)
        _check_prompts(scenario, graph, world, problems)
        _check_tasks(complete, graph, world, problems)
    return complete


def _faceted(world: Any, options: Mapping[str, Any]) -> Any:
    """The environment as its options make it; as it stands when they are wrong, which has been told."""
    own, on = parted(world, options)
    more = tuple(score for name in on for score in wrappers.get(name).scores)
    if hasattr(world, "facet"):
        with suppress(ValidationError):  # wrong options have been told
            world = world.facet(world.Config.model_validate(own))
    return _Around(world, more) if more else world


class _Around:
    """An environment with wrappers: all its own, and their scores."""

    def __init__(self, world: Any, more: tuple[str, ...]) -> None:
        self._world = world
        self.scores = (*getattr(world, "scores", ()), *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


def fill(scenario: Scenario, problems: Problems) -> Scenario:
    """The scenario with every part's options checked and defaults filled in."""

    def fill_one(registry: Any, ref: R, *path: str | int) -> R:
        return filled(registry, ref, path, problems)

    training = scenario.training
    changes: dict[str, Any] = {
        "engine": fill_one(engines, scenario.engine, "engine"),
        "environment": _fill_environment(scenario.environment, problems),
        "curriculum": fill_one(curricula, scenario.curriculum, "curriculum"),
        "training": training.model_copy(
            update={
                "advantage": fill_one(advantages, training.advantage, "training", "advantage"),
                "loss": fill_one(losses, training.loss, "training", "loss"),
            }
        ),
    }
    changes["rewards"] = {name: fill_one(rewards, ref, "rewards", name) for name, ref in scenario.rewards.items()}
    if scenario.tasks is not None:
        changes["tasks"] = fill_one(task_sources, scenario.tasks, "tasks")
    stages = [fill_one(group_stages, ref, "group", "stages", i) for i, ref in enumerate(scenario.group.stages)]
    changes["group"] = scenario.group.model_copy(update={"stages": tuple(stages)})
    plans = {
        name: _fill_trainer(plan, ("training", "trainers", name), problems) for name, plan in training.trainers.items()
    }
    changes["training"] = changes["training"].model_copy(update={"trainers": plans})
    changes["roles"] = {
        name: role.model_copy(update={"engine": fill_one(engines, role.engine, "roles", name, "engine")})
        if role.engine is not None
        else role
        for name, role in scenario.roles.items()
    }
    return scenario.model_copy(update=changes)  # private attributes go along


def _fill_environment(ref: Ref, problems: Problems) -> Ref:
    """An environment with its defaults filled in, and those of the wrappers around it."""
    own, on = parted(part(environments, ref.kind, ("environment",), Problems(problems.sources)), ref.options)
    given = filled(environments, ref.model_copy(update={"options": own}), ("environment",), problems)
    around: dict[str, Any] = {}
    for name, options in on.items():
        if not isinstance(options, Mapping):
            problems.add(("environment", name), f"found {shown(options)}; its options are needed, or null")
            continue
        wrapper = Ref.model_validate({"kind": name, **options})
        around[name] = filled(wrappers, wrapper, ("environment", name), problems).options
    return given.model_copy(update={"options": {**given.options, **around}})


def _fill_trainer(plan: TrainerSpec, path: KeyPath, problems: Problems) -> TrainerSpec:
    """A trainer with its defaults filled in, and those of the parts that its options name."""
    plan = filled(trainers, plan, path, problems)
    options = dict(plan.options)
    for key, registry in (("advantage", advantages), ("loss", losses)):
        if isinstance(options.get(key), Mapping):
            options[key] = _fill_inner(registry, options[key], (*path, key), problems)
    if isinstance(named := options.get("losses"), Mapping):
        options["losses"] = {
            name: _fill_inner(losses, inner, (*path, "losses", name), problems) for name, inner in named.items()
        }
    if isinstance(stages := options.get("stages"), (list, tuple)):
        options["stages"] = [
            _fill_inner(group_stages, inner, (*path, "stages", index), problems) for index, inner in enumerate(stages)
        ]
    return plan.model_copy(update={"options": options})


def _fill_inner(registry: Any, written: Any, path: KeyPath, problems: Problems) -> Any:
    """A part named inside another part's options, as plain data; what is no reference to a part stays."""
    if not isinstance(written, Mapping) or not isinstance(written.get("kind"), str):
        return written
    return filled(registry, Ref.model_validate(written), path, problems).model_dump(mode="json")


def check_numbers(scenario: Scenario, problems: Problems) -> None:
    """Note what is wrong with the numbers of one moment of a scenario that is sound otherwise."""
    fill(scenario, problems)
    for name, role in scenario.roles.items():
        if role.trainable:
            check_sampling(role.sampling, ("roles", name, "sampling"), problems)


def _check_evaluation(scenario: Scenario, world: Any, problems: Problems) -> None:
    measures = tuple(getattr(world, "measures", ()))
    for index, name in enumerate(scenario.evaluation.metrics):
        if name not in ("accuracy", *measures) and not PASS_AT.fullmatch(name) and SCORE_OF.fullmatch(name) is None:
            there = ["accuracy", "pass@1", "pass@4", *measures]
            problems.add(("evaluation", "metrics", index), unknown("metric", name, there))
    if scenario.training.steps and not any(role.trainable for role in scenario.roles.values()):
        problems.add(
            ("roles",), "no role is trainable, so training.steps has nothing to do; set it to 0 or train a role"
        )


def _check_metrics(scenario: Scenario, graph: GraphSpec, world: Any, problems: Problems) -> None:
    """A metric ``NAME.SCORE`` names a node or role that speaks, and a score its turns get."""
    speaking = {name: node.role for name, node in graph.nodes.items() if node.role} | {r: r for r in graph.roles()}
    for index, metric in enumerate(scenario.evaluation.metrics):
        found = SCORE_OF.fullmatch(metric)
        if found is None:
            continue
        path: KeyPath = ("evaluation", "metrics", index)
        role = scenario.roles.get(speaking.get(found["whose"]) or "")
        if found["whose"] not in speaking:
            problems.add(path, unknown("node or role", found["whose"], list(speaking)))
        elif role is not None:
            given = {*role.reward, "verifier", *getattr(world, "scores", ())}
            if found["score"] not in given:
                told = unknown("score", found["score"], sorted(given))
                problems.add(path, f"{told}; a reward of weight 0 is scored too")


def _check_zeros(scenario: Scenario, problems: Problems) -> None:
    """Numbers that may be 0 on the way of a schedule, but not always."""
    training = scenario.training
    numbers: dict[KeyPath, float] = {("training", "optimizer", "lr"): training.optimizer.lr}
    numbers |= {("training", "trainers", name, "weight"): plan.weight for name, plan in training.trainers.items()}
    for path, number in numbers.items():
        if number == 0 and path not in scenario.scheduled:
            problems.add(path, "found 0; more than 0 is needed, or a schedule that leaves it")


def _check_lora(scenario: Scenario, problems: Problems) -> None:
    if scenario.training.reference.every and scenario.policy.lora is not None:
        problems.add(
            ("training", "reference", "every"),
            "is for policies without lora: the reference of adapters is the base they lie on; set it to 0",
        )
    if scenario.policy.lora is not None and not scenario.policy.lora.modules:
        problems.add(("policy", "lora", "modules"), "is empty; name linear layers of the model, or all")


def _check_names(scenario: Scenario, graph: GraphSpec | None, problems: Problems) -> None:
    """Options called role, roles, node or nodes of the curriculum, of stages and of trainers name what there is."""
    known: dict[str, Any] = {"role": scenario.roles}
    if graph is not None:
        known["node"] = graph.nodes
    for path, options in _with_names(scenario):
        for what, there in known.items():
            one, several = options.get(what), options.get(f"{what}s")
            if isinstance(one, str) and one not in there:
                problems.add((*path, what), unknown(what, one, there))
            elif what == "role" and _groups(path) and isinstance(one, str) and not there[one].trainable:
                problems.add((*path, what), f"role {one!r} is not trainable, so it has no groups; drop it, or train it")
            named = several if isinstance(several, (list, tuple)) else ()
            for index, name in enumerate(name for name in named if isinstance(name, str)):
                if name not in there:
                    problems.add((*path, f"{what}s", index), unknown(what, name, there))
                elif path[:2] == ("training", "trainers") and what == "role" and not there[name].trainable:
                    problems.add((*path, "roles", index), f"role {name!r} is not trainable; drop it, or train it")


def _groups(path: KeyPath) -> bool:
    """Whether a part at this place reads the groups of trained roles."""
    return path[0] == "curriculum" or "stages" in path


def _with_names(scenario: Scenario) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Options that may name roles and nodes, with where they are written."""
    yield ("curriculum",), scenario.curriculum.options
    for name, reward in scenario.rewards.items():
        yield ("rewards", name), reward.options
    for index, stage in enumerate(scenario.group.stages):
        yield ("group", "stages", index), stage.options
    for name, plan in scenario.training.trainers.items():
        path: KeyPath = ("training", "trainers", name)
        yield path, plan.options
        stages = plan.options.get("stages")
        for index, inner in enumerate(stages if isinstance(stages, (list, tuple)) else ()):
            if isinstance(inner, Mapping):
                yield (*path, "stages", index), inner


def _check_role(role: RoleSpec, path: KeyPath, world: Any, own: Mapping[str, Ref], problems: Problems) -> None:
    known_part(roles, role.kind, (*path, "kind"), problems)
    if role.memory is not None:
        given = [*role.reward, "verifier", *getattr(world, "scores", ())]
        if role.memory.score not in given:
            told = unknown("score", role.memory.score, given)
            problems.add((*path, "memory", "score"), f"{told}; a reward of weight 0 is scored too")
    for name in role.reward:
        check_reward(name, (*path, "reward", name), world, own, problems)
    secrets = _secrets(world)
    for index, name in enumerate(role.sees if world is not None else ()):
        if name not in secrets:
            problems.add((*path, "sees", index), unknown("disclosure", name, secrets))
    items = {RUBRIC, *(getattr(world, "disclosures", None) or ())}
    if role.scaffold is not None and world is not None and role.scaffold.shows not in items:
        problems.add((*path, "scaffold", "shows"), unknown("disclosure", role.scaffold.shows, items))


def _secrets(world: Any) -> set[str]:
    return {*(getattr(world, "disclosures", None) or ()), *ALWAYS_SEEN}


def _check_frozen(role: RoleSpec, name: str, problems: Problems) -> None:
    """Keys without effect."""
    path: KeyPath = ("roles", name)
    if role.compare != "siblings" or role.weight != 1.0:
        key = "compare" if role.compare != "siblings" else "weight"
        problems.add((*path, key), "has no effect: the role is not trainable; remove it or set trainable: true")


def _check_trained(role: RoleSpec, name: str, scenario: Scenario, problems: Problems) -> None:
    path: KeyPath = ("roles", name)
    moving = scenario.scheduled
    if not any(role.reward.values()) and not any(place[:3] == (*path, "reward") for place in moving):
        problems.add((*path, "reward"), "a trainable role needs a reward that weighs something, or trainable: false")
    if not role.weight and (*path, "weight") not in moving:
        problems.add((*path, "weight"), "0 trains nothing; set trainable: false instead")
    if role.refuse_empty:
        problems.add((*path, "refuse_empty"), "is for a judge that is not trained: remove it or set trainable: false")


def _graph(scenario: Scenario, problems: Problems) -> GraphSpec | None:
    if isinstance(scenario.graph, str) and not known_part(graphs, scenario.graph, ("graph",), problems):
        return None
    try:
        return scenario.graph_spec()
    except Exception as error:  # a plug-in's preset may raise anything
        problems.add(("graph",), f"the preset {scenario.graph!r} cannot be read: {type(error).__name__}: {error}")
        return None


def _check_searches(graph: GraphSpec, world: Any, problems: Problems) -> None:
    """``leaf`` names a score that is there while an episode is played: roles' rewards are computed after its end."""
    there = ["verdict", "verifier", *getattr(world, "scores", ())]
    for name, node in graph.nodes.items():
        leaf = None if node.search is None else node.search.leaf
        if leaf is not None and world is not None and leaf not in there:
            told = f"{unknown('score', leaf, there)}; a role's rewards come after the search"
            problems.add(("graph", "nodes", name, "search", "leaf"), told)


def _check_speakers(scenario: Scenario, graph: GraphSpec, problems: Problems) -> None:
    speaking = graph.roles()
    for name, role in scenario.roles.items():
        if role.trainable and name not in speaking:
            problems.add(
                ("roles", name),
                f"speaks at no node of the graph (there: {', '.join(speaking)}), so it cannot be trained; "
                "remove it, add a node, or set trainable: false",
            )


def _check_prompts(scenario: Scenario, graph: GraphSpec, world: Any, problems: Problems) -> None:
    """Every prompt is found and reads only what there is and what its role may see."""
    secret = _secrets(world)
    there = _readable(scenario, world)
    for name, spec in scenario.roles.items():
        path: KeyPath = ("roles", name, "prompt")
        if spec.kind not in roles.names() or (world is not None and not set(spec.sees) <= secret):
            continue
        kind = part(roles, spec.kind, ("roles", name, "kind"), problems)
        try:
            role: Any = kind(name, spec, scenario.base) if kind is not None else None
        except SparringError as error:
            problems.add(path, str(error))
            continue
        except Exception as error:  # a plug-in's role may raise anything
            problems.add(path, f"the role cannot be made: {type(error).__name__}: {error}")
            continue
        _check_reads(getattr(role, "prompt", None), spec, secret, there, path, problems)
        others: dict[KeyPath, str | None] = {
            ("graph", "nodes", at, "prompt"): node.prompt for at, node in graph.nodes.items() if node.role == name
        }
        if spec.scaffold is not None:
            others["roles", name, "scaffold", "prompt"] = spec.scaffold.prompt
            _check_scaffold(role, spec.scaffold.prompt, ("roles", name, "scaffold"), problems)
        mine = [node.prompt for node in graph.nodes.values() if node.role == name]
        if spec.scaffold is not None and mine and None not in mine and hasattr(role, "helping"):
            _check_helping(role, mine, ("roles", name, "scaffold"), problems)
        for at, prompt in others.items():
            if prompt is not None and hasattr(role, "prompt_at"):
                try:
                    _check_reads(role.prompt_at(prompt), spec, secret, there, at, problems)
                except SparringError as error:
                    problems.add(at, str(error))


def _check_scaffold(role: Any, prompt: str | None, path: KeyPath, problems: Problems) -> None:
    """The prompt that is to show help reads it."""
    try:
        read = role.prompt_at(prompt)
    except SparringError:
        return  # told where the prompt is looked up
    if "scaffold" not in read.variables:
        problems.add(
            path, f"the template {shown(read.name)} shows no help: it does not read scaffold; name one that does"
        )


def _check_helping(role: Any, prompts: Sequence[str | None], path: KeyPath, problems: Problems) -> None:
    """Of nodes with prompts of their own, which the scaffold's does not stand in for, one reads help."""
    try:
        shows = any(role.helping(role.prompt_at(prompt)) is not None for prompt in prompts)
    except SparringError:
        return  # told where the prompt is looked up
    if not shows:
        problems.add(
            path,
            f"no node shows help: every one of {role.name}'s has a prompt of its own, which does not read scaffold; "
            "take prompt: off a node, or let its template read scaffold",
        )


def _readable(scenario: Scenario, world: Any) -> set[str] | None:
    """Every name a template may read beside secrets; ``None`` when the environment does not say what payloads hold.

    The class attribute ``payload_fields`` says it. Rows of a file may hold more, so with ``tasks`` nothing is known.
    """
    fields = getattr(world, "payload_fields", None)
    if not fields or scenario.tasks is not None:
        return None
    return set(ALWAYS_THERE).union(fields, getattr(world, "parameters", ()))


def _check_reads(
    prompt: Any, spec: RoleSpec, secret: set[str], there: set[str] | None, path: KeyPath, problems: Problems
) -> None:
    reads, name = set(getattr(prompt, "variables", ())), shown(getattr(prompt, "name", "?"))
    hidden = sorted((reads & secret) - set(spec.sees))
    if hidden:
        names = ", ".join(hidden)
        problems.add(
            path,
            f"the template {name} reads {names}, which the role does not see; "
            f"add to its sees: [{names}] or take it out of the text",
        )
    given = {also for name in spec.sees for also in BESIDES.get(name, ())}
    readable = None if there is None else there | set(spec.sees) | given
    for word in sorted(reads - secret - readable) if readable is not None else ():
        problems.add(path, f"the template {name} reads an {unknown('variable', word, readable or ())}")


def _check_tasks(scenario: Scenario, graph: GraphSpec, world: Any, problems: Problems) -> None:
    if scenario.tasks is None:
        return
    if not graph.given:
        problems.add(
            ("tasks",),
            "the graph proposes its own tasks (it has an admit node); remove tasks, change the graph, or let "
            "proposals be about given tasks (graph: {seeded: true, ...})",
        )
    if scenario.tasks.kind == "jsonl":
        check_jsonl(scenario, world, problems)
