"""What numbers the rows of tables, so that no number is given twice: it outlives the rows.

Changes need none: the newest of them stays, and the next follows it.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from ostiary.store.direct import Outline

_SQLITE = sa.text("SELECT name, seq FROM sqlite_sequence WHERE name <> 'changes'")
_FORGET = sa.text("DELETE FROM sqlite_sequence WHERE name = :name")
_REMEMBER = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)")
_POSTGRESQL = sa.text("SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, :column) AS regclass))")
_GO_ON = sa.text("SELECT setval(CAST(pg_get_serial_sequence(:name, :column) AS regclass), :number)")


def counters(connection: sa.Connection, found: Sequence[Outline]) -> dict[str, int]:
    """The last number given, for each table whose rows are numbered and that has had one."""
    if connection.dialect.name == "sqlite":
        return {str(name): int(number) for name, number in connection.execute(_SQLITE)}
    last = {outline.name: connection.execute(_POSTGRESQL, _named(outline)).scalar() for outline in found}
    return {name: int(number) for name, number in last.items() if number is not None}


def count_on(connection: sa.Connection, found: Sequence[Outline], given: dict[str, int]) -> None:
    """Go on above the numbers that were given."""
    sqlite = connection.dialect.name == "sqlite"
    for outline in found:
        if not given.get(outline.name):
            continue
        values = {"name": outline.name, "number": given[outline.name]}
        if sqlite:
            connection.execute(_FORGET, {"name": outline.name})
            connection.execute(_REMEMBER, values)
        else:
            connection.execute(_GO_ON, {**_named(outline), "number": given[outline.name]})


def _named(outline: Outline) -> dict[str, str]:
    return {"name": f'"{outline.name}"', "column": outline.key[0]}
