"""A function that a role proposes: looked at from outside as text, run inside the sandbox, told as calls and values."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from ..answers import strip_fences
from ..outcome import Limits, Outcome
from ..same import same
from .base import Desk, Refused, on_held_out_side, read_value, refusal_of
from .expressions import INPUTS

_INPUT = re.compile(r"(?m)^#[ \t]*input:[ \t]*(\[[^\n]*\])[ \t]*$")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Examined:
    """``source`` without the lines of inputs, ``signature`` like ``f(x)``, and what each call returned."""

    source: str
    signature: str
    calls: tuple[tuple[Any, ...], ...]
    values: tuple[Any, ...]
    on_numbers: bool


def examine(desk: Desk, text: str, rng: Generator, wanted: int, entry: str) -> Examined:
    """Run the proposed function on its inputs, or on ``wanted`` of ``INPUTS``. Raises ``Refused``."""
    program = strip_fences(text)
    desk.check_text(program)
    calls = _inputs(program)
    source = _INPUT.sub("", program).strip("\n")
    signature = signature_of(source, entry)
    if signature is None:
        if "\n" in source.strip():
            raise Refused("no_function", f"it defines no {entry}(...), and is no expression")
        source, signature = f"def {entry}(x):\n    return {source.strip()}", f"{entry}(x)"
    on_numbers = not calls
    if on_numbers:
        drawn = rng.choice(len(INPUTS), size=min(wanted, len(INPUTS)), replace=False)
        calls = [(int(value),) for value in drawn]
    if len(calls) < wanted:
        raise Refused("input", f"{len(calls)} different inputs, {wanted} are needed")
    values = _repeated(desk, source, entry, calls[:wanted])
    if all(same(values[0], value) for value in values):
        raise Refused("insensitive", "it returns the same for every input")
    return Examined(source, signature, tuple(calls[:wanted]), tuple(values), on_numbers)


def returned(desk: Desk, source: str, entry: str, calls: Sequence[Sequence[Any]], variant: int = 0) -> list[Any]:
    """What the function gives for each call. Raises ``Refused`` for anything but short plain values."""
    options, limits = desk.options, desk.limits
    limits = Limits(limits.wall_s, limits.cpu_s, limits.memory_mb)
    values = []
    with desk.sandbox().open(source, limits=limits, variant=variant) as live:
        if live.started.outcome is not Outcome.OK:
            syntax = "SyntaxError" in live.started.stderr_tail or "IndentationError" in live.started.stderr_tail
            raise refusal_of(live.started.outcome, live.started.stderr_tail, syntax)
        for arguments in calls:
            reply = live.call(entry, list(arguments))
            if reply.outcome is not Outcome.OK:
                raise refusal_of(reply.outcome, reply.stderr_tail)
            if len(repr(reply.value)) > options.max_output:
                raise Refused("output", f"it returns more than {options.max_output} characters")
            values.append(_writable(reply.value))
    return values


def _writable(value: Any) -> Any:
    """The value, if its ``repr`` reads back as the same: tests are kept as text. It is plain and short by now."""
    try:
        if same(value, literal_eval(repr(value))):
            return value
    except ValueError:
        pass
    raise Refused("output", f"{value!r:.60} cannot be written in a test")


def _repeated(desk: Desk, source: str, entry: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
    values = returned(desk, source, entry, calls)
    again = returned(desk, source, entry, calls, variant=1)
    # the text, too: a set may be the same and be written in another order
    if not same(values, again) or repr(values) != repr(again):
        raise Refused("nondeterministic", "two runs returned different values")
    return values


def refuse_held_out(desk: Desk, seen: Examined) -> None:
    """Refuse a function of one number that the generator keeps for evaluation, however it is written."""
    if not seen.on_numbers:
        return
    values = tuple(returned(desk, seen.source, seen.signature.partition("(")[0], [(value,) for value in INPUTS]))
    if all(type(value) is int for value in values) and on_held_out_side(str(values)):
        raise Refused("held_out", "the function belongs to the evaluation's half")


def signature_of(source: str, entry: str) -> str | None:
    """``f(x, y)`` of the first ``def f(x: int, y=2)`` in a text; ``None`` if there is none on one line.

    >>> signature_of("def f(x: int, y=2) -> int:\\n    return x", "f")
    'f(x, y)'
    """
    found = re.search(rf"(?m)^def[ \t]+{re.escape(entry)}[ \t]*\(([^)\n]*)\)", source)
    if found is None:
        return None
    names = (_NAME.match(part.strip()) for part in found[1].split(","))
    return f"{entry}({', '.join(name[0] for name in names if name)})"


def as_test(entry: str, arguments: Sequence[Any], value: Any) -> str:
    """A test as it is stored: ``f(2) == 5``."""
    return f"{entry}({', '.join(map(repr, arguments))}) == {value!r}"


def _inputs(program: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for written in _INPUT.findall(program):
        try:
            value = read_value(written)
        except ValueError as error:
            raise Refused("input", f"{written[:60]} is no list in JSON: {error}") from None
        if not any(same(tuple(value), other) for other in found):
            found.append(tuple(value))
    return found
