"""The points of the environment contract: each a function that looks at an environment and says what it saw.

What is run together, and what becomes of a broken point, is told in ``check.py``.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from sparring.scenarios.seeds import derive

from .audit import AuditReport, Draw, audit, own_tasks, verdicts
from .base import Environment
from .cheap import secrets, short, shown
from .spaces import Unicode
from .types import Score, Task, Validity, digest

ACTIONS = ("", "a", "<answer>0</answer>", "\ud800 字 \x00", "x" * 2000)
SEEDS = range(8)
LONGEST = 500  # actions of junk after which an episode must be over
TELLING = 4  # characters from which a secret that can be read is no coincidence
LEAKS = 0.25  # share of a secret's texts that may be read by coincidence: a number that is also in the question
ODD = (
    "\ud800",
    "\x00\x1b[2J",
    "\u202e\u2066\ufeff",
    "\r\n" * 1000,
    "x" * 100_000,
    "[" * 20_000,
    "(" * 20_000,
    "9" * 5_000,
    "<answer>" * 1000,
    "</answer><answer>",
    *(
        f"<answer>{text}</answer>"
        for text in ("\ud800", "\x00", "9" * 5_000, "[" * 20_000, "nan", "-1e999", "1/0", "٣")
    ),
    "{{ task }} {% for x in y %}",
    "%s %d {} {0}",
    "'; DROP TABLE turns; --",
    '<tool_call>{"name": 3, "arguments": []}</tool_call>',
    "<tool_call>{{{",
    "```\n",
    "-0",
    "١٢",
    "²",
)
RESTART = """
import importlib, importlib.util, json, sys
module, path, name, config = json.loads(sys.argv[1])
try:
    found = importlib.import_module(module)
