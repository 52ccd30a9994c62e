"""Whether a store is whole: what the engine says of its file, and what must be true of the rows on either engine."""

from collections.abc import Callable, Iterator

import msgspec
import sqlalchemy as sa

from ostiary.store.backup import rows_of
from ostiary.store.counters import counters
from ostiary.store.direct import Outline, existing, outlines, version, within
from ostiary.store.migrations import HEAD
from ostiary.store.ports import Checked, Counted

# Each counts what is wrong.
RULES = {
    "tokens of an unknown kind": "SELECT COUNT(*) FROM tokens WHERE kind NOT IN ('access', 'refresh', 'code')",
    "refresh tokens and codes without a family": (
        "SELECT COUNT(*) FROM tokens WHERE kind <> 'access' AND (family IS NULL OR LENGTH(family) = 0)"
    ),
    "tokens that are not kept as a digest": "SELECT COUNT(*) FROM tokens WHERE LENGTH(digest) <> 32",
    "tokens issued after the newest change": (
        "SELECT COUNT(*) FROM tokens WHERE seq > (SELECT COALESCE(MAX(seq), 0) FROM changes)"
    ),
    "gaps in the change log": "SELECT COALESCE(MAX(seq) - MIN(seq) + 1 - COUNT(*), 0) FROM changes",
    "owners beside the first": (
        "SELECT CASE WHEN COUNT(*) > 1 THEN COUNT(*) - 1 ELSE 0 END FROM users WHERE role = 'owner'"
    ),
    "rows of the schema's version beside the first": (
        "SELECT CASE WHEN COUNT(*) > 1 THEN COUNT(*) - 1 ELSE 0 END FROM alembic_version"
    ),
}
JSON = {
    ("tokens", "details"): dict[str, str],
    ("applications", "details"): dict[str, str],
    ("applications", "grant_types"): tuple[str, ...] | None,
}
"""Columns whose text is JSON, and of what."""
KNOWS_SIZES = "SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'"
DBSTAT = """
SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name
"""
MOST_TOLD = 20
"""Lines of what the engine finds wrong with its file."""


def check(url: str) -> Checked:
    """Look at all rows of the store at `url`, as one moment sees them.

    Refuses Unavailable `store.absent`, `store.unavailable`, Invalid `store.foreign`.
    """
    return within(existing(url), _check)


def _check(connection: sa.Connection) -> Checked:
    schema, found = version(connection), outlines(connection)
    wrong = [*_file(connection), *_references(connection, found)]
    if schema == HEAD:
        wrong += [*_rules(connection), *_numbers(connection, found), *_texts(connection, found)]
    else:
        wrong.append(f"the schema is {schema or 'not there'}, not {HEAD}: ostiary store migrate")
    sizes = _sizes(connection, found)
    tables = {each.name: Counted(_count(connection, each), sizes.get(each.name)) for each in found}
    return Checked(not wrong, connection.dialect.name, schema, wrong, _size(connection), tables)


def _file(connection: sa.Connection) -> Iterator[str]:
    """What SQLite finds wrong with its file; PostgreSQL looks after its own."""
    if connection.dialect.name == "sqlite":
        for (line,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_TOLD})"):
            if line != "ok":
                yield f"the file: {line}"


def _references(connection: sa.Connection, found: list[Outline]) -> Iterator[str]:
    """Rows that refer to none."""
    tables = {each.name: each.table for each in found}
    for outline in found:
        for columns, name, referred in outline.references:
            there = tables[name].alias("there")
            pairs = [(outline.table.c[ours], there.c[theirs]) for ours, theirs in zip(columns, referred, strict=True)]
            same = sa.exists().where(*(ours == theirs for ours, theirs in pairs))
            named = (ours.is_not(None) for ours, _ in pairs)
            lost = connection.execute(
                sa.select(sa.func.count()).select_from(outline.table).where(*named, ~same)
            ).scalar_one()
            if lost:
                yield f"{outline.name}: {lost} rows refer to rows of {name} that do not exist"


def _rules(connection: sa.Connection) -> Iterator[str]:
    for what, statement in RULES.items():
        count = connection.exec_driver_sql(statement).scalar_one()
        if count:
            yield f"{count} {what}"


def _numbers(connection: sa.Connection, found: list[Outline]) -> Iterator[str]:
    """Tables in which a number would be given again."""
    given = counters(connection, found)
    for outline in found:
        if outline.name in given:
            newest = connection.execute(sa.select(sa.func.max(outline.table.c[outline.key[0]]))).scalar() or 0
            if newest > given[outline.name]:
                yield f"{outline.name}: numbers up to {newest} are in use, the next would be {given[outline.name] + 1}"


def _texts(connection: sa.Connection, found: list[Outline]) -> Iterator[str]:
    """Columns of JSON that is none."""
    tables = {each.name: each for each in found}
    for (name, column), kind in JSON.items():
        decode = msgspec.json.Decoder(kind).decode
        broken = sum(not _reads(decode, getattr(row, column)) for row in rows_of(connection, tables[name]))
        if broken:
            yield f"{name}: {broken} rows whose {column} cannot be read"


def _reads(decode: Callable[[str], object], text: str | None) -> bool:
    try:
        decode("null" if text is None else text)
    except msgspec.DecodeError:
        return False
    return True


def _count(connection: sa.Connection, outline: Outline) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(outline.table)).scalar_one())


def _size(connection: sa.Connection) -> int:
    if connection.dialect.name == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())


def _sizes(connection: sa.Connection, found: list[Outline]) -> dict[str, int]:
    """Bytes of each table with its indexes, where the engine says."""
    if connection.dialect.name == "sqlite":
        said = connection.exec_driver_sql(DBSTAT) if connection.exec_driver_sql(KNOWS_SIZES).scalar() else ()
        return {str(name): int(size) for name, size in said}
    size = sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    return {each.name: int(connection.execute(size, {"name": f'"{each.name}"'}).scalar_one()) for each in found}
