import json
import logging

from ostiary.node.log import Lines


def record(pairs: dict[str, object], failed: bool = False) -> logging.LogRecord:
    try:
        raise ValueError("oops")
    except ValueError as error:
        trace = (type(error), error, None) if failed else None
    made = logging.LogRecord("ostiary.x", logging.WARNING, "x.py", 1, "worker %d\nended", (2,), trace)
    made.created = 1_700_000_000.5
    made.pairs = pairs
    return made


def test_a_json_line_holds_the_event_and_its_pairs() -> None:
    line = Lines("control", lambda: "json").format(record({"pid": 7, "odd": {1, 2}.__class__}))
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": "2023-11-14T22:13:20.500Z", "level": "warning", "event": "worker 2\nended", "process": "control",
        "pid": 7, "odd": "<class 'set'>",
    }  # fmt: skip


def test_text_is_for_people_and_its_form_may_change() -> None:
    form = "text"
    lines = Lines("control", lambda: form)
    assert (
        lines.format(record({"pid": 7})) == '2023-11-14T22:13:20.500Z WARNING worker 2\\nended  process="control" pid=7'
    )
    form = "json"
    assert lines.format(record({})).startswith('{"timestamp"')


def test_a_trace_stands_below_the_line() -> None:
    text = Lines("control", lambda: "text").format(record({}, failed=True))
    assert text.splitlines()[1:] == ["ValueError: oops"]
    line = json.loads(Lines("control", lambda: "json").format(record({}, failed=True)))
    assert line["exception"] == "ValueError: oops"
