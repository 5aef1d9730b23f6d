"""The diagram in docs/database.md is that of the tables as they are."""

import schema_diagram
from sqlalchemy import Column, ForeignKey, Integer, Table

from sparring.storage.tables import Base


def test_the_page_shows_the_tables_as_they_are() -> None:
    text = schema_diagram.PAGE.read_text()
    assert schema_diagram.BEGIN in text and schema_diagram.END in text
    assert schema_diagram.page(text) == text, "run python tools/schema_diagram.py"


def test_a_new_table_changes_the_diagram() -> None:
    before = schema_diagram.diagram()
    made = Table("prizes", Base.metadata, Column("id", Integer), Column("run_id", ForeignKey("runs.id"), unique=True))
    try:
        lines = set(schema_diagram.diagram().splitlines()) - set(before.splitlines())
    finally:
        Base.metadata.remove(made)
    assert lines == {"    prizes {", '    runs |o--o| prizes : "run_id"'}
    assert schema_diagram.diagram() == before


def test_every_foreign_key_is_a_line() -> None:
    drawn = [line.split(maxsplit=3) for line in schema_diagram.diagram().splitlines() if "--" in line]
    for table in Base.metadata.tables.values():
        for constraint in table.foreign_key_constraints:
            other = constraint.referred_table.name
            (told,) = (words for name, _, of, words in drawn if (name, of) == (other, table.name))
            assert set(constraint.column_keys) <= set(told.strip(': "').split(", "))
