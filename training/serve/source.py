"""From a word on the command line to a served policy: a run's checkpoint, a scenario's policy, or a model by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.scenarios.errors import EngineError, RunNotFound, StoreError
from sparring.scenarios.load import from_resolved, load, shipped
from sparring.scenarios.registry import engines
from sparring.scenarios.seeds import derive
from sparring.storage import queries
from sparring.storage.codec import unescape, unpack_json
from sparring.storage.store import run_number
from sparring.training import checkpoint
from sparring.training.course import adapters_of
from sparring.training.engines.embedded import TransformersEngine
from sparring.training.engines.render import ChatRenderer
from sparring.training.policy import Policy, load_policy, locate

from .adapters import Changing, changing
from .served import Served
from .weights import Given, put_in

if TYPE_CHECKING:
    from sparring.scenarios.schema import PolicySpec, Ref, Scenario
    from sparring.storage.store import Store

POLL_S = 2.0  # how often a followed run is asked for a newer checkpoint
RUN = re.compile(r"r\d{1,9}|latest")
ALONE = ("name=served", "roles.solver.sampling.max_tokens=512", "evaluation.every=0")  # what makes smoke a model's own


@dataclass(frozen=True)
class Point:
    """A checkpoint of a run: the step it is of, its folder, and what it serves as."""

    run: str
    step: int
    folder: Path
    sha: str
    version: int
    weights_sha: str


def points(store: Store, run: str) -> list[Point]:
    """The checkpoints of a run, oldest first."""
    sql = f"""
      SELECT s.number, s.policy_version, p.weights_sha, c.path, c.sha
      FROM checkpoints c JOIN steps s ON s.id = c.step_id
      JOIN policy_versions p ON p.run_id = s.run_id AND p.number = s.policy_version
      WHERE s.run_id = {run_number(run)} ORDER BY s.number"""
    rows = queries.select_rows(store, sql, 1_000_000).rows
    return [Point(run, step, Path(unescape(path)), sha, version, weights) for step, version, weights, path, sha in rows]


def stored_scenario(store: Store, run: str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario a run was started with, on the embedded engine unless ``overrides`` name one.

    Where the run sampled is no matter of its checkpoints. Raises ``RunNotFound``.
    """
    store.run(run)
    sql = f"SELECT x.resolved FROM scenarios x JOIN runs r ON r.scenario_id = x.id WHERE r.id = {run_number(run)}"
    resolved = unpack_json(unescape(queries.select_rows(store, sql).rows[0][0]))
    named = any(re.split("[.=]", override, maxsplit=1)[0] == "engine" for override in overrides)
    if not named and resolved["engine"]["kind"] != TransformersEngine.name:
        overrides = (f"engine={{kind: {TransformersEngine.name}}}", *overrides)
    return from_resolved(resolved, overrides=overrides)


def is_run(what: str) -> bool:
    """Whether a word names a run."""
    return RUN.fullmatch(what) is not None


def of_run(store: Store, word: str, step: int | None, overrides: Sequence[str], follow: bool) -> Served:
    """A run's newest checkpoint, or that of ``step``, in the embedded engine unless ``overrides`` name another.

    Raises ``RunNotFound``.
    """
    run = _newest(store) if word == "latest" else store.run(word).id
    kept = [point for point in points(store, run) if point.folder.is_dir()]
    if step is not None and step not in [point.step for point in kept]:
        steps = ", ".join(str(point.step) for point in kept) or "none"
        raise RunNotFound(f"run {run} keeps no checkpoint of step {step}; it keeps those of {steps}")
    if not kept:
        raise RunNotFound(f"run {run} has no checkpoint to serve; wait for its first whole step")
    point = next((one for one in kept if one.step == step), kept[-1])
    scenario = stored_scenario(store, run, overrides)
    checkpoint.verify(point.folder, point.sha)
    spec = scenario.policy
    if spec.lora is None:
        spec = spec.model_copy(update={"model": str(point.folder)})
    about = f"{run}, by {scenario.engine.options['url']}" if _elsewhere(scenario) else f"{run}/{point.step}"
    served = _served(scenario, _policy(scenario, spec), about, point.version)
    if spec.lora is not None and served.here:
        _adapters(served).load(point.folder)
    served.weights_sha, served.following = point.weights_sha, run if follow and served.here else ""
    return served


def of_scenario(path: str, overrides: Sequence[str]) -> Served:
    """The policy of a scenario file, or of one that comes with Sparring, as it begins. Raises ``ScenarioError``."""
    scenario = load(path, overrides)
    return _served(scenario, _policy(scenario, scenario.policy), scenario.name, 0)


