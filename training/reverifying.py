"""Stored answers before the environment again: each is acted out from where it stood, and its verdict taken anew.

The words are the recorded ones. No graph decides who speaks, since another verdict would send it another way, and the
answers that were really given would not be met; no model, tokenizer or prompt is needed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

from sparring.agents.book import ENVIRONMENT
from sparring.agents.conditions import VERIFIER
from sparring.agents.world import Acted, Pool, Standing, reset_one, step_all
from sparring.envs.base import Environment
from sparring.envs.guard import TooManyHang
from sparring.envs.types import Episode, Score, Turn
from sparring.scenarios.errors import ContractBroken
from sparring.scenarios.registry import environments, make
from sparring.scenarios.schema import Ref, Scenario, located

Asked = Mapping[str, tuple[int, Episode, Collection[int]]]
"""By an episode's name: the step that played it, itself, and the turns that are asked for."""
SET = "set"  # a turn with which the environment set a task
STEP = "step"  # a turn with which it answered an action
ANOTHER = "the environment said something else before this answer than is recorded"
GIVEN_NONE = "the environment gives this answer no verifier score"


class Reverify:
    """Scores stored turns with the verifier of a scenario's environment. Close it after use.

    ``figures`` are each step's metrics, for options that follow a schedule; ``workers`` episodes are judged side by
    side; ``unsafe`` is the second yes that an environment without a sandbox asks for.
    """

    def __init__(
        self, scenario: Scenario, figures: Mapping[int, Mapping[str, float | None]], workers: int, unsafe: bool = False
    ) -> None:
        self._scenario, self._figures, self._unsafe = scenario, figures, unsafe
        nodes = scenario.graph_spec().nodes
        self._steps = frozenset(name for name, node in nodes.items() if node.do == STEP)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")
        self._pools: dict[str, Pool] = {}
        self.at_once = 16 * workers  # turns worth leasing together

    def close(self) -> None:
        """Give threads and environments back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools.values():
            pool.close()

    def score(self, asked: Asked) -> dict[str, dict[int, Score]]:
        """The new verdicts, by the episode's name and by turn. Raises ``ContractBroken`` when calls into the
        environment keep hanging; any other failure of it is an invalid score."""
        jobs = [(self._pool(step), episode, frozenset(turns)) for step, episode, turns in asked.values()]
        return dict(zip(asked, self._threads.map(lambda job: self._judged(*job), jobs), strict=True))

    def _judged(self, pool: Pool, episode: Episode, wanted: frozenset[int]) -> dict[int, Score]:
        walk = Walk(episode, self._steps, pool)
        try:
            found = walk.verdicts(wanted)
        except TooManyHang:
            raise
        except ContractBroken as error:  # the task itself cannot be set again
            return {turn: Score.invalid(VERIFIER, ENVIRONMENT, str(error)) for turn in wanted}
        return {turn: found.get(turn) or Score.missing(VERIFIER, ENVIRONMENT, GIVEN_NONE) for turn in wanted}

    def _pool(self, step: int) -> Pool:
        """Environments as they were in this step."""
        ref = self._scenario.environment
        if self._scenario.scheduled:
            from .replaying import moment  # loads what a whole run needs

            ref = moment(self._scenario, step, self._figures).environment
        key = ref.model_dump_json()
        if key not in self._pools:
            self._pools[key] = Pool(lambda: self._made(ref))
        return self._pools[key]

    def _made(self, ref: Ref) -> Environment:
        asks = "allow_unsafe" in signature(environments.get(ref.kind)).parameters
        allowed = {"allow_unsafe": True} if self._unsafe and asks else {}
        made: Environment = make(environments, located(ref, self._scenario.base), **allowed)
        return made


class Walk:
    """One stored episode's environment turns, made again where they are needed."""

    def __init__(self, episode: Episode, steps: Collection[str], pool: Pool) -> None:
        """``steps`` are the nodes at which the environment answers an action."""
        self._episode, self._pool = episode, pool
        self._kinds = {turn.index: kind for turn in episode.turns if (kind := _kind(episode, turn, steps))}
        self._acted: dict[int, Acted] = {}

    def verdicts(self, wanted: Collection[int]) -> dict[int, Score]:
        """The new verifier scores by turn; a turn the environment no longer judges has none.

        Raises ``ContractBroken`` where a task cannot be set again.
        """
        with self._pool.lend() as environment:
            seated = bool(environment.seats)
        turns = self._episode.turns
        last = [index for index in self._kinds if seated or turns[index].parent in wanted]
        needed = {above.index for index in last for above in self._episode.ancestors(index)} & self._kinds.keys()
        found: dict[int, Score] = {}
        for index in sorted(needed):  # parents come before children
            acted = self._acted[index] = self._again(turns[index])
            for turn, score in self._given(turns[index], acted):
                found.setdefault(turn, score)
        return {turn: self._told(turn, score) for turn, score in found.items() if turn in wanted}

    def _again(self, turn: Turn) -> Acted:
        if self._kinds[turn.index] == SET:
            task = self._episode.task(turn.task)
            if task is None:
                raise ContractBroken(f"turn {turn.index} set task {turn.task}, which is not stored")
            return reset_one(self._pool, task, turn.seed)
        assert turn.parent is not None  # a step answers a turn
        action = self._episode.turns[turn.parent]
        return step_all(self._pool, [(self._standing(action.parent), action.said)])[0]

    def _standing(self, index: int | None) -> Standing:
        """Where the environment stands for whoever acts after a turn, as in play: an end is not gone on from."""
        for turn in self._episode.ancestors(index):
            acted = self._acted.get(turn.index)
            if acted is not None and not acted.over:
                return acted.standing
        raise ContractBroken(f"no task was set before turn {index}")

    def _given(self, turn: Turn, acted: Acted) -> Iterator[tuple[int, Score]]:
        """The verdicts this turn of the environment came with, by the turn they are for."""
        given = [(turn.parent, score) for score in acted.scores]
        for seat, scores in acted.seat_scores.items():
            newest = next((one.index for one in self._episode.ancestors(turn.parent) if one.author == seat), None)
            given += [(newest, score) for score in scores]
        for index, score in given:
            if index is not None and score.name == VERIFIER:
                yield index, score

    def _told(self, turn: int, score: Score) -> Score:
        """The score, with a note where the answer was given to other words than the environment has now."""
        above = self._episode.ancestors(self._episode.turns[turn].parent)
        same = all(self._acted[one.index].said == one.said for one in above if one.index in self._acted)
        return score if same else _noted(score, ANOTHER)


