"""What requests carry, read."""

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from ostiary.dialects.message import parse_pairs


@given(st.text(st.sampled_from("a%41fFe9+=&; é\x00"), max_size=30))
def test_forms_are_read_as_the_standard_library_reads_them(text: str) -> None:
    assert parse_pairs(text) == parse_qsl(text, keep_blank_values=True, errors="replace")
