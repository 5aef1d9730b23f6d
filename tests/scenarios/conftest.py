"""A small environment and parts of our own, so that these tests stand on the scenario folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from sparring.scenarios.load import SHIPPED, loads
from sparring.scenarios.registry import environments
from sparring.scenarios.schema import Scenario


@environments("toy")
class Toy:
    """Stands for an environment: it is checked, never played."""

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        mode: Literal["predict_output", "predict_input"] = "predict_output"
        timeout_s: float = 2.0

    parameters: ClassVar = {"depth": [1, 2, 3, 4], "width": range(1, 5)}
    disclosures: ClassVar = ("reference", "trace")
    payload_fields: ClassVar = ("program",)
    row_fields: ClassVar = {"program": str}


SMALL = """\
name: small
environment: toy
roles:
  solver: {prompt: brief/solver, reward: [verifier]}
  critic: {prompt: brief/critic, reward: [verdict]}
graph:
  nodes:
    solve: {role: solver, samples: 4}
    judge: {role: critic}
  edges:
    - solve -> judge if wrong
"""


@pytest.fixture(scope="session")
def default_text() -> str:
    """The default scenario with the toy environment in place of the real one: same keys, same lines."""
    return (SHIPPED / "code-output.yaml").read_text(encoding="utf-8").replace("{kind: code,", "{kind: toy,")


@pytest.fixture
def small() -> Callable[..., Scenario]:
    """Loads the small scenario with texts replaced."""

    def load_with(*changes: tuple[str, str], overrides: tuple[str, ...] = ()) -> Scenario:
        text = SMALL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return loads(text, "small.yaml", overrides)

    return load_with


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the small scenario in ``small.yaml``."""
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    return tmp_path
