"""Prompt templates: where they are found, which variables they read, how they are rendered. The texts are ``prompts/``.

A template is ours or the user's, so it is code; what fills it is model text, so it is only ever data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.registry import nearest

FOLDER = Path(__file__).parent / "prompts"
SUFFIX = ".md"

_JINJA = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


def fence(text: object, nonce: str = "") -> str:
    """``text`` between two lines of equals signs, longer than any run of them inside: it cannot close its own fence.

    With a ``nonce`` both lines end in it.

    >>> print(fence("a\\n" + "=" * 10))
    ===========
    a
    ==========
    ===========
    """
    inner = str(text)
    longest = max((len(run) for run in re.findall("=+", inner)), default=0)
    bar = "=" * max(10, longest + 1) + (f" {nonce}" if nonce else "")
    return f"{bar}\n{inner}\n{bar}"


_JINJA.filters["fence"] = fence


@dataclass(frozen=True, eq=False)
class Prompt:
    """One template. ``variables`` are the top-level names it reads; ``path`` is its file."""

    name: str
    path: Path
    text: str
    template: Template
    variables: frozenset[str]

    def render(self, variables: Mapping[str, Any]) -> str:
        """The filled text; ``ScenarioError`` names the first variable that is not there and those that are."""
        try:
            return self.template.render(variables)
        except UndefinedError as error:
            there = ", ".join(sorted(variables))
            raise ScenarioError(f"prompt {self.name!r} ({self.path}): {error}; this role can read: {there}") from error


def load_prompt(name: str, folder: Path | None = None, beside: Prompt | None = None) -> Prompt:
    """The template called ``set/name`` (ours), ``name`` (in the folder of ``beside``) or ``path.md`` (from ``folder``).

    Raises ``ScenarioError`` for a file that is absent or is no template.
    """
    path = _locate(name, folder or Path.cwd(), beside)
    try:
        return _read(name, path)
    except FileNotFoundError:
        hint = nearest(name, names()) if not name.endswith(SUFFIX) else None
        meant = f"; did you mean {hint!r}?" if hint else f"; a path ends in {SUFFIX}; ours: {', '.join(names())}"
        raise ScenarioError(f"no prompt {name!r}: {path} is not there{meant}") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"prompt {path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except TemplateSyntaxError as error:
        raise ScenarioError(f"prompt {path}, line {error.lineno}: {error.message}; it must be jinja2") from error


def names() -> list[str]:
    """Every prompt we ship, as ``set/name``."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob(f"*/*{SUFFIX}"))


def _locate(name: str, folder: Path, beside: Prompt | None) -> Path:
    if name.endswith(SUFFIX):
        return (folder / name).resolve()
    if "/" not in name and beside is not None:
        return beside.path.parent / f"{name}{SUFFIX}"
    return FOLDER / f"{name}{SUFFIX}"


@lru_cache(maxsize=256)
def _compiled(name: str, path: Path, text: str) -> Prompt:
    variables = meta.find_undeclared_variables(_JINJA.parse(text))
    return Prompt(name, path, text, _JINJA.from_string(text), frozenset(variables))


def _read(name: str, path: Path) -> Prompt:
    return _compiled(name, path, path.read_text(encoding="utf-8"))