except ImportError:
    spec = importlib.util.spec_from_file_location(module, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[module] = found
    spec.loader.exec_module(found)
from sparring.envs.points import play
environment = getattr(found, name)(config)
print(play(environment, 3))
environment.close()
"""

Factory = Callable[[], Environment]


@dataclass(frozen=True, slots=True)
class Finding:
    """One point of the contract: kept, broken, or (``None``) not applicable; ``detail`` says what was seen."""

    name: str
    kept: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one odd action did: what it raised, and the first number that is not finite."""

    text: str
    raised: str = ""
    number: str = ""


@dataclass
class Look:
    """What every point looks at: how to make the environment, and how far to go."""

    factory: Factory
    tasks: int = 8
    seed: int = 0
    most: float = 0.25

    @contextmanager
    def opened(self) -> Iterator[Environment]:
        """A fresh environment, closed afterwards."""
        environment = self.factory()
        try:
            yield environment
        finally:
            environment.close()

    @cached_property
    def audit(self) -> AuditReport:
        """The verifier audit, once for every point that reads it."""
        with self.opened() as environment:
            return audit(environment, tasks=self.tasks, seed=self.seed)

    @cached_property
    def odd(self) -> list[Taken]:
        """Each odd text, and junk and oracle, as the first action of a fresh episode."""
        with self.opened() as environment:
            said: list[str | None] = [*ODD, *ACTIONS, None]
            return [_take(environment, derive(self.seed, "odd", place), text) for place, text in enumerate(said)]

    def drawn(self, environment: Environment) -> list[Task]:
        """Tasks of the environment's own generator, spread over its parameters."""
        rng = np.random.Generator(np.random.Philox(derive(self.seed, "check")))
        draw: Draw = own_tasks(environment)
        return [draw(rng, index) for index in range(self.tasks)]


def play(environment: Environment, seed: int) -> str:
    """Digest of an episode with fixed actions: task, observations, rewards, endings and scores."""
    return digest([_begin(environment, seed), *_steps(environment)])


def _begin(environment: Environment, seed: int) -> list[Any]:
    observation, info = environment.reset(seed=seed)
    assert isinstance(info, dict), "reset returns (observation, info dict)"
    task = _task(environment)
    return [observation, task.key, dict(task.secret)]


def _task(environment: Environment) -> Task:
    assert environment.task is not None, "reset leaves self.task unset"
    return environment.task


def _step(environment: Environment, action: str) -> tuple[list[Any], bool]:
    observation, reward, terminated, truncated, info = environment.step(action)
    scores = info.get("scores", [])
    by_seat = scores if isinstance(scores, Mapping) else {"": scores}
    told = {
        seat: [[score.name, score.value, score.validity, score.note] for score in found]
        for seat, found in by_seat.items()
    }
    return [observation, reward, terminated, truncated, told], bool(terminated or truncated)


def _steps(environment: Environment) -> Iterator[list[Any]]:
    for action in ACTIONS:
        seen, over = _step(environment, action)
        yield seen
        if over:
            return


def gymnasium_checker(look: Look) -> Finding:
    """Gymnasium's own checker, and text on both sides."""
    with look.opened() as environment, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(environment, skip_render_check=True)
        if not isinstance(environment.action_space, Unicode) or not isinstance(environment.observation_space, Unicode):
            return Finding("", False, "action and observation spaces must be sparring.envs.spaces.Unicode")
    return Finding("", not caught, "; ".join(str(warning.message) for warning in caught))


def same_seed(look: Look) -> Finding:
    """Equal seeds give equal episodes, in one instance and in two."""
    with look.opened() as one, look.opened() as other:
        same = len({play(one, 3), play(other, 3), play(one, 3)}) == 1
    return Finding("", same, "" if same else "seed 3 gave different episodes; draw from self.np_random alone")


def other_seed(look: Look) -> Finding:
    """Seeds matter."""
    with look.opened() as environment:
        keys = {_begin(environment, seed)[1] for seed in SEEDS}
    return Finding("", len(keys) > 1, f"{len(keys)} different tasks from {len(SEEDS)} seeds")


def interleaved(look: Look) -> Finding:
    """Two instances, stepped in turn, play what each plays alone."""
    with look.opened() as one, look.opened() as other:
        alone = [play(one, 1), play(one, 2)]
        seen: tuple[list[Any], list[Any]] = ([_begin(one, 1)], [_begin(other, 2)])
        walks = (_steps(one), _steps(other))
        for _ in ACTIONS:
            for walk, record in zip(walks, seen, strict=True):
                record.extend([step for step in [next(walk, None)] if step is not None])
    same = alone == [digest(record) for record in seen]
    return Finding("", same, "" if same else "two instances stepped in turn changed an episode")


def restart(look: Look) -> Finding:
    """Play in a new interpreter with another string-hash seed: catches set order, ids, clocks and global generators."""
    with look.opened() as environment:
        kind = type(environment)
        expected = play(environment, 3)
        config = environment.config.model_dump(mode="json")
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
        return Finding("", None, "the class is not importable by name, so no new process can build it")
    arguments = json.dumps([kind.__module__, inspect.getfile(kind), kind.__qualname__, config])
    done = subprocess.run(
        [sys.executable, "-P", "-c", RESTART, arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        check=False,
    )
    if done.returncode:
        return Finding("", False, f"a new process failed: {done.stderr.strip()[-300:]}")
    same = done.stdout.strip() == expected
    return Finding("", same, "" if same else "seed 3 gave another episode in a new process")


def snapshot(look: Look) -> Finding:
    """What follows a moment is the same after going back to it, random state included."""
    with look.opened() as environment, look.opened() as other:
        _begin(environment, 5)
        _begin(other, 6)
        if not environment.can_snapshot:
            return Finding("", None, "the environment cannot snapshot: a branch replays its actions")
        kept = environment.snapshot()
        first = list(_steps(environment))
        environment.restore(kept)
        again = list(_steps(environment))
        other.restore(kept)
        elsewhere = list(_steps(other))
        drawn = []
        for target in (environment, other):
            target.restore(kept)
            drawn.append(int(target.np_random.integers(1 << 30)))
    same = first == again == elsewhere and drawn[0] == drawn[1]
    return Finding("", same, "" if same else "an episode went another way after restore")


def ends(look: Look) -> Finding:
    """Whatever is said, an episode is over one day."""
    with look.opened() as environment:
        for action in ACTIONS[:3]:
            environment.reset(seed=look.seed)
            if not any(_step(environment, action)[1] for _ in range(LONGEST)):
                detail = f"{LONGEST} times {action!r} and neither terminated nor truncated; count the turns in step"
                return Finding("", False, detail)
    return Finding("", True)


def takes_any_text(look: Look) -> Finding:
    """No text a model can write makes ``step`` raise."""
    raised = [f"{short(taken.text)}: {taken.raised}" for taken in look.odd if taken.raised]
    share = look.audit.exceptions
    if not raised and share.count:
        raised = [share.example]
    return Finding("", not raised, "; ".join(raised[:3]) or f"{len(look.odd)} odd texts and {share.of} episodes")


def finite(look: Look) -> Finding:
    """Rewards and scores are numbers one can add up."""
    found = [f"{short(taken.text)}: {taken.number}" for taken in look.odd if taken.number]
    return Finding("", not found, "; ".join(found[:3]))


def _take(environment: Environment, seed: int, text: str | None) -> Taken:
    """``None`` asks the oracle, for as long as it knows and the episode lasts."""
    said = text or ""
    try:
        environment.reset(seed=seed)
        for _ in range(1 if text is not None else LONGEST):
            action = text if text is not None else environment.oracle()
            if action is None:
                break
            said = action
            _, reward, terminated, truncated, info = environment.step(action)
            if bad := _not_finite(float(reward), info):
                return Taken(said, number=bad)
            if terminated or truncated:
                break
    except Exception as error:  # the environment is a plug-in: whatever it raises is the finding
        return Taken(said, raised=f"{type(error).__name__}: {error}"[:200])
    return Taken(said)


def _not_finite(reward: float, info: Mapping[str, Any]) -> str:
    if not math.isfinite(reward):
        return f"the reward is {reward}"
    scores = info.get("scores", ())
    found: list[Score] = [one for each in scores.values() for one in each] if isinstance(scores, Mapping) else scores
    for score in found:
        if score.validity is Validity.VALUED and (score.value is None or not math.isfinite(score.value)):
            return f"the score {score.name} is {score.value}; use Score.invalid when there is none"
    return ""


def hides_secrets(look: Look) -> Finding:
    """What stands in ``Task.secret`` can be read neither in the payload nor in what is said before the end.

    Where there are seats one of them may be told: a leak is what all of them can read.
    """
    seen: dict[str, tuple[int, int, str]] = {}
    with look.opened() as environment:
        for task in look.drawn(environment):
            if shown(task) not in environment.junk_answers(task):
                return Finding("", None, "giving its words back is right here")
            told = _told(environment, task, look.seed)
            for key, secret in task.secret.items():
                texts = [text for text in secrets(secret) if len(text) >= TELLING]
                leaked = [
                    text for text in texts if text in shown(task) or (told and all(text in read for read in told))
                ]
                found, of, example = seen.get(key, (0, 0, ""))
                seen[key] = (found + len(leaked), of + len(texts), example or (short(leaked[0]) if leaked else ""))
    leaks = [
        f"secret {key!r} can be read before the end in {found} of {of} cases, such as {example}"
        for key, (found, of, example) in seen.items()
        if found > max(1, LEAKS * of)
    ]
    total = sum(of for _, of, _ in seen.values())
    return Finding("", not leaks, "; ".join(leaks) or f"{total} secret texts of {TELLING} characters or more")


def _told(environment: Environment, task: Task, seed: int) -> list[str]:
    """Every observation but the last of an episode of junk, together for each seat; nothing unless each is told some.

    Where there are seats they say what is best, as far as it is known: junk would end the episode at the first of them.
    """
    observation, _ = environment.reset(seed=seed, options={"task": task})
    told = {environment.addressee: str(observation)}
    for junk in ACTIONS:
        best = environment.oracle() if environment.seats else None
        seen, over = _step(environment, junk if best is None else best)
        if over:
            break
        told[environment.addressee] = f"{told.get(environment.addressee, '')}\n{seen[0]}"
    return list(told.values()) if set(environment.seats) <= set(told) else []


def oracle(look: Look) -> Finding:
    """The environment's own right answers earn the full mark."""
    report = look.audit
    if report.skipped or report.oracle is None:
        return Finding("", None, report.skipped or "the environment has no oracle()")
    kept = abs(report.oracle - 1.0) < 1e-9
    return Finding("", kept, f"mean {report.oracle:.3f}{'' if kept else f'; {report.oracle_worst}'}")


def junk(look: Look) -> Finding:
    """None of the environment's junk earns anything."""
    rewarded, unscored, n_answers = [], 0, 0
    with look.opened() as environment:
        for seed in range(3):
            environment.reset(seed=seed)
            for answer in environment.junk_answers(_task(environment)):
                environment.reset(seed=seed)
                seat = environment.addressee
                _, reward, _, _, info = environment.step(answer)
                scores = verdicts(info, float(reward), seat)
                n_answers += 1
                if not scores:
                    unscored += 1
                elif (value := scores[-1].value) is not None and value > 0.0:
                    rewarded.append(f"{answer!r:.40} earned {value}")
    if unscored == n_answers:
        return Finding("", None, "no first action gets a score named verifier")
    return Finding("", not rewarded, "; ".join(rewarded[:5]) or f"{n_answers} junk answers earned nothing")


def same_twice(look: Look) -> Finding:
    """The same answer to the same task earns the same."""
    report = look.audit
    if report.skipped:
        return Finding("", None, report.skipped)
    share = report.unstable
    return Finding("", not share.count, share.example or f"{share.of} answers given twice")


def resists(look: Look) -> Finding:
    """No cheap way of answering earns more than ``most`` on the average."""
    report = look.audit
    if report.skipped:
        return Finding("", None, report.skipped)
    best = report.best
    if best is None:
        return Finding("", False, f"no score could be used: {report.invalid.example or report.exceptions.example}")
    detail = f"best cheap answer: {best.name}{best.where} earns {best.mean:.3f} on {best.tasks} tasks"
    if best.mean > look.most:
        lucky = "" if best.least > look.most else ", but luck may have made it so; try more tasks"
        detail = f"{detail}; {look.most:g} is allowed{lucky}"
    return Finding("", best.least <= look.most, detail)


POINTS: Mapping[str, Callable[[Look], Finding]] = {
    "gymnasium": gymnasium_checker,
    "same seed, same episode": same_seed,
    "other seed, other task": other_seed,
    "instances do not disturb each other": interleaved,
    "same after a restart": restart,
    "snapshot and restore": snapshot,
    "episodes end": ends,
    "any text is taken": takes_any_text,
    "numbers are finite": finite,
    "secrets stay hidden": hides_secrets,
    "oracle earns the full mark": oracle,
    "verifier refuses junk": junk,
    "verifier says the same twice": same_twice,
    "verifier resists cheap answers": resists,
}
