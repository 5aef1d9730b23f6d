"""Write the diagram of the tables into docs/database.md, from the models.

python tools/schema_diagram.py            write it
python tools/schema_diagram.py --check    say whether it is fresh, exit status 1 when it is not
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from sqlalchemy import ForeignKeyConstraint, Integer, LargeBinary, Table, UniqueConstraint

from sparring.storage.tables import Base

PAGE = Path(__file__).resolve().parent.parent / "docs" / "database.md"
BEGIN, END = "<!-- diagram: written by tools/schema_diagram.py -->", "<!-- end of diagram -->"


def diagram() -> str:
    """The tables with what is unique in each, and a line for each pair of which one names the other (Mermaid)."""
    lines = ["erDiagram"]
    for table in Base.metadata.tables.values():
        keys = [f"        {_kind(table, name)} {name}" for name in _natural(table)]
        lines += [f"    {table.name} {{", *keys, "    }"] if keys else [f"    {table.name}"]
    for table in Base.metadata.tables.values():
        lines += _edges(table)
    return "\n".join(["```mermaid", *lines, "```"])


def _natural(table: Table) -> list[str]:
    """The columns that are unique together beside the id."""
    unique = [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    alone = [column.name for column in table.columns if column.unique]
    first = min(unique, key=lambda constraint: [list(table.columns).index(column) for column in constraint.columns],
                default=None)  # fmt: skip
    return [column.name for column in first.columns] if first is not None else alone


def _kind(table: Table, name: str) -> str:
    kind = table.columns[name].type
    return "integer" if isinstance(kind, Integer) else "blob" if isinstance(kind, LargeBinary) else "text"


def _edges(table: Table) -> list[str]:
    """One line for each table this one names: how many rows of either, and by which columns."""
    found: dict[str, list[ForeignKeyConstraint]] = defaultdict(list)
    for constraint in sorted(table.foreign_key_constraints, key=lambda one: list(one.column_keys)):
        found[constraint.referred_table.name].append(constraint)
    lines = []
    for other, constraints in sorted(found.items()):
        names = [column for one in constraints for column in one.column_keys]
        may_be_absent = all(any(table.columns[name].nullable for name in one.column_keys) for one in constraints)
        alone = len(names) == 1 and _natural(table) == names
        left, right = "|o" if may_be_absent else "||", "o|" if alone else "o{"
        lines.append(f'    {other} {left}--{right} {table.name} : "{", ".join(dict.fromkeys(names))}"')
    return lines


def page(text: str) -> str:
    """The page with the diagram in its place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{diagram()}\n{END}{tail}"


def main() -> int:
    """Write or check."""
    text = PAGE.read_text()
    fresh = page(text)
    if "--check" in sys.argv[1:]:
        if text != fresh:
            print(f"{PAGE.name}: the diagram is not that of the models; run python tools/schema_diagram.py")
        return int(text != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
