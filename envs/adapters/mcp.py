"""Tools of any MCP server: questions are answered with calls to it, over standard input or streamable HTTP."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparring.envs.toolbox import ANSWER, CALL, ToolEnvironment, ToolOptions
from sparring.envs.tools import Tool, ToolRefused
from sparring.envs.types import Score, Task
from sparring.scenarios.errors import MissingExtra, ScenarioError
from sparring.scenarios.registry import environments

from .globals import need
from .mcp_link import Link, Listed, ServerFailed, Where, shared

_BY = "mcp"


class Question(BaseModel):
    """``question`` and its ``answer``, or a list of answers that are all right."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    question: str = Field(min_length=1)
    answer: str | tuple[str, ...]


class McpOptions(ToolOptions):
    """``command``: how to start the server (``python`` is the one that runs Sparring); or ``url`` of one that runs.
    ``environment``: variables for the command, which gets no others but the usual few. ``use``: names of tools to
    offer; left out, all. ``questions``: tasks in the scenario itself; a file of them goes into ``tasks:``. ``start_s``
    and ``timeout_s``: seconds for the server to be there and for one call. ``restarts``: times in a row a failed server
    is started again. ``stateful``: calls change the server, so every episode gets a new one; others share one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: tuple[str, ...] = ()
    url: str | None = None
    environment: Mapping[str, str] = {}
    use: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    start_s: float = Field(30.0, gt=0)
    timeout_s: float = Field(20.0, gt=0)
    restarts: int = Field(2, ge=0)
    stateful: bool = False

    @model_validator(mode="after")
    def _one_server(self) -> McpOptions:
        if bool(self.command) == bool(self.url):
            raise ValueError("name the server's command or its url, one of them")
        if self.url and self.stateful:
            raise ValueError("stateful needs a command: a server behind a url cannot be started anew")
        return self


@dataclass(frozen=True)
class ForeignTool(Tool):
    """A tool whose arguments are checked against its server's own JSON Schema."""

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Check and call; ``ToolRefused`` names the argument at fault."""
        if not isinstance(arguments, Mapping):
            raise ToolRefused(f"{self.name}: arguments must be an object, got {type(arguments).__name__}")
        checker = need("jsonschema", "mcp")
        fault = next(iter(checker.Draft202012Validator(dict(self.schema)).iter_errors(dict(arguments))), None)
        if fault is not None:
            where = ".".join(str(part) for part in fault.path)
            raise ToolRefused(f"{self.name}: {where + ': ' if where else ''}{fault.message}"[:300])
        return self.function(arguments)


@environments("mcp")
class McpEnvironment(ToolEnvironment):
    """Questions answered with the tools of an MCP server."""

    Config = McpOptions
    disclosures = ("answer",)
    row_fields = {"question": str, "answer": object}  # noqa: RUF012 - the base declares the ClassVar
    examples = (
        {
            "command": ("python", "-m", "sparring.envs.adapters.mcp_shop"),
            "questions": (
                {"question": "What do an apple and a pear cost together, in pence?", "answer": "75"},
                {"question": "What do ten plums cost, in pence?", "answer": "120"},
                {"question": "What do two melons cost, in pence?", "answer": "420"},
                {"question": "Which fruit is cheapest?", "answer": ["plum", "plums", "the plum"]},
            ),
        },
    )

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """The server is started when its tools are first asked for."""
        super().__init__(config)
        if importlib.util.find_spec("mcp") is None:
            raise MissingExtra("environment 'mcp': pip install 'sparring[mcp]'")
        options = self.config
        variables = tuple(sorted(options.environment.items()))
        where = Where(options.command, options.url, variables, options.start_s, options.timeout_s, options.restarts)
        self._link = Link(where) if options.stateful else shared(where)
        self._tools: tuple[Tool, ...] | None = None

    def toolbox(self) -> Sequence[Tool]:
        """What the server offers, asked once; raises ``ScenarioError`` when there is no server."""
        if self._tools is None:
            try:
                listed = self._link.tools()
            except ServerFailed as error:
                asked = self.config.url or " ".join(self.config.command)
                raise ScenarioError(f"environment mcp: {asked}: {error}; does it run by itself?") from None
            self._tools = tuple(self._tool(one) for one in self._offered(listed))
        return self._tools

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """One of the scenario's questions."""
        questions = self.config.questions
        if not questions:
            raise ScenarioError(
                "environment mcp: no questions; write questions: here, or tasks: {kind: jsonl, path: ...}"
            )
        drawn = questions[int(rng.integers(len(questions)))]
        return self._task(drawn.question, drawn.answer, "generator")

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """A row with ``question`` and ``answer``, text or a list of texts."""
        answer = row["answer"]
        answers = [answer] if isinstance(answer, str | int | float) else answer
        if not isinstance(answers, list) or not answers or not str(row["question"]).strip():
            raise ScenarioError(f"{where}: a row has a question and an answer, text or a list of texts")
        return self._task(str(row["question"]), [str(one) for one in answers], where)

    def begin(self, task: Task) -> str:
        """The question."""
        if self.config.stateful:
            self._link.close()
        return str(task.payload["question"])

    def judge(self, answer: str) -> Sequence[Score]:
        """Right when it is one of the answers; when wrong after the server failed, nobody knows."""
        assert self.task is not None, "reset first"
        right = any(_same(answer, known) for known in self.task.secret["answer"])
        if not right and self.failed:
            return self.unanswered("")
        return (Score.valued("verifier", right, _BY, "right" if right else "wrong"),)

    def unanswered(self, why: str) -> Sequence[Score]:
        """0, unless the server failed on the way."""
        if self.failed:
            return (Score.invalid("verifier", _BY, f"the server failed {self.failed} times in this episode"),)
        return super().unanswered(why)

    def oracle(self) -> str | None:
        """The answer at once."""
        assert self.task is not None, "reset first"
        return f"<answer>{self.task.secret['answer'][0]}</answer>"

    def state(self) -> object:
        """A server's state cannot be kept: then branches play their calls again."""
        return NotImplemented if self.config.stateful else super().state()

    def close(self) -> None:
        """End a server of its own; one that is shared ends with Python."""
        if self.config.stateful:
            self._link.close()

    def _task(self, question: str, answer: str | Sequence[str], origin: str) -> Task:
        answers = [answer] if isinstance(answer, str) else list(answer)
        return Task(_BY, {"question": question}, {"answer": answers}, {}, (_BY,), origin)

    def _offered(self, listed: Sequence[Listed]) -> list[Listed]:
        names = [one.name for one in listed]
        missing = [name for name in self.config.use if name not in names]
        if missing:
            raise ScenarioError(f"environment mcp: no tool {', '.join(missing)}; the server has {', '.join(names)}")
        offered = [one for one in listed if not self.config.use or one.name in self.config.use]
        taken = [one.name for one in offered if one.name in (ANSWER, CALL)]
        if taken or not offered:
            why = (
                f"a tool is called {taken[0]!r}, which means something else here"
                if taken
                else "the server has no tools"
            )
            raise ScenarioError(f"environment mcp: {why}; name others under use:")
        return offered

    def _tool(self, one: Listed) -> Tool:
        def run(arguments: Mapping[str, Any]) -> str:
            return self._link.call(one.name, arguments)

        return ForeignTool(one.name, one.description, one.schema, run, BaseModel)


def _same(said: str, known: str) -> bool:
    """Equal words without case, outer marks and spare spaces, or equal numbers."""
    first, second = (" ".join(text.casefold().strip(" .!\"'\n").split()) for text in (said, known))
    if first == second:
        return bool(second)
    try:
        return math.isclose(float(first), float(second), rel_tol=1e-9)
    except ValueError:
        return False
