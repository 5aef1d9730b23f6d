"""Learners made of numbers, for tests of curricula: what the trainer would report of them, without a model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sparring.storage.samples import sample_step
from sparring.storage.store import Store
from sparring.training.advantages.group import Grpo
from sparring.training.curriculum.base import Curriculum, Outcome, Wanted
from sparring.training.groups import Group, Member, Place


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def grpo(rewards: Sequence[float], **options: object) -> list[float]:
    """Our own z-scored advantages of one group."""
    members = [Member(Place(0, at), reward) for at, reward in enumerate(rewards)]
    return Grpo(Grpo.Config.model_validate(options))([Group.of("solver", "solve", "x", members)])[0]


def attempts(chance: float, draw: np.random.Generator, samples: int = 8) -> Outcome:
    """One task tried so many times by a learner who is right with this chance."""
    right = (draw.random(samples) < chance).astype(float).tolist()
    return Outcome(tuple(map(abs, grpo(right))), tuple(right), 1)


def practise(
    curriculum: Curriculum, chances: Mapping[str, float], steps: int, seed: int = 0, picks: int = 4
) -> Counter[str]:
    """Steps of a learner with fixed chances per arm; how many episodes each arm got."""
    draw, got = rng(seed), Counter[str]()
    for step in range(1, steps + 1):
        for pick in curriculum.propose(Wanted(picks, 3 * picks, step, steps), draw):
            got[pick.arm] += pick.count
            curriculum.observe(pick, attempts(chances[pick.arm], draw))
    return got


def frontier(depth: float, size: float, practised: Counter[int]) -> float:
    """Chance on a plane whose right part can never be learned, with a band that practice moves.

    Left of 0.2 all is known; from 0.2 to 0.35 it is learned, strip by strip of the other axis; the rest is hopeless.
    """
    if depth < 0.2:
        return 1.0
    if depth >= 0.35:
        return 0.0
    strip = int(20 * size)
    practised[strip] += 1
    return min(0.9, 0.1 + 0.02 * practised[strip])


def explored(curriculum: Curriculum, tasks: int, seed: int) -> list[tuple[float, float]]:
    """Where the tasks lay that a learner of that plane was given."""
    draw, practised, places = rng(seed), Counter[int](), list[tuple[float, float]]()
    for step in range(1, tasks // 25 + 1):
        for pick in curriculum.propose(Wanted(25, 25, step), draw):
            places.append((float(pick.parameters["depth"]), float(pick.parameters["size"])))
            curriculum.observe(pick, attempts(frontier(*places[-1], practised), draw))
    return places


def through_sql(state: Mapping[str, object]) -> Mapping[str, object]:
    """What a run that is resumed gets of a curriculum's state that a step was saved with."""
    with Store.memory() as store:
        store.start_run("sample", {"name": "sample"}, "digest", 5)
        for number in range(2):
            saved = sample_step(number, episodes=2, checkpoint=True)
            store.save_step("r1", dataclasses.replace(saved, curriculum_state=state))
        return store.resume_point("r1").curriculum_state
