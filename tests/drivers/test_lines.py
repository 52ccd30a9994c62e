"""Lines of logs."""

from hypothesis import given
from hypothesis import strategies as st

from ostiary.drivers.lines import MOST, Lines

DATA = st.lists(st.sampled_from([b"", b"a", b"\n", b"b\nc", b"x" * (MOST - 1), b"y" * (3 * MOST)]), max_size=12)


@given(DATA)
def test_lines_are_the_same_however_the_stream_is_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    one, many = Lines(), Lines()
    whole = one.feed(data) + one.end()
    assert [line for piece in pieces for line in many.feed(piece)] + many.end() == whole


@given(DATA)
def test_nothing_is_lost_and_no_line_is_too_long(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.end()
    assert b"".join(found) == b"".join(pieces).replace(b"\n", b"")
    assert all(len(each) <= MOST for each in found)


def test_an_empty_line_is_a_line_and_an_unfinished_one_waits() -> None:
    lines = Lines()
    assert lines.feed(b"\na\n\nb") == [b"", b"a", b""]
    assert lines.end() == [b"b"]
    assert lines.end() == []
