"""A user's own tasks, one JSON object per line: every line is read before a run starts, so no step meets a bad one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .problems import KeyPath, Problems, shown
from .schema import Scenario

SHOWN = 5  # bad lines told one by one; more are counted


def check_jsonl(scenario: Scenario, world: Any, problems: Problems) -> None:
    """Note a missing file, lines that are no JSON objects, and lines without a field the environment needs.

    The environment's ``row_fields`` name them with their types. Whether a row makes a task is seen when it is played.
    """
    at: KeyPath = ("tasks", "path")
    name = scenario.tasks.options.get("path") if scenario.tasks is not None else None
    if not isinstance(name, str):
        if name is not None or ("path" not in (scenario.tasks.options if scenario.tasks else {})):
            problems.add(at, "the file with one JSON object per line is needed, as text")
        return
    file = scenario.base / name
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        problems.add(at, f"{file} cannot be read: {error.strerror or error}; a path starts from the scenario's folder")
        return
    needed = dict(getattr(world, "row_fields", {}))
    wrong = [(number, what) for number, line in enumerate(lines, 1) if line.strip() and (what := _wrong(line, needed))]
    for number, what in wrong[:SHOWN]:
        problems.add_elsewhere(f"{file}:{number}", what)
    if len(wrong) > SHOWN:
        problems.add(at, f"{len(wrong)} lines of {file} are wrong; the first {SHOWN} are listed")
    if not any(line.strip() for line in lines):
        problems.add(at, f"{file} holds no task; one JSON object per line is needed")


def _wrong(line: bytes, needed: Mapping[str, type]) -> str:
    """What is wrong with one line, or nothing."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return f"found {shown(row)}; a JSON object is needed, as {{{', '.join(f'{shown(n)}: ...' for n in needed)}}}"
    absent = [name for name in needed if name not in row]
    if not absent:
        wrong = [name for name, kind in needed.items() if not isinstance(row[name], kind)]
        return f"the field {shown(wrong[0])} is {shown(row[wrong[0]])}; {_told(needed[wrong[0]])}" if wrong else ""
    return f"the field {shown(absent[0])} is missing; found: {', '.join(map(str, row)) or 'none'}"


def _told(kind: type) -> str:
    return "text is needed" if kind is str else f"{kind.__name__} is needed"
