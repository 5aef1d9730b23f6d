"""Who may be trained through which engine is told with its line before anything is built."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import engines
from sparring.scenarios.schema import Scenario

Small = Callable[..., Scenario]
CRITIC = "critic: {prompt: brief/critic, reward: [verdict]}"
TOP = "environment: toy"


@engines("toy-frozen")
class Frozen:
    """Stands for a server: checked, never built."""

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        url: str

    truncates = True
    untrainable = "a toy takes no weights"

    def __init__(self, config: Config) -> None:
        raise AssertionError("a check builds no engine")


def told(small: Small, *changes: tuple[str, str]) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        small(*changes)
    return str(caught.value).splitlines()


def test_a_trained_role_with_an_engine_that_cannot_be_trained_hears_why_and_what_to_do(small: Small) -> None:
    engine = CRITIC.replace("}", ", engine: {kind: toy-frozen, url: there}}")
    assert told(small, (CRITIC, engine)) == [
        "small.yaml:5: roles.critic.engine: a trainable role speaks through the policy's own engine, and a toy takes "
        "no weights; remove it or set trainable: false"
    ]


def test_a_policy_that_is_trained_cannot_be_served_by_it_and_the_roles_are_named(small: Small) -> None:
    assert told(small, (TOP, f"{TOP}\nengine: {{kind: toy-frozen, url: there}}")) == [
        "small.yaml:3: engine: 'toy-frozen' cannot serve a policy that is trained (solver, critic): a toy takes no "
        "weights. Move it to roles.NAME.engine of roles with trainable: false and take transformers or vllm here, or "
        "train no role"
    ]


def test_only_roles_that_speak_through_it_are_named(small: Small) -> None:
    frozen = CRITIC.replace("}", ", trainable: false}")
    found = told(small, (TOP, f"{TOP}\nengine: {{kind: toy-frozen, url: there}}"), (CRITIC, frozen))
    assert len(found) == 1 and "that is trained (solver): " in found[0]


@pytest.mark.parametrize("changes", [
    [(CRITIC, CRITIC.replace("}", ", trainable: false, engine: {kind: toy-frozen, url: there}}"))],
    [(CRITIC, CRITIC.replace("}", ", trainable: false, sampling: {top_p: 0.9}, engine: {kind: toy-frozen, url: u}}"))],
    [(TOP, f"{TOP}\ntraining: {{steps: 0}}\nengine: {{kind: toy-frozen, url: there}}"),
     (CRITIC, CRITIC.replace("}", ", trainable: false}")), ("reward: [verifier]", "trainable: false")],
], ids=["a judge", "one that truncates", "nothing is trained"])  # fmt: skip
def test_what_is_not_trained_may_speak_through_it(small: Small, changes: list[tuple[str, str]]) -> None:
    assert small(*changes).name == "small"


def test_its_own_options_are_told_at_their_line(small: Small) -> None:
    engine = CRITIC.replace("}", ", trainable: false, engine: {kind: toy-frozen, ulr: there}}")
    found = told(small, (CRITIC, engine))
    assert any(
        "roles.critic.engine.ulr: unknown option of 'toy-frozen' 'ulr'; did you mean 'url'?" in one for one in found
    )
    assert any("roles.critic.engine.url: is required and missing" in one for one in found)


def test_an_unknown_engine_is_told_once(small: Small) -> None:
    (found,) = told(small, (TOP, f"{TOP}\nengine: toy-frozn"))
    assert found.startswith("small.yaml:3: engine: unknown engine 'toy-frozn'; did you mean 'toy-frozen'? known: ")
