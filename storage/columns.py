"""Column types: what codec.py does to a value on its way into a column and out of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Double, Integer, LargeBinary, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from sparring.envs.types import Span

from .codec import (
    escape,
    pack_advantages,
    pack_figures,
    pack_json,
    pack_logprobs,
    pack_tokens,
    unescape,
    unpack_figures,
    unpack_json,
    unpack_logprobs,
    unpack_tokens,
)

# SQLite's own is 64 bits wide already; PostgreSQL sorts by bytes, as SQLite does, whatever the database's language.
Whole = BigInteger().with_variant(Integer, "sqlite")
_Bytewise = Text().with_variant(Text(collation="C"), "postgresql")


class Words(TypeDecorator[str]):
    """Any Python str as TEXT (codec.escape)."""

    impl = _Bytewise
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the column."""
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """From the column."""
        return None if value is None else unescape(value)


class Real(TypeDecorator[float]):
    """A number as DOUBLE, NumPy's included, which the driver would not take.

    As SQLite keeps it: -0.0 is 0, and what is no number is NULL.
    """

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """To the column."""
        return None if value is None or value != value else float(value) + 0.0


class Json(TypeDecorator[Any]):
    """Any value as JSON TEXT (codec.pack_json)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """To the column; ``None`` is JSON ``null``."""
        return escape(pack_json(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From the column."""
        return None if value is None else unpack_json(unescape(value))


class Spans(TypeDecorator[tuple[Span, ...]]):
    """Which policy sampled which tokens, as JSON TEXT ``[[version, start, end], ...]``; none is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Span, ...] | None, dialect: Dialect) -> str | None:
        """To the column."""
        return pack_json([[span.version, span.start, span.end] for span in value]) if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Span, ...]:
        """From the column."""
        return tuple(Span(*span) for span in unpack_json(value) or ()) if value else ()


class Figures(TypeDecorator[dict[str, float | None]]):
    """Metrics as JSON TEXT (codec.pack_figures)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """To the column."""
        return escape(pack_figures(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, float | None]:
        """From the column."""
        return {} if value is None else unpack_figures(unescape(value))


class Tokens(TypeDecorator[tuple[int, ...]]):
    """Token ids as a blob (codec.pack_tokens); no tokens is NULL. What is packed already stays as it is."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | bytes | None, dialect: Dialect) -> bytes | None:
        """To the column."""
        return value if isinstance(value, bytes) else pack_tokens(value or ())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> tuple[int, ...]:
        """From the column."""
        return unpack_tokens(value)


class Logprobs(TypeDecorator[tuple[float, ...]]):
    """Log-probs as a blob (codec.pack_logprobs); none is NULL. What is packed already stays as it is."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[float, ...] | bytes | None, dialect: Dialect) -> bytes | None:
        """To the column."""
        return value if isinstance(value, bytes) else pack_logprobs(value or ())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> tuple[float, ...]:
        """From the column."""
        return unpack_logprobs(value)


class TokenAdvantages(Logprobs):
    """Per-token advantages as a blob (codec.pack_advantages); none is NULL."""

    cache_ok = True

    def process_bind_param(self, value: tuple[float, ...] | bytes | None, dialect: Dialect) -> bytes | None:
        """To the column."""
        return value if isinstance(value, bytes) else pack_advantages(value or ())
