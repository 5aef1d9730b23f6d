"""A role: what it may read (``View``), what it is told (``observe``), what its words mean (``parse``).

Which roles there are is in ``roles.py``; who speaks after whom is the graph's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sparring.envs.types import Parsed, Task
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import nearest, roles
from sparring.scenarios.schema import RoleSpec

from .engine import Message
from .templates import Prompt, load_prompt

RUBRIC = "rubric"
WORDS = ("parameters", "said", "last", "heard", "tools")


class Heard(NamedTuple):
    """One message since the role last spoke."""

    author: str
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """What lies before a role on its branch. ``criteria`` are the rubric lines; only roles that see rubrics read them.

    ``said`` maps an author to its last words on the branch, ``last`` is the newest message, ``heard`` all messages
    since this role last spoke, ``tools`` a line for each tool of the environment.
    """

    task: Task | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    last: str = ""
    heard: Sequence[Heard] = ()
    criteria: Sequence[str] = ()
    tools: Sequence[str] = ()

    def variables(self, sees: Sequence[str]) -> dict[str, Any]:
        """What a template may name: parameters, payload, the secrets in ``sees``, and the conversation."""
        known: dict[str, Any] = dict(self.parameters)
        if self.task is not None:
            known |= self.task.payload
            known |= {name: self.task.secret[name] for name in sees if name in self.task.secret}
        if RUBRIC in sees:
            known[RUBRIC] = tuple(self.criteria)
        conversation = (dict(self.parameters), dict(self.said), self.last, tuple(self.heard), tuple(self.tools))
        return known | dict(zip(WORDS, conversation, strict=True))


class Role:
    """Base of every role. Subclasses set ``contract``, ``default_prompt`` and ``parse``; the spec gives the rest."""

    contract = "text"  # the ``Parsed.kind`` of what this role says
    default_prompt: str | None = None

    def __init__(self, name: str, spec: RoleSpec, folder: Path | None = None) -> None:
        """``folder`` is where relative prompt paths start; raises ``ScenarioError`` when there is no prompt."""
        self.name = name
        self.spec = spec
        self.folder = folder
        prompt = spec.prompt or self.default_prompt
        if prompt is None:
            raise ScenarioError(f"role {name!r}: kind {spec.kind!r} has no prompt of its own; add prompt: to the role")
        self.prompt = load_prompt(prompt, folder)
        self._prompts: dict[str, Prompt] = {}

    @property
    def sees(self) -> tuple[str, ...]:
        """Names of secrets (or ``rubric``) this role may read."""
        return self.spec.sees

    def prompt_at(self, name: str | None) -> Prompt:
        """The role's prompt, or the one a node asks for; a bare name is looked up in the same set."""
        if name is None:
            return self.prompt
        if name not in self._prompts:  # read once: a run does not change its prompts midway
            self._prompts[name] = load_prompt(name, self.folder, beside=self.prompt)
        return self._prompts[name]

    def observe(self, view: View, prompt: Prompt | None = None) -> list[Message]:
        """The messages this role newly reads: its template (or ``prompt``) filled from what it may see."""
        return [Message("user", (prompt or self.prompt).render(view.variables(self.sees)))]

    def parse(self, text: str) -> Parsed:
        """What ``text`` means under this role's contract. Never raises."""
        raise NotImplementedError


def make_role(name: str, spec: RoleSpec, folder: Path | None = None) -> Role:
    """The registered role of ``spec.kind`` under ``name``; raises ``UnknownPart`` or ``ScenarioError``."""
    made: Role = roles.get(spec.kind)(name, spec, folder)
    return made


def check_sees(role: Role, disclosures: Sequence[str]) -> None:
    """Refuse a ``sees`` entry that the environment does not disclose; raises ``ScenarioError``."""
    allowed = (*disclosures, RUBRIC)
    for name in role.sees:
        if name not in allowed:
            hint = nearest(name, allowed)
            meant = f"did you mean {hint!r}? " if hint else ""
            raise ScenarioError(f"role {role.name!r} sees {name!r}, which is not disclosed; {meant}allowed: {allowed}")
