"""What is SQLite's alone."""

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

from tests.store.values import NOW, RECORD

from ostiary.store.people import NewUser
from ostiary.store.store import open_store

VISITOR = """
import asyncio, sys
from ostiary.store.store import open_store

async def main():
    store = await open_store(sys.argv[1], alone=False)
    page = [change.subject for change in await store.changes.after(0, 100)]
    await asyncio.gather(store.users.empty(), store.lister.each(lambda sql: sql.rows("SELECT 1")))
    await store.close()
    print(*page)

asyncio.run(main())
"""


def visit(url: str) -> list[str]:
    """The subjects of changes that another process sees, which opens the store and leaves."""
    done = subprocess.run([sys.executable, "-c", VISITOR, url], capture_output=True, text=True, check=True)
    return done.stdout.split()


async def test_a_process_that_comes_and_goes_loses_nothing_of_what_is_written_after_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ostiary.db"
    store = await open_store(url)
    await asyncio.gather(store.users.empty(), store.lister.each(lambda sql: sql.rows("SELECT 1")))
    seen = []
    for number in range(3):
        await store.users.create(NewUser(f"u{number}", "viewer", NOW), RECORD)
        seen.append(await asyncio.to_thread(visit, url))
    assert seen == [["u0"], ["u0", "u1"], ["u0", "u1", "u2"]]
    await store.close()


async def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/made/ostiary.db")
    assert stat.S_IMODE((tmp_path / "made" / "ostiary.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    await store.close()
