"""How things are put on the screen: consoles, JSON, sparklines, and text from a model made harmless."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPED_WIDTH = 160  # columns, where no terminal says otherwise
BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {"teacher": "magenta", "solver": "cyan", "critic": "yellow", "rubric_writer": "green", "judge": "blue"}
OTHERS = ("bright_magenta", "bright_cyan", "bright_yellow", "bright_green", "bright_blue")
# Control characters but tab and newline, lone surrogates, and the marks that turn the direction of text around.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TAG = re.compile(r"</?[a-z_]{1,20}>")


def console() -> Console:
    """Standard output as it is now; plain where it is no terminal or NO_COLOR is set."""
    from rich.console import Console

    made = Console(highlight=False, markup=False, emoji=False)  # [a] and :a: in what others wrote are those characters
    if not made.is_terminal:
        made = Console(highlight=False, markup=False, emoji=False, width=PIPED_WIDTH)
    return made


def visible(text: str) -> str:
    """``text`` with every character that could move a cursor or hide something written out.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _UNSEEN.sub(lambda found: f"\\{'x' if ord(found[0]) < 256 else 'u'}{ord(found[0]):02x}", text)


def one_line(text: str, width: int = 60) -> str:
    """The beginning of ``text`` on one line."""
    flat = visible(" ⏎ ".join(text.strip().splitlines()))
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def spoken(text: str, style: str = "") -> Text:
    """What a role said: its words in ``style``, its tags set back."""
    from rich.text import Text

    shown = Text(visible(text), style=style)
    shown.highlight_regex(_TAG, "dim")
    return shown


def colour(author: str) -> str:
    """The style of a role's name; the same name always has the same."""
    if author == "environment":
        return "dim"
    return COLOURS.get(author) or OTHERS[sum(author.encode()) % len(OTHERS)]


def sparkline(values: Sequence[float | None], width: int = 24) -> str:
    """The newest ``width`` values as blocks between their lowest and highest; a gap for a missing one.

    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▅ █'
    """
    shown = values[-width:]
    known = [value for value in shown if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)

    def block(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return " "
        return BLOCKS[3] if span == 0 else BLOCKS[min(7, int((value - low) / span * 8))]

    return "".join(block(value) for value in shown)


def number(value: float | None, digits: int = 3) -> str:
    """A figure to read; an absent one is a dash, never a zero."""
    if value is None:
        return "-"
    if value != value or abs(value) == math.inf:
        return str(value)
    if value == int(value) and abs(value) >= 10:
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(40), duration(600), duration(7500)
    ('40 s', '10 min', '2 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns in ``right`` are numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def print_json(value: Any) -> None:
    """``value`` as JSON text; dataclasses are mappings, numbers that are not finite are null."""
    typer.echo(json.dumps(plain(value), indent=2))


def plain(value: Any) -> Any:
    """Lists, mappings with text keys, text, numbers, booleans and null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)
