"""How numbers, times and sizes are written on a page. What is absent is a dash."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unicodedata import category

ABSENT = "\u2013"  # a dash as wide as a figure
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode categories without a shape of their own
AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: float | None) -> str:
    """Four significant digits at most.

    >>> number(0.91666), number(3759.0), number(1.2e-06), number(None) == ABSENT
    ('0.9167', '3,759', '1.2e-06', True)
    """
    if value is None:
        return ABSENT
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def count(value: float | None) -> str:
    """A whole number, short where it is long.

    >>> count(950), count(43_512), count(2_300_000)
    ('950', '43,512', '2.3 M')
    """
    if value is None:
        return ABSENT
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A length of time.

    >>> seconds(0.34), seconds(75), seconds(7300)
    ('0.34 s', '1 min 15 s', '2 h 1 min')
    """
    if value is None:
        return ABSENT
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    if value < 3_600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3_600)} h {int(value % 3_600 // 60)} min"


def ago(at: str | None, now: datetime | None = None) -> str:
    """How long ago a stored time is; the clock of a machine that is behind gives ``now``.

    >>> ago("2026-01-01T00:00:00Z", datetime(2026, 1, 1, 0, 3, tzinfo=UTC))
    '3 min ago'
    """
    if not at:
        return ABSENT
    try:
        then = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        return at
    past = ((now or datetime.now(UTC)) - then).total_seconds()
    return next((f"{int(past // size)} {unit} ago" for size, unit in AGES if past >= size), "now")


def percent(value: float | None) -> str:
    """A share.

    >>> percent(0.916), percent(0.5)
    ('91.6 %', '50 %')
    """
    return ABSENT if value is None else f"{100 * value:.3g} %"


def size(value: float | None) -> str:
    """Bytes.

    >>> size(1_740_800)
    '1.7 MB'
    """
    if value is None:
        return ABSENT
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.2g} {unit}" if value < 10 * limit else f"{value / limit:.0f} {unit}"
    return f"{value:.0f} B"


def settings(value: Any) -> str:
    """A small mapping on one line: ``depth=2``."""
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(f"{name}={one if isinstance(one, str) else json.dumps(one)}" for name, one in value.items())


def pretty(value: Any) -> str:
    """JSON over several lines."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def signed(value: float | None) -> str:
    """A number that says its direction.

    >>> signed(0.38), signed(-2.0), signed(0)
    ('+0.38', '-2', '0')
    """
    return ABSENT if value is None else f"+{number(value)}" if value > 0 else number(value)


def visible(text: str) -> str:
    """Text with what no reader would see written out: control characters, marks that turn text, lone surrogates.

    >>> visible("a" + chr(27) + "b")
    'a\\\\x1bb'
    """
    return "".join(one if one in "\n\t" or category(one) not in HIDDEN else _escape(one) for one in text)


def _escape(one: str) -> str:
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


FILTERS: dict[str, Callable[..., str]] = {
    "number": number,
    "count": count,
    "seconds": seconds,
    "ago": ago,
    "percent": percent,
    "size": size,
    "settings": settings,
    "pretty": pretty,
    "signed": signed,
    "visible": visible,
}
