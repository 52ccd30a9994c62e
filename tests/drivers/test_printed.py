"""When the lines of a log were printed."""

import time
from pathlib import Path

from tests.drivers.houses import House, begun, ended

from ostiary.drivers.port import Driver, Printed
from ostiary.drivers.process.driver import last
from ostiary.drivers.process.output import ENTRY, MOST, append, times


def kept(place: Path) -> set[str]:
    return {each.name for each in place.iterdir()}


async def test_each_line_has_the_time_at_which_it_was_printed(house: House, driver: Driver) -> None:
    before = time.time_ns() // 1000
    spec = await begun(driver, house.script("echo one; sleep 2; echo two; echo three; printf four"))
    assert await ended(driver, spec) == 0
    found = await driver.printed(spec.droplet, 10)
    assert [each.line for each in found] == [b"one", b"two", b"three", b"four"]
    one, two, three, four = [each.at or 0 for each in found]
    assert before - 1_000_000 <= one <= two - 1_000_000  # some engines tell whole seconds
    assert two <= three <= four <= time.time_ns() // 1000
    assert [each.line for each in await driver.printed(spec.droplet, 2)] == [b"three", b"four"]
    assert await driver.printed(spec.droplet, 0) == []


def test_a_line_has_the_time_of_the_piece_that_ends_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for at, piece in enumerate((b"o", b"ne\ntwo\nth", b"re", b"e\n", b"four"), 1):
        append(log, piece, at)
    found = [Printed(2, b"one"), Printed(2, b"two"), Printed(4, b"three"), Printed(4, b"four")]
    for tail in range(5):
        assert last(tmp_path, tail) == found[4 - tail :]


def test_both_files_of_a_log_have_their_times_and_the_one_that_is_replaced_takes_its_own_with_it(
    tmp_path: Path,
) -> None:
    log, line = tmp_path / "log", b"x" * 999 + b"\n"
    for at in range(1, 11):
        append(log, line * (MOST // 4000), at)
    assert len(kept(tmp_path)) == 4
    found = last(tmp_path, 10_000)
    ats = [each.at or 0 for each in found]
    assert ats == sorted(ats)
    assert ats[-1250:] == [10] * 1250
    assert {each.line for each in found} == {line[:-1]}


def test_a_log_begins_anew_when_what_stands_beside_it_is_full(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"one\n", 1)
    times(log, log.stat()).write_bytes(ENTRY.pack(0, 1) * (MOST // ENTRY.size))
    append(log, b"two\n", 2)
    append(log, b"three\n", 3)
    assert log.read_bytes() == b"three\n"
    assert last(tmp_path, 9) == [Printed(1, b"one"), Printed(2, b"two"), Printed(3, b"three")]


def test_without_times_there_are_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    assert last(tmp_path, 9) == [Printed(None, b"one"), Printed(None, b"two")]
    append(tmp_path / "log", b"three\n", 3)
    assert last(tmp_path, 9)[2:] == [Printed(3, b"three")]
