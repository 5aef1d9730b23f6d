"""A role that plays the search engine, useful or noisy by a draw.

Source: ZeroSearch, arXiv 2505.04588.
"""

from __future__ import annotations

from numpy.random import Generator

from .words import LONGEST_QUERY

SOLVER, ENGINE = "solver", "engine"
USEFUL, NOISY = "useful", "noisy"


class Simulated:
    """The engine's seat in one episode: ``asked`` is the query that waits for an answer, empty when none does."""

    def __init__(self, noise: float = 0.0, asked: str = "", kind: str = USEFUL) -> None:
        self.noise = noise
        self.asked = asked
        self.kind = kind

    def ask(self, query: str, rng: Generator) -> str:
        """Put a query to the engine; what it reads: whether its documents shall be useful or noisy, and the query."""
        self.kind = NOISY if rng.random() < self.noise else USEFUL
        self.asked = query[:LONGEST_QUERY].strip()
        return f"{self.kind}\n{self.asked}"

    def answer(self, words: str) -> str:
        """What the searcher reads of what the engine said."""
        self.asked = ""
        return words.strip() or "no results"

    def oracle(self, question: str, answer: str) -> str:
        """What a good engine says: the fact when it is to be useful, something beside the point when noisy."""
        return f"{question} {answer}" if self.kind == USEFUL else "Nothing here is about that."

    def state(self) -> tuple[float, str, str]:
        """The three numbers and texts that make it."""
        return self.noise, self.asked, self.kind
