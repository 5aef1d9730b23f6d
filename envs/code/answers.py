"""Reading what a solver or teacher said: the last ``<answer>`` tag, the program within code fences. Never raises."""

from __future__ import annotations

import re

from sparring.envs.types import Parsed

_OPEN, _CLOSE = "<answer>", "</answer>"
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def parse(text: str) -> Parsed:
    """The stripped text within the last ``<answer>`` tag, as ``Parsed(kind="answer")``; ``problem`` if missing.

    >>> parse("<think>a=7</think><answer> 12 </answer>").value
    '12'
    """
    start = text.rfind(_OPEN)
    if start < 0:
        return Parsed("answer", None, "no answer")
    start += len(_OPEN)
    end = text.find(_CLOSE, start)
    if end < 0:
        return Parsed("answer", None, "no answer: the last <answer> tag is not closed")
    value = text[start:end].strip()
    return Parsed("answer", value) if value else Parsed("answer", None, "no answer: the last <answer> tag is empty")


def strip_fences(text: str) -> str:
    """The first fenced block's content if there is one, else the text; without blank lines around it.

    >>> strip_fences("Sure!\\n```python\\na=1\\nprint(a)\\n```\\nDone.")
    'a=1\\nprint(a)'
    """
    fenced = _FENCE.search(text)
    program = fenced.group(1) if fenced else text
    lines = program.replace("\r\n", "\n").rstrip().split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    return "\n".join(lines)


def code_of(text: str) -> Parsed:
    """The program within the last ``<answer>`` tag, its indentation kept, fences taken off.

    >>> code_of("<answer>\\n    return x\\n</answer>").value
    '    return x'
    """
    parsed = parse(text)
    if not parsed.ok:
        return parsed
    start = text.rfind(_OPEN) + len(_OPEN)
    return Parsed("answer", strip_fences(text[start : text.find(_CLOSE, start)]))
