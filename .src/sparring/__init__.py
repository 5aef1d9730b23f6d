"""Sparring: one language model plays teacher, solver, critic and rubric-writer against itself, and learns."""

__version__ = "0.1.0"
