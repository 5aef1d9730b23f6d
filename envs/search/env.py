"""The search environment: find the answer with ``search`` and ``open``, then give it in ``<answer>``.

Where results come from is one key; what is asked comes from masked documents or a file; the answer is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparring.envs.toolbox import ToolEnvironment, ToolOptions
from sparring.envs.tools import Tool, ToolRefused, tool
from sparring.envs.types import Score, Task, digest
from sparring.scenarios.errors import ContractBroken, ScenarioError
from sparring.scenarios.registry import environments

from .answers import BY, holds, judged, marked, read_answers
from .engines import HttpOptions, IndexEngine, SearchEngine, http_engine
from .fiction import Fiction
from .index import Way
from .masking import HOPS, KINDS, clue
from .pool import Wanted, fiction_of, pool_of
from .pydoc import open_corpus
from .shown import opened, results
from .simulated import ENGINE, NOISY, SOLVER, Simulated

MOST = 20  # documents one search may show


class SearchOptions(ToolOptions):
    """``path``: an index folder; absent: the documentation of this Python. ``backend``: what answers a search.

    ``http``: the server, for that backend. ``noise``: with ``simulated``, the least share of searches answered with
    useless documents, which may follow a schedule; a task's parameter ``noise`` may raise it. ``k``: documents of a
    search that names no number. ``snippet``: characters shown of each. ``scoring``: how answers are compared.
    ``query_words``: words of the question that the demonstrations search for. ``question_words``: where masked
    sentences are cut; ``longest_question``, ``longest_answer``: characters of those that are asked. ``fictional``:
    names are replaced by others, invented anew for each task, so that knowing the library does not help.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path | None = None
    backend: Literal["bm25", "dense", "hybrid", "http", "simulated"] = "bm25"
    http: HttpOptions | None = None
    noise: float = Field(0.0, ge=0, le=1)
    k: int = Field(3, ge=1, le=MOST)
    snippet: int = Field(200, ge=1)
    scoring: Literal["exact", "f1", "nuggets"] = "exact"
    query_words: int = Field(12, ge=1)
    question_words: int = Field(80, ge=2)
    longest_question: int = Field(400, ge=10)
    longest_answer: int = Field(60, ge=1)
    fictional: bool = False

    @model_validator(mode="after")
    def _server(self) -> SearchOptions:
        if (self.backend == "http") != (self.http is not None):
            raise ValueError("backend: http and http: {url: ...} belong together")
        return self


