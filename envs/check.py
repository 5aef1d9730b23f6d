"""The environment contract as a test: Gymnasium's own checker, seeds, restarts, snapshots, and a verifier audit."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gymnasium.utils.env_checker import check_env

from sparring.scenarios.errors import ContractBroken

from .base import Environment
from .spaces import Unicode
from .types import Score, Validity, digest

_ACTIONS = ("", "a", "<answer>0</answer>", "\ud800 字 \x00", "x" * 2000)
_SEEDS = range(8)
_RESTART = """
import importlib, importlib.util, json, sys
module, path, name, config = json.loads(sys.argv[1])
try:
    found = importlib.import_module(module)
except ImportError:
    spec = importlib.util.spec_from_file_location(module, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[module] = found
    spec.loader.exec_module(found)
from sparring.envs.check import play
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
class CheckReport:
    """What was checked, in order."""

    environment: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Points not kept."""
        return tuple(finding for finding in self.findings if finding.kept is False)


def check_environment(environment: Environment | type[Environment] | Factory) -> CheckReport:
    """Check the whole contract; raises ``ContractBroken`` that lists every point broken, else returns the report."""
    report = inspect_environment(environment)
    if report.broken:
        lines = "\n".join(f"  {finding.name}: {finding.detail}" for finding in report.broken)
        raise ContractBroken(f"environment {report.environment} breaks its contract:\n{lines}")
    return report


def inspect_environment(environment: Environment | type[Environment] | Factory) -> CheckReport:
    """Like ``check_environment``, without raising: an error in the environment is a finding too."""
    factory = _factory(environment)
    points: dict[str, Callable[[Factory], Finding]] = {
        "gymnasium": _gymnasium,
        "same seed, same episode": _same_seed,
        "other seed, other task": _other_seed,
        "instances do not disturb each other": _interleaved,
        "same after a restart": _restart,
        "snapshot and restore": _snapshot,
        "verifier refuses junk": _junk,
    }
    findings = []
    for name, point in points.items():
        try:
            found = point(factory)
            findings.append(Finding(name, found.kept, found.detail))
        except Exception as error:  # the environment is a plug-in: whatever it raises is the finding
            findings.append(Finding(name, False, f"{type(error).__name__}: {error}"))
    with _opened(factory) as sample:
        return CheckReport(type(sample).__name__, tuple(findings))


def play(environment: Environment, seed: int) -> str:
    """Digest of an episode with fixed actions: task, observations, rewards, endings and scores."""
    return digest([_begin(environment, seed), *_steps(environment)])


def _factory(environment: Environment | type[Environment] | Factory) -> Factory:
    if isinstance(environment, Environment):
        kind, config = type(environment), environment.config
        return lambda: kind(config)
    return environment


@contextmanager
def _opened(factory: Factory) -> Iterator[Environment]:
    environment = factory()
    try:
        yield environment
    finally:
        environment.close()


def _begin(environment: Environment, seed: int) -> list[Any]:
    observation, info = environment.reset(seed=seed)
    assert environment.task is not None, "reset leaves self.task unset"
    assert isinstance(info, dict), "reset returns (observation, info dict)"
    return [observation, environment.task.key, dict(environment.task.secret)]


def _step(environment: Environment, action: str) -> tuple[list[Any], bool]:
    observation, reward, terminated, truncated, info = environment.step(action)
    scores = [[score.name, score.value, score.validity, score.note] for score in info.get("scores", [])]
    return [observation, reward, terminated, truncated, scores], terminated or truncated


def _steps(environment: Environment) -> Iterator[list[Any]]:
    for action in _ACTIONS:
        seen, over = _step(environment, action)
        yield seen
        if over:
            return


def _gymnasium(factory: Factory) -> Finding:
    with _opened(factory) as environment, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(environment, skip_render_check=True)
        if not isinstance(environment.action_space, Unicode) or not isinstance(environment.observation_space, Unicode):
            return Finding("", False, "action and observation spaces must be sparring.envs.spaces.Unicode")
    said = "; ".join(str(warning.message) for warning in caught)
    return Finding("", not caught, said)


def _same_seed(factory: Factory) -> Finding:
    with _opened(factory) as one, _opened(factory) as other:
        first, second, again = play(one, 3), play(other, 3), play(one, 3)
    return Finding("", first == second == again, "" if first == second == again else "seed 3 gave different episodes")


def _other_seed(factory: Factory) -> Finding:
    with _opened(factory) as environment:
        keys = {_begin(environment, seed)[1] for seed in _SEEDS}
    return Finding("", len(keys) > 1, f"{len(keys)} different tasks from {len(_SEEDS)} seeds")


def _interleaved(factory: Factory) -> Finding:
    with _opened(factory) as one, _opened(factory) as other:
        alone = [play(one, 1), play(one, 2)]
        seen: tuple[list[Any], list[Any]] = ([_begin(one, 1)], [_begin(other, 2)])
        walks = (_steps(one), _steps(other))
        for _ in _ACTIONS:
            for walk, record in zip(walks, seen, strict=True):
                record.extend([step for step in [next(walk, None)] if step is not None])
    together = [digest(record) for record in seen]
    return Finding(
        "", alone == together, "" if alone == together else "two instances stepped in turn changed an episode"
    )


def _restart(factory: Factory) -> Finding:
    """Play in a new interpreter with another string-hash seed: catches set order, ids, clocks and global generators."""
    with _opened(factory) as environment:
        kind = type(environment)
        expected = play(environment, 3)
        config = environment.config.model_dump(mode="json")
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
        return Finding("", None, "the class is not importable by name, so no new process can build it")
    arguments = json.dumps([kind.__module__, inspect.getfile(kind), kind.__qualname__, config])
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RESTART, arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONHASHSEED": "4711", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    if done.returncode:
        return Finding("", False, f"a new process failed: {done.stderr.strip()[-300:]}")
    same = done.stdout.strip() == expected
    return Finding("", same, "" if same else "seed 3 gave another episode in a new process")


def _snapshot(factory: Factory) -> Finding:
    with _opened(factory) as environment, _opened(factory) as other:
        _begin(environment, 5)
        _begin(other, 6)
        if not environment.can_snapshot:
            return Finding("", None, "the environment cannot snapshot")
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


def _junk(factory: Factory) -> Finding:
    rewarded, unscored, n_answers = [], 0, 0
    with _opened(factory) as environment:
        for seed in range(3):
            environment.reset(seed=seed)
            assert environment.task is not None, "reset leaves self.task unset"
            for answer in environment.junk_answers(environment.task):
                environment.reset(seed=seed)
                scores: list[Score] = environment.step(answer)[4].get("scores", [])
                n_answers += 1
                found = next((score for score in scores if score.name == "verifier"), None)
                if found is None:
                    unscored += 1
                elif found.validity is Validity.VALUED and (found.value or 0.0) > 0.0:
                    rewarded.append(f"{answer!r:.40} earned {found.value}")
    if unscored == n_answers:
        return Finding("", None, "the environment gives no score named verifier")
    return Finding("", not rewarded, "; ".join(rewarded[:5]) or f"{n_answers} junk answers earned nothing")
