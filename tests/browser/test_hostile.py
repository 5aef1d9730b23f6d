"""What a model wrote is shown as text and does nothing, on every page that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.browser.conftest import Opened, Site, addresses, served

from sparring.storage.inspector.registry import PAGES
from sparring.storage.records import StepRecord
from sparring.storage.samples import sample_step
from sparring.storage.store import Store

ATTACK = (
    "</p></pre></title><script>window.hit = 1</script><img class=hostile src=x onerror='window.hit = 1'>"
    "<a href=\"javascript:window.hit = 1\">click</a><svg onload='window.hit = 1'></svg>{{ 7 * 7 }}\u202e"
)


def attacked(record: StepRecord) -> StepRecord:
    """The step with hostile text wherever a model's words end up."""
    episodes = []
    for episode in record.episodes:
        turns = tuple(turn.amended(said=ATTACK + turn.said) for turn in episode.turns)
        tasks = tuple(replace(task, payload={"program": ATTACK}) for task in episode.tasks)
        rubrics = {
            turn: replace(rubric, criteria=tuple(replace(one, text=ATTACK) for one in rubric.criteria))
            for turn, rubric in episode.rubrics.items()
        }
        scores = {
            turn: tuple(
                replace(one, note=ATTACK, criteria=tuple(replace(part, quote=ATTACK[:60]) for part in one.criteria))
                for one in held
            )
            for turn, held in episode.scores.items()
        }
        episodes.append(replace(episode, turns=turns, tasks=tasks, rubrics=rubrics, scores=scores, error=ATTACK))
    return replace(record, episodes=tuple(episodes))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pages over such steps."""
    file = tmp_path_factory.mktemp("hostile") / "sparring.db"
    with Store(file) as store:
        store.start_run(ATTACK, {"name": ATTACK, "training": {"steps": 2}}, "digest", 0)
        for number in range(2):
            store.save_step("r1", attacked(sample_step(number, episodes=3)))
        store.finish_run("r1", "done")
    with served(file) as home:
        yield addresses(home)


@pytest.mark.parametrize("path", list(PAGES))
def test_hostile_text_is_inert(path: str, hostile: Site, visit: Callable[..., Opened]) -> None:
    opened = visit()
    page = opened.go(hostile[path])
    assert page.evaluate("window.hit") is None
    assert page.locator(".hostile, a[href^='javascript:'], main script").count() == 0
    assert opened.complaints == []