@environments("search")
class SearchEnvironment(ToolEnvironment):
    """Find the answer in documents.

    The verifier is invalid, not 0, in an episode in which the engine itself failed. With backend ``simulated`` the role
    ``engine`` writes what a search finds (ZeroSearch, arXiv 2505.04588). With the other backends nobody is asked to, so
    one graph serves all of them. Scores beside the verifier's: tool ``calls`` of an episode, on its last turn, and on
    every turn that asks a simulated engine ``noisy``, 1 where it shall be useless.
    """

    Config = SearchOptions
    parameters: ClassVar = {"kind": KINDS, "hops": HOPS, "noise": tuple(n / 20 for n in range(21))}
    disclosures = ("reference", "document", "documents", "nuggets")
    scores = ("calls", "noisy")
    seats: ClassVar[tuple[str, ...]] = (SOLVER, ENGINE)
    row_fields: ClassVar = {"question": str}
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"scoring": "f1", "fictional": True},
        {"scoring": "nuggets", "backend": "simulated"},
    )

    def __init__(self, config: BaseModel | Mapping[str, Any] | None = None) -> None:
        """Nothing is opened before it is needed."""
        super().__init__(config)
        self.found: SearchEngine | None = None
        self.fiction = Fiction({})
        self.simulated = Simulated() if self.config.backend == "simulated" else None
        self._toolbox = self._make_tools()

    @property
    def engine(self) -> SearchEngine:
        """What answers a search; opened when first asked. With ``simulated`` it only serves the questions."""
        if self.found is None:
            if self.config.backend == "http":
                self.found = http_engine(self.config.http)
            else:
                way: Way = "bm25" if self.config.backend == "simulated" else self.config.backend
                self.found = IndexEngine(open_corpus(self.config.path), way)
        return self.found

    def sample(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A masked question of ``kind`` and ``hops`` that the engine can answer; ``split``: ``train`` or ``held_out``.

        Raises ``ScenarioError`` when the corpus gives none that fits the options.
        """
        asked = dict(parameters)
        wanted = Wanted(
            kind=str(asked.get("kind", KINDS[0])),
            hops=int(asked.get("hops", 1)),
            held_out=asked.pop("split", "train") == "held_out",
            options=self.config,
        )
        if not isinstance(self.engine, IndexEngine):
            raise ScenarioError("masked questions need an index; with backend: http, name a file of questions (tasks:)")
        return pool_of(self.engine, wanted).draw(rng, asked)

    def held_out(self, parameters: Mapping[str, Any], rng: Generator) -> Task:
        """A question about a document that no training question is about."""
        return super().held_out({**parameters, "split": "held_out"}, rng)

    def task_from_row(self, row: Mapping[str, Any], where: str) -> Task:
        """``question`` with ``answer`` or ``nuggets``; ``query``, ``document`` help demonstrations; rest: payload."""
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ScenarioError(f"{where}: field 'question' must be text, got {question!r:.60}")
        secret = read_answers(row, where)
        if self.config.scoring != "nuggets" and not secret["answers"]:
            raise ScenarioError(f"{where}: no answer to compare with; give one, or write scoring: nuggets")
        secret |= {name: str(row[name]) for name in ("query", "document") if name in row}
        if "documents" in row:
            secret["documents"] = row["documents"]
        hidden = {"answer", "nuggets", "query", "document", "documents", *self.parameters}
        payload = {name: value for name, value in row.items() if name not in hidden}
        known = {name: row[name] for name in self.parameters if name in row}
        # invented facts give one question many answers, and each is a task of its own
        key = digest(["search", payload, secret["documents"]]) if "documents" in secret else ""
        return Task("search", payload, secret, known, ("search",), where, key=key)

    def begin(self, task: Task) -> str:
        """The question."""
        self.fiction = fiction_of(task) if self.config.fictional else Fiction({})
        if self.simulated is not None:
            share = max(self.config.noise, float(task.parameters.get("noise", 0.0)))
            self.simulated = Simulated(share)
        return str(task.payload["question"])

    def toolbox(self) -> Sequence[Tool]:
        """``search`` and ``open``; with ``simulated``, whose documents have no ids, ``search`` alone."""
        return self._toolbox

    def _make_tools(self) -> tuple[Tool, ...]:
        def search(query: str, k: int = self.config.k) -> str:
            """Find documents."""
            if not 1 <= k <= MOST:
                raise ToolRefused(f"search: k must be from 1 to {MOST}, got {k}")
            if not query.strip():
                raise ToolRefused("search: the query is empty")
            if self.simulated is not None:
                return self.simulated.ask(query, self.np_random)
            real = self.fiction.reveal(query)
            return self.fiction.hide(results(self.engine.search(real, k), real, self.config.snippet))

        def open(id: str) -> str:
            """Read a document that was found."""
            document = self.engine.document(self.fiction.reveal(id.strip()))
            if document is None:
                raise ToolRefused(f"open: no document {id.strip()[:60]!r}; search shows ids")
            return self.fiction.hide(opened(document))

        return (tool(search),) if self.simulated is not None else (tool(search), tool(open))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """As in every tool environment; while a simulated engine is asked, the action is what it finds."""
        if self.simulated is not None and self.simulated.asked:
            found = self.simulated.answer(action)[: self.config.max_result]
            self.results[-1] = found
            return found, 0.0, False, False, {"scores": {SOLVER: []}}
        said, reward, over, cut, info = super().step(action)
        scores = [*info["scores"], *self._figures(over)]
        return said, reward, over, cut, info | {"scores": scores if self.simulated is None else {SOLVER: scores}}

    def _figures(self, over: bool) -> Sequence[Score]:
        """How many calls were made, at the end; of a query that waits, whether its documents shall be useless."""
        if over:
            return (Score.valued("calls", float(self.calls), BY),)
        if self.simulated is None or not self.simulated.asked:
            return ()
        return (Score.valued("noisy", float(self.simulated.kind == NOISY), BY, self.simulated.kind),)

    @property
    def addressee(self) -> str | None:
        """The engine while it is asked, where somebody plays it; else whoever searches."""
        return ENGINE if self.simulated is not None and self.simulated.asked else SOLVER

    @property
    def stamp(self) -> str:
        """What answered: ``search bm25``."""
        return f"search {self.config.backend}"

    def judge(self, answer: str) -> Sequence[Score]:
        """Compare with the task's answers, or mark its nuggets."""
        assert self.task is not None, "reset first"
        if self.failed:
            return self._broken()
        if self.config.scoring == "nuggets":
            return (marked(answer, self.task.secret["nuggets"]),)
        return judged(answer, self.task.secret["answers"], self.config.scoring)

    def unanswered(self, why: str) -> Sequence[Score]:
        """0, or invalid where the engine failed."""
        return self._broken() if self.failed else (Score.valued("verifier", 0.0, BY, why),)

    def _broken(self) -> Sequence[Score]:
        return (Score.invalid("verifier", BY, f"the engine failed {self.failed} times in this episode"),)

    def oracle(self) -> str | None:
        """Search, again where a simulated engine was no use; open what has the answer where results hide it; answer."""
        if self.task is None:
            return None
        secret = self.task.secret
        answer = self._full_answer()
        if self.simulated is not None and self.simulated.asked:
            return self.simulated.oracle(str(self.task.payload["question"]), answer)
        seen = any(holds(text, answer) for text in self.results)
        document = secret.get("document")
        if self.calls < self.config.max_calls and not seen:
            if self.calls == 0 or self.simulated is not None:
                query = secret.get("query") or clue(str(self.task.payload["question"]), self.config.query_words)
                return f"<search>{query}</search>"
            if document is not None and self.calls == 1 and self.simulated is None:
                return f"<open>{self.fiction.hide(document)}</open>"
        return f"<answer>{answer}</answer>"

    def _full_answer(self) -> str:
        assert self.task is not None, "reset first"
        if self.config.scoring == "nuggets":
            return "; ".join(one["text"] for one in self.task.secret["nuggets"])
        return str(self.task.secret["answers"][0])

    def state(self) -> object:
        """What the tools keep, and the engine's turn."""
        return super().state(), None if self.simulated is None else self.simulated.state()

    def set_state(self, state: Any) -> None:
        """Back to that; the invented names follow from the task."""
        if not (isinstance(state, tuple) and len(state) == 2):
            raise ContractBroken(f"{type(self).__name__}.set_state takes what state() returned, got {state!r:.60}")
        tools, seat = state
        super().set_state(tools)
        self.simulated = None if seat is None else Simulated(*seat)
        assert self.task is not None, "restore sets the task first"
        self.fiction = fiction_of(self.task) if self.config.fictional else Fiction({})
