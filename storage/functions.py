"""What Sparring's own connections can compute in SQL beyond SQLite's functions. Other programs do not have them."""

from __future__ import annotations

import json
import math
import sqlite3

from sparring.scenarios.errors import StoreError

from .codec import unpack_tokens


def add_functions(connection: sqlite3.Connection) -> None:
    """Register ``sparring_tokens``."""
    connection.create_function("sparring_tokens", 1, _tokens, deterministic=True)


def _tokens(blob: bytes | None) -> str | None:
    """A blob of token ids, log-probs or token advantages as a JSON list, which ``json_each`` takes apart.

    A number that is not finite (an unknown log-prob is NaN) is null. NULL, no tokens, stays NULL. Raises
    ``StoreError``, which SQLite turns into an error of its own, on anything that is no such blob.
    """
    if blob is None:
        return None
    if not isinstance(blob, bytes):
        raise StoreError("sparring_tokens takes a blob")
    return json.dumps([number if math.isfinite(number) else None for number in unpack_tokens(blob)])


# The same on a PostgreSQL server, where every program has them. Each ends with what Python prints: 1.0, 1e-05.
SERVER_FUNCTIONS = {
    "sparring_round": """
CREATE FUNCTION sparring_round(number double precision, places int) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT round(number::numeric, places)::double precision $$
""",
    "sparring_figure": """
CREATE FUNCTION sparring_figure(number double precision) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT CASE WHEN number::text ~ '^-?[0-9]+$' THEN number::text || '.0' ELSE number::text END
$$
""",
    # as SQLite's, but always text: '{"loss": 0.5}', '$.loss' gives '0.5'
    "json_extract": """
CREATE FUNCTION json_extract(document text, path text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT jsonb_path_query_first(document::jsonb, path::jsonpath) #>> '{}'
$$
""",
    # codec.py tells the format; a float is its sign, its fraction and a power of two, each exact
    "sparring_tokens": """
CREATE FUNCTION sparring_tokens(blob bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  kind int := CASE WHEN length(blob) > 0 THEN get_byte(blob, 0) ELSE 0 END;
  width int := CASE kind WHEN 17 THEN 1 WHEN 18 THEN 2 WHEN 19 THEN 3 WHEN 20 THEN 4 WHEN 21 THEN 4 WHEN 22 THEN 8 END;
  mantissa int := CASE kind WHEN 21 THEN 23 WHEN 22 THEN 52 END;
  parts text[] := '{}';
  top int := CASE kind WHEN 21 THEN 255 ELSE 2047 END;
  bits bigint;
  exponent int;
  fraction double precision;
BEGIN
  IF width IS NULL OR (length(blob) - 1) % width <> 0 THEN
    RAISE EXCEPTION 'damaged blob: first byte %, % bytes', coalesce(nullif(to_hex(kind), '0'), 'absent'), length(blob);
  END IF;
  FOR item IN 0 .. (length(blob) - 1) / width - 1 LOOP
    bits := 0;
    FOR place IN REVERSE width - 1 .. 0 LOOP
      bits := (bits << 8) | get_byte(blob, 1 + item * width + place);
    END LOOP;
    IF mantissa IS NULL THEN
      parts := parts || bits::text;
      CONTINUE;
    END IF;
    exponent := (bits >> mantissa) & top;
    fraction := bits & ((1::bigint << mantissa) - 1);
    IF exponent = top THEN
      parts := parts || 'null'::text;
      CONTINUE;
    END IF;
    IF exponent > 0 THEN
      fraction := fraction + (1::bigint << mantissa);
    ELSE
      exponent := 1;
    END IF;
    exponent := exponent - mantissa - top / 2;
    fraction := fraction * power(2::double precision, exponent);
    parts := parts || (CASE WHEN bits >> (width * 8 - 1) <> 0 THEN '-' ELSE '' END || sparring_figure(fraction));
  END LOOP;
  RETURN '[' || array_to_string(parts, ', ') || ']';
END
$$
""",
}
