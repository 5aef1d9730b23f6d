"""Stored answers by a rubric from a file: rules check what they can read, a judge is asked about the rest.

The file is YAML: a list of criteria, or a mapping with ``criteria`` and, for a judge, ``judge``, ``prompt``,
``sampling``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import Field, ValidationError, model_validator

from sparring.agents.engine import ByteRenderer, Completion, Engine, Request
from sparring.agents.role import RUBRIC, Role, View, make_role
from sparring.agents.rubric import mark
from sparring.agents.rules import rule_for
from sparring.envs.criteria import HOW, written
from sparring.envs.types import Criterion, CriterionKind, Episode, Finish, Rubric, Score, Task, Turn, Validity
from sparring.scenarios.errors import EngineError, ScenarioError
from sparring.scenarios.explain import explain
from sparring.scenarios.problems import Problems, Sources
from sparring.scenarios.registry import engines
from sparring.scenarios.schema import Number, Ref, RoleSpec, Sampling, Spec
from sparring.scenarios.seeds import derive
from sparring.scenarios.yaml_text import parse

from .reverifying import Asked

NAME = "rubric"  # of the scores this makes
PROMPT = "full/text"
SHOWN = "criteria"  # the other name under which prompts of judges read the criteria
AT_ONCE = 64  # turns worth leasing together where a judge is asked; rules take many more
BY_RULE = 2048


class CriterionSpec(Spec):
    """One criterion: ``points`` it is worth, 0 for a veto, less for a penalty.

    ``kind`` is what a rule or a judge makes of it if unset.
    """

    text: str = Field(min_length=1, max_length=2000)
    points: Number = Field(default=1.0, ge=-1e6, le=1e6)
    kind: CriterionKind | None = None

    @model_validator(mode="before")
    @classmethod
    def _line(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        found = written(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(HOW)
        return found

    def criterion(self) -> Criterion:
        """The row of a rubric, with who checks it."""
        ruled = rule_for(self.text) is not None
        kind = self.kind or (CriterionKind.HARD if ruled else CriterionKind.PRINCIPLE)
        return Criterion(self.text, self.points, kind, "rule" if ruled else "judge")


class RubricSpec(Spec):
    """A rubric's file: ``criteria``, the engine a ``judge`` speaks through, its ``prompt`` and ``sampling``."""

    criteria: tuple[CriterionSpec, ...] = Field(min_length=1, max_length=100)
    judge: Ref | None = None
    prompt: str | None = None
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)

    @model_validator(mode="after")
    def _earns(self) -> RubricSpec:
        if not any(one.points > 0 and one.kind is not CriterionKind.VETO for one in self.criteria):
            raise ValueError("criteria: no criterion is worth points, so nothing can be earned")
        return self

    def rubric(self) -> Rubric:
        """The criteria as rewards know them."""
        return Rubric(tuple(one.criterion() for one in self.criteria), None, provenance="file")


