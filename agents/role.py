"""A role: what it may read (``View``), what it is told (``observe``), what its words mean (``parse``).

Which roles there are is in ``roles.py``; who speaks after whom is the graph's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sparring.envs.criteria import RUBRIC as RUBRIC  # the name under which roles see rubrics, too
from sparring.envs.types import Parsed, Task
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import nearest, roles
from sparring.scenarios.schema import RoleSpec

from .beside import Attempt
from .engine import Message
from .seal import NONCE, broken, inside
from .templates import Prompt, load_prompt

OUTCOME = "outcome"
SIBLINGS = "siblings"
SEEN = (RUBRIC, OUTCOME, SIBLINGS)  # what a role may see besides what the environment discloses
SCAFFOLD = "scaffold"  # the variable that holds help, and a turn's score: the share it was shown
NO_HELP: Mapping[str, Sequence[str]] = {"wanted": (), "unwanted": ()}
WORDS = ("parameters", "said", "last", "heard", "tools", NONCE)


class Heard(NamedTuple):
    """One message since the role last spoke."""

    author: str
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """What lies before a role on its branch. ``criteria`` are the rubric lines; only roles that see rubrics read them.

    ``said`` maps an author to its last words on the branch, ``last`` is the newest message, ``heard`` all messages
    since this role last spoke, ``tools`` a line for each tool of the environment, ``nonce`` the word of this call.
    ``outcome`` is the verifier's word on the attempt before it, ``right`` or ``wrong``, for roles that see it.
    ``scaffold`` is help: what is ``wanted`` and what is ``unwanted``. ``memory`` is what the role said in earlier steps
    and its ``memory`` keeps, oldest first.

    Roles that see ``siblings`` read the ``attempt`` they stand below, those beside it, and the ``pair`` it makes with
    the next one of the other outcome (``pair.preferred``, ``pair.rejected``).
    """

    task: Task | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    last: str = ""
    heard: Sequence[Heard] = ()
    criteria: Sequence[str] = ()
    tools: Sequence[str] = ()
    nonce: str = ""
    outcome: str = ""
    scaffold: Mapping[str, Sequence[str]] = field(default_factory=lambda: NO_HELP)
    attempt: Attempt | None = None
    siblings: Sequence[Attempt] = ()
    pair: Mapping[str, Attempt] | None = None
    memory: Sequence[str] = ()

    def variables(self, sees: Sequence[str]) -> dict[str, Any]:
        """What a template may name: parameters, payload, the secrets in ``sees``, and the conversation."""
        known: dict[str, Any] = dict(self.parameters)
        if self.task is not None:
            known |= self.task.payload
            known |= {name: self.task.secret[name] for name in sees if name in self.task.secret}
        if RUBRIC in sees:
            known[RUBRIC] = tuple(self.criteria)
        if OUTCOME in sees:
            known[OUTCOME] = self.outcome
        if SIBLINGS in sees:
            known |= {"attempt": self.attempt, SIBLINGS: tuple(self.siblings), "pair": self.pair}
        conversation = (
            dict(self.parameters),
            dict(self.said),
            self.last,
            tuple(self.heard),
            tuple(self.tools),
            self.nonce,
        )
        known |= dict(zip(WORDS, conversation, strict=True))
        return known | {SCAFFOLD: self.scaffold, "memory": tuple(self.memory)}


class Role:
    """Base of every role. Subclasses set ``contract``, ``default_prompt`` and ``parse``; the spec gives the rest.

    ``sealed_prompt`` is the default of a role that speaks through an engine of its own.
    """

    contract = "text"  # the ``Parsed.kind`` of what this role says
    default_prompt: str | None = None
    sealed_prompt: str | None = None

    def __init__(self, name: str, spec: RoleSpec, folder: Path | None = None) -> None:
        """``folder`` is where relative prompt paths start; raises ``ScenarioError`` when there is no prompt."""
        self.name = name
        self.spec = spec
        self.folder = folder
        own = self.sealed_prompt if spec.engine is not None else None
        prompt = spec.prompt or own or self.default_prompt
        if prompt is None:
            raise ScenarioError(f"role {name!r}: kind {spec.kind!r} has no prompt of its own; add prompt: to the role")
        self.prompt = load_prompt(prompt, folder)
        self._prompts: dict[str, Prompt] = {}

    @property
    def sees(self) -> tuple[str, ...]:
        """Names of secrets, ``rubric`` and ``outcome`` that this role may read."""
        return self.spec.sees

    def prompt_at(self, name: str | None) -> Prompt:
        """The role's prompt, or the one a node asks for; a bare name is looked up in the same set."""
        if name is None:
            return self.prompt
        if name not in self._prompts:  # read once: a run does not change its prompts midway
            self._prompts[name] = load_prompt(name, self.folder, beside=self.prompt)
        return self._prompts[name]

    def helping(self, prompt: Prompt) -> Prompt | None:
        """What shows help in place of ``prompt``: the scaffold's for the role's own, one that a node asks for itself.

        ``None`` where that one reads no help: another would ask something else than what the update reads.
        """
        if prompt is self.prompt:
            return self.prompt_at(None if self.spec.scaffold is None else self.spec.scaffold.prompt)
        return prompt if SCAFFOLD in prompt.variables else None

    def observe(self, view: View, prompt: Prompt | None = None) -> list[Message]:
        """The messages this role newly reads: its template (or ``prompt``) filled from what it may see."""
        return [Message("user", (prompt or self.prompt).render(view.variables(self.sees)))]

    def parse(self, text: str) -> Parsed:
        """What ``text`` means under this role's contract. Never raises."""
        raise NotImplementedError

    def understand(self, text: str, nonce: str, prompt: Prompt | None = None) -> Parsed:
        """What ``text`` means as the answer to a call with this ``nonce``.

        Where the prompt reads it, the last tags of that name count whose inside keeps the contract, and nothing else.
        """
        if NONCE not in (prompt or self.prompt).variables:
            return self.parse(text)
        found = [self.parse(one) for one in inside(text, nonce)]
        kept = next((one for one in found if one.ok), None)
        return kept or (found[0] if found else broken(self.parse("")))

    @property
    def refuses_empty(self) -> bool:
        """Whether answers without content are turned down before this role is asked."""
        asked = self.spec.refuse_empty
        return self.spec.engine is not None if asked is None else asked

    def turn_down(self, criteria: Sequence[str]) -> str | None:
        """What this role says of an answer without content, as it would say it; ``None`` for one that judges nothing.

        ``criteria`` are the rubric lines before it.
        """
        return None


def make_role(name: str, spec: RoleSpec, folder: Path | None = None) -> Role:
    """The registered role of ``spec.kind`` under ``name``; raises ``UnknownPart`` or ``ScenarioError``."""
    made: Role = roles.get(spec.kind)(name, spec, folder)
    return made


def check_sees(role: Role, disclosures: Sequence[str]) -> None:
    """Refuse a ``sees`` entry that the environment does not disclose; raises ``ScenarioError``."""
    help = role.spec.scaffold
    asked = [(name, (*disclosures, *SEEN)) for name in role.sees]
    for name, allowed in [*asked, *([] if help is None else [(help.shows, (*disclosures, RUBRIC))])]:
        if name not in allowed:
            hint = nearest(name, allowed)
            meant = f"did you mean {hint!r}? " if hint else ""
            raise ScenarioError(f"role {role.name!r} sees {name!r}, which is not disclosed; {meant}allowed: {allowed}")