def of_model(model: str, overrides: Sequence[str]) -> Served:
    """A model by itself: ``builtin:tiny``, a folder, or a hub name. Raises ``EngineError``.

    Its scenario has one role, ``solver``, so that what is recorded can be trained on.
    """
    where = model if model.startswith("builtin:") else locate(model, Path.cwd())
    scenario = load("smoke", [*ALONE, f"policy.model={where}", *overrides])
    return _served(scenario, _policy(scenario, scenario.policy), model, 0)


def is_scenario(what: str) -> bool:
    """Whether a word names a scenario rather than a model."""
    return what.endswith((".yaml", ".yml")) or Path(what).is_file() or what in shipped()


async def follow(served: Served, store: Store, tell: Callable[[str], None], every_s: float = POLL_S) -> None:
    """Take up every newer checkpoint of the run that ``served`` follows, until cancelled; ``tell`` is given a line."""
    missed = ""
    while True:
        try:
            kept = await asyncio.to_thread(points, store, served.following)
            if kept and kept[-1].weights_sha not in (served.weights_sha, missed):  # a resumed run may also go back
                newest = kept[-1]
                try:
                    await _take_up(served, newest)
                    tell(f"now serving {served.about}")
                except (EngineError, OSError) as error:  # the run may have deleted it meanwhile; a newer one comes
                    missed = newest.weights_sha
                    tell(f"still serving {served.about}: {error}")
        except StoreError as error:
            tell(f"still serving {served.about}: {error}")
        await asyncio.sleep(every_s)


async def _take_up(served: Served, point: Point) -> None:
    await asyncio.to_thread(checkpoint.verify, point.folder, point.sha)
    async with served.changing():
        if served.scenario.policy.lora is None:
            await asyncio.to_thread(put_in, served.policy.model, point.folder)
        else:
            await asyncio.to_thread(_adapters(served).load, point.folder)
        await served.engine.load(point.version, Given(served.policy.model, served.policy.tokenizer, point.folder))
        served.version, served.weights_sha = point.version, point.weights_sha
    served.about = f"{point.run}/{point.step}"


def _adapters(served: Served) -> Changing:
    found = changing(served.policy.model)
    assert found is not None, "a policy with policy.lora has adapters"
    served.engine.adapters = found
    return found


def _served(scenario: Scenario, policy: Policy, about: str, version: int) -> Served:
    engine = _engine(scenario.engine, policy, _elsewhere(scenario))
    return Served(
        scenario=scenario, policy=policy, engine=engine, about=about, here=not _elsewhere(scenario), version=version
    )


def _engine(ref: Ref, policy: Policy, elsewhere: bool) -> Any:
    part = engines.get(ref.kind)
    config = part.Config.model_validate(ref.options)
    if elsewhere and hasattr(part, "beside"):
        return part.beside(config, policy, None)  # it is given no weights, so it need not take any
    return part.serve(config, policy) if hasattr(part, "serve") else part(config)


def _elsewhere(scenario: Scenario) -> bool:
    """Whether the scenario's engine is a server somewhere: then its weights are not needed here."""
    return bool(scenario.engine.options.get("url"))


def _policy(scenario: Scenario, spec: PolicySpec) -> Policy:
    if _elsewhere(scenario):
        return outline(spec, scenario.base)
    return load_policy(spec, scenario.base, adapters_of(scenario) if spec.lora is not None else ())


def outline(spec: PolicySpec, base: Path) -> Policy:
    """A policy's tokenizer and the shape of its model, without a weight. Raises ``EngineError``."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where = locate(spec.model, base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        with torch.device("meta"):
            shape = AutoConfig.from_pretrained(where)
            model = AutoModelForCausalLM.from_config(shape)  # type: ignore[no-untyped-call, unused-ignore]  # untyped there
    except (OSError, ValueError) as error:
        raise EngineError(f"policy.model {spec.model!r} cannot be read from {where}: {error}") from error
    try:
        ends = GenerationConfig.from_pretrained(where).eos_token_id
    except OSError:  # not every model comes with one
        ends = None
    return Policy(model, tokenizer, ChatRenderer(tokenizer, [ends] if isinstance(ends, int) else list(ends or ())))


def seed_for(store: Store, served: Served) -> int:
    """What requests draw their seeds from: no two servers that record into one database draw the same."""
    rows = queries.runs(store)
    return derive(served.scenario.seed, "serve", rows[-1].id if rows else "")


def _newest(store: Store) -> str:
    rows = queries.runs(store)
    if not rows:
        raise RunNotFound(f"no runs in {store.name} yet; `sparring run smoke` makes a small one")
    return rows[-1].id