def _kind(episode: Episode, turn: Turn, steps: Collection[str]) -> str:
    """What the environment did in a turn; "" for a turn that is a role's, or a refusal."""
    if turn.author != ENVIRONMENT or turn.parent in episode.refusals:
        return ""
    return STEP if turn.node in steps and turn.parent is not None else SET


def _noted(score: Score, note: str) -> Score:
    told = f"{note}; {score.note}" if score.note else note
    return Score(score.name, score.value, score.validity, score.by, told, score.criteria)


def code_of(scenario: Scenario) -> str:
    """A hash of the verifier's code: the environment's own modules and the files the scenario loads."""
    part: Any = environments.get(scenario.environment.kind)
    kinds = [kind for kind in getattr(part, "__mro__", (part,)) if not _is_base(kind)]
    modules = {name: module for kind in kinds if (module := sys.modules.get(name := kind.__module__))}
    files = {Path(file) for name, module in modules.items() if (file := getattr(module, "__file__", None))}
    packages = [Path(file).parent for file in files if (Path(file).parent / "__init__.py").exists()]
    files |= {file for folder in packages for file in folder.rglob("*.py")}
    files |= {scenario.base / name for name in scenario.load}
    hasher = hashlib.sha256()
    for file in sorted(files, key=lambda file: (file.name, str(file))):
        hasher.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return hasher.hexdigest()[:16]


def _is_base(kind: Any) -> bool:
    """Whether every environment has this class in it: it then tells nothing of one verifier."""
    return isinstance(kind, type) and issubclass(Environment, kind)
