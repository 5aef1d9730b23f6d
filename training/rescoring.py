"""Stored turns scored once more: what scores them, written down with the scoring, and one process's part in the work.

Everything needed to score is in the scoring's ``options``, so any process that reaches the database can take part.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import sparring
from sparring.envs.types import Score
from sparring.scenarios.errors import ScenarioError, StoreError
from sparring.scenarios.problems import unknown
from sparring.scenarios.registry import environments
from sparring.scenarios.schema import Ref, RoleSpec, Scenario
from sparring.storage.leases import new_holder
from sparring.storage.rescores import Kind, Rescore, Shift, Waiting, episodes_of
from sparring.storage.store import Store

from .remarking import PROMPT, Judge, Remark, RubricSpec, make_judge, read_rubric
from .reverifying import Asked, Reverify, code_of

PAUSE_S = 0.5  # between looks at rows that others hold

Options = dict[str, Any]


class Scorer(Protocol):
    """What scores turns."""

    at_once: int

    def score(self, asked: Asked) -> dict[str, dict[int, Score]]:
        """These turns' scores, by the episode's name and by turn."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True, slots=True)
class Worked:
    """One process's part: turns it ``scored``, and results that were ``lost`` because others were given the turns."""

    scored: int
    lost: int
    waited_s: float


def verifier_options(scenario: Scenario) -> Options:
    """The options of a scoring by the verifier of this scenario's environment."""
    environment = scenario.resolved()["environment"]
    return {"environment": environment, "code": code_of(scenario), "sparring": sparring.__version__}


def rubric_options(scenario: Scenario, file: Path, judge: str | None) -> Options:
    """The options of a scoring by the rubric in a file; ``judge`` names a role or is ``URL#MODEL``.

    Raises ``ScenarioError`` with lines for a file that is none, and where a criterion needs a judge and there is none.
    """
    spec, lines = read_rubric(file)
    rubric = spec.rubric()
    told = {"criteria": [_written(one) for one in spec.criteria], "sparring": sparring.__version__}
    needs = [at for at, one in enumerate(rubric.criteria) if one.checker == "judge"]
    if not needs:
        return {**told, "judge": None}
    asked = _judge_of(scenario, spec, judge, file)
    if asked is None:
        first = needs[0]
        more = f" (and {len(needs) - 1} more)" if len(needs) > 1 else ""
        raise ScenarioError(
            f"{file}:{lines[first]}: no rule reads {rubric.criteria[first].text!r}{more}, so a judge must answer; "
            "give --judge ROLE or --judge URL#MODEL, or judge: in the file"
        )
    return {**told, "judge": asked}


def _written(one: Any) -> Options:
    criterion = one.criterion()
    return {"text": criterion.text, "points": criterion.points, "kind": str(criterion.kind)}


def _judge_of(scenario: Scenario, spec: RubricSpec, judge: str | None, file: Path) -> Options | None:
    """Name, role and engine of the judge, as plain data."""
    prompt = spec.prompt
    if prompt is not None and prompt.endswith(".md"):
        prompt = str((file.parent / prompt).resolve())
    plain = RoleSpec(kind="judge", prompt=prompt or PROMPT, sampling=spec.sampling, trainable=False)
    if judge is None:
        return None if spec.judge is None else _as_data("judge", plain, spec.judge)
    url, mark, model = judge.partition("#")
    if url.startswith(("http://", "https://")):
        if not mark or not model:
            raise ScenarioError(
                f"--judge {judge}: which model? write {url}#MODEL; the server lists them at {url}/models"
            )
        return _as_data("judge", plain, Ref(kind="openai", options={"url": url, "model": model}))
    role = scenario.roles.get(judge)
    if role is None:
        raise ScenarioError(f"--judge {judge}: {unknown('role', judge, scenario.roles)}; or give URL#MODEL")
    engine = spec.judge or role.engine
    if engine is None:
        raise ScenarioError(
            f"--judge {judge}: this role speaks with the policy itself, and scoring stored turns loads no model; give "
            f"it an engine with -s roles.{judge}.engine=..., or give --judge URL#MODEL"
        )
    return _as_data(judge, role if prompt is None else role.model_copy(update={"prompt": prompt}), engine)


def _as_data(name: str, role: RoleSpec, engine: Ref) -> Options:
    return {"name": name, "role": {**role.model_dump(mode="json"), "engine": None}, "engine": engine.model_dump()}