def read_rubric(file: Path) -> tuple[RubricSpec, dict[int, int]]:
    """The rubric in a file, and the line each criterion stands on. Raises ``ScenarioError``, naming lines."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror or error}") from error
    document = parse(text, str(file))
    listed = isinstance(document.value, list)
    data = {"criteria": document.value} if listed else document.value
    if not isinstance(data, dict):
        raise ScenarioError(f"{file}:1: a rubric is a list of criteria, or a mapping with criteria: ...; {HOW}")
    prefix: tuple[str | int, ...] = ("criteria",) if listed else ()
    lines = {prefix + path: line for path, line in document.lines.items()} | {(): 1}
    try:
        spec = RubricSpec.model_validate(data)
    except ValidationError as error:
        problems = Problems(Sources(str(file), lines))
        explain(error, RubricSpec, data, (), problems)
        problems.raise_if_any()
        raise
    return spec, {at: lines[("criteria", at)] for at in range(len(spec.criteria))}


class Judge:
    """A role that answers criteria, and the engine it speaks through. ``seed`` makes its requests repeatable."""

    def __init__(self, role: Role, engine: Engine, name: str, seed: int) -> None:
        self.role, self.engine, self.name, self._seed = role, engine, name, seed

    def request(self, episode: Episode, turn: Turn, place: str, criteria: Sequence[str]) -> Request:
        """What the judge is asked about one turn."""
        said = {one.author: one.said for one in reversed(episode.ancestors(turn.index))} | {turn.author: turn.said}
        task = episode.task(turn.task) or Task("", {})
        shown = replace(task, secret={**task.secret, SHOWN: tuple(criteria)})
        view = View(shown, episode.parameters, said, turn.said, criteria=criteria)
        messages = self.role.observe(view)
        ids = ByteRenderer().open(messages).token_ids
        seed = derive(self._seed, "rescore", place)
        return Request(ids, self.role.spec.sampling, seed, self.role.name, messages=tuple(messages))


class Remark:
    """Scores stored turns by one rubric. ``judge`` answers what no rule reads; without one every criterion has a rule.

    Close it after use.
    """

    def __init__(self, rubric: Rubric, judge: Judge | None) -> None:
        self._rubric, self._judge = rubric, judge
        self._asked = [at for at, one in enumerate(rubric.criteria) if one.checker == "judge"]
        self._lines = [f"{at + 1}. {rubric.criteria[at].text}" for at in self._asked]
        self.at_once = AT_ONCE if self._asked else BY_RULE

    def close(self) -> None:
        """Let the engine go."""
        if self._judge is not None and hasattr(self._judge.engine, "close"):
            self._judge.engine.close()

    def score(self, asked: Asked) -> dict[str, dict[int, Score]]:
        """The new scores, by the episode's name and by turn.

        Raises ``EngineError`` when the judge cannot answer until a person acts; a passing fault is an invalid score.
        """
        places = [(name, held, held.turns[turn]) for name, (_, held, turns) in asked.items() for turn in turns]
        heard: list[Completion | None] = [None] * len(places)
        if self._asked and (judge := self._judge) is not None:
            requests = [judge.request(held, turn, f"{name}#{turn.index}", self._lines) for name, held, turn in places]
            heard = list(asyncio.run(judge.engine.generate(requests)))
        found: dict[str, dict[int, Score]] = {name: {} for name in asked}
        for (name, _, turn), done in zip(places, heard, strict=True):
            found[name][turn.index] = self._score(turn, done)
        return found

    def _score(self, turn: Turn, done: Completion | None) -> Score:
        by, answers = "rubric", {}
        if done is not None and self._judge is not None:
            by = f"{self._judge.role.name} by {done.engine or self._judge.name}"
            if done.finish is Finish.ABORT:
                return Score.invalid(NAME, by, done.error)
            text = ByteRenderer().decode(done.token_ids) if done.text is None else done.text
            marks = self._judge.role.parse(text)
            given = marks.value if marks.ok and isinstance(marks.value, Mapping) else {}
            answers = {at: [bool(given[str(at + 1)])] for at in self._asked if str(at + 1) in given}
            if not answers:
                return Score.invalid(NAME, by, f"the judge answered no criterion: {text.strip()[:120]!r}")
        marked = mark(self._rubric, turn.said, answers)
        silent = [str(at + 1) for at in self._asked if at not in answers]
        note = f"no answer about criteria {', '.join(silent)}" if silent else ""
        if marked.share is None:
            return Score(NAME, None, Validity.MISSING, by, note or "no criterion was checked", marked.rows)
        return Score.valued(NAME, marked.share, by, note, marked.rows)


def make_judge(name: str, spec: RoleSpec, engine: Ref, folder: Path, seed: int) -> Judge:
    """A role that answers criteria, through an engine that needs no policy.

    Raises ``ScenarioError`` or ``UnknownPart`` for a role that answers none, ``EngineError`` for another engine.
    """
    role = make_role(name, spec.model_copy(update={"sees": (*spec.sees, RUBRIC, SHOWN)}), folder)
    if role.contract != "marks":
        raise ScenarioError(
            f"role {name!r} is of kind {spec.kind!r}, which answers no criteria; a judge is of kind 'judge'"
        )
    if not role.prompt.variables & {RUBRIC, SHOWN}:
        raise ScenarioError(
            f"role {name!r}: prompt {role.prompt.name!r} shows no criteria: it reads neither rubric nor criteria; "
            f"give the rubric's file a prompt: of its own, such as {PROMPT}"
        )
    part: Any = engines.get(engine.kind)
    if hasattr(part, "serve") and not getattr(part, "untrainable", ""):
        raise EngineError(
            f"role {name!r} speaks through engine {engine.kind!r}, which serves the policy's weights; scoring stored "
            "turns loads no model: give a judge behind a server, as --judge URL#MODEL or judge: {kind: openai, ...}"
        )
    config = part.Config.model_validate(engine.options)
    apart = SimpleNamespace(renderer=ByteRenderer())  # what an engine beside the policy asks of it
    made = part.beside(config, apart, None) if hasattr(part, "beside") else part(config)
    return Judge(role, made, getattr(made, "name", engine.kind), seed)