def scorer_of(
    kind: Kind,
    options: Mapping[str, Any],
    scenario: Scenario,
    figures: Mapping[int, Mapping[str, float | None]],
    workers: int,
    unsafe: bool,
) -> Scorer:
    """What scores turns, made of a scoring's options; ``scenario`` is the run's, with the environment that judges.

    Raises ``EngineError`` for a judge that is not there.
    """
    if kind == "verifier":
        return Reverify(scenario, figures, workers, unsafe)
    spec = RubricSpec(criteria=tuple(options["criteria"]))
    return Remark(spec.rubric(), _made_judge(options.get("judge"), scenario, workers))


def roomy(scenario: Scenario, workers: int) -> Scenario:
    """The scenario with an environment that does as many things at once as answers are judged, where it has a say."""
    ref = scenario.environment
    fields: Mapping[str, Any] = getattr(getattr(environments.get(ref.kind), "Config", None), "model_fields", {})
    if "workers" not in fields or ref.options.get("workers", fields["workers"].default) >= workers:
        return scenario
    wider = ref.model_copy(update={"options": {**ref.options, "workers": workers}})
    return scenario.model_copy(update={"environment": wider})


def same_code(one: Rescore, scenario: Scenario) -> None:
    """Refuse to go on with a scoring whose verifier was another program: its scores would mix. ``ScenarioError``."""
    begun, here = str(one.options.get("code", "")), code_of(scenario)
    if one.kind == "verifier" and begun != here:
        raise ScenarioError(
            f"scoring {one.number} of {one.run} was begun with another version of the verifier's code ({begun}, here "
            f"{here}), and {one.waiting} of its turns wait; begin anew without --join"
        )


def _made_judge(told: Options | None, scenario: Scenario, workers: int) -> Judge | None:
    if told is None:
        return None
    engine = Ref.model_validate(told["engine"])
    if engine.kind == "openai" and "concurrency" not in engine.options:
        engine = engine.model_copy(update={"options": {**engine.options, "concurrency": 8 * workers}})
    return make_judge(told["name"], RoleSpec.model_validate(told["role"]), engine, scenario.base, scenario.seed)


def work(
    store: Store,
    one: Rescore,
    scorer: Scorer,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, int], None] = lambda done, held: None,
    lease_s: float = 30.0,
) -> Worked:
    """Score turns until none waits or ``stop()``; ``tell`` hears how many were scored, and how many others hold.

    What is leased here is handed in whole or given back, whatever is raised; a killed process's turns come back when
    their leases of ``lease_s`` seconds, renewed while it lives, end.
    """
    shift, scored, lost, waited = Shift(store, one, new_holder(), lease_s), 0, 0, 0.0
    while not stop():
        rows = shift.take(scorer.at_once)
        if not rows:
            left = shift.standing()
            if not left.free + left.leased:
                break
            tell(0, left.leased)
            pause = min(PAUSE_S, left.ends_in or 0.0) if not left.free else 0.0
            time.sleep(pause + 0.05)
            waited += pause + 0.05
            continue
        ids = [row.id for row in rows]
        try:
            scores = _beside(partial(_scored, store, scorer, rows), partial(_hold, shift, ids), lease_s / 3)
            counted = shift.hand_in(scores)
        except BaseException:
            with suppress(StoreError):  # the first error says more, and a lease ends by itself
                shift.give_back(ids)
            raise
        scored, lost = scored + len(counted), lost + len(ids) - len(counted)
        tell(len(counted), 0)
    return Worked(scored, lost, waited)


def _scored(store: Store, scorer: Scorer, rows: Sequence[Waiting]) -> dict[int, Score]:
    """The scores of leased turns, by row id. No transaction is open while they are made."""
    episodes = episodes_of(store, rows)
    of: defaultdict[str, list[Waiting]] = defaultdict(list)
    for row in rows:
        if row.episode_id in episodes:
            of[row.name].append(row)
    asked = {
        name: (held[0].step, episodes[held[0].episode_id], {row.turn for row in held}) for name, held in of.items()
    }
    found = scorer.score(asked)
    return {row.id: found[name][row.turn] for name, held in of.items() for row in held}


def _hold(shift: Shift, ids: Sequence[int]) -> None:
    with suppress(StoreError):  # a database that is busy now may cost the lease, never a result
        shift.renew(ids)


def _beside(call: Callable[[], dict[int, Score]], meanwhile: Callable[[], None], every_s: float) -> dict[int, Score]:
    """``call()`` in a thread beside, with the leases renewed until it is over; Ctrl-C does not wait for it."""
    done: list[dict[int, Score]] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # told to whoever waits, in the main thread
            failed.append(error)

    thread = threading.Thread(target=run, name="scoring", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(every_s)
        if thread.is_alive():
            meanwhile()
    if failed:
        raise failed[0]
    return done[0]
