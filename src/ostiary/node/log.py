"""Log lines of a process, on standard error: one JSON object a line, or text for people.

An event's text, then its pairs: those of `extra={"pairs": {...}}`.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

encode = msgspec.json.Encoder(enc_hook=str).encode


class Lines(logging.Formatter):
    """Writes records of the process `name`, in the form (`json` or `text`) that `form` gives at that moment."""

    def __init__(self, name: str, form: Callable[[], str]) -> None:
        super().__init__()
        self._name, self._form = name, form

    def format(self, record: logging.LogRecord) -> str:
        pairs: dict[str, Any] = {"process": self._name, **getattr(record, "pairs", {})}
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        if self._form() == "text":
            return text(stamp, record.levelname, record.getMessage(), pairs)
        line = {"timestamp": stamp, "level": record.levelname.lower(), "event": record.getMessage(), **pairs}
        return encode(line).decode()


def text(stamp: str, level: str, event: str, pairs: dict[str, Any]) -> str:
    """A record for people, on one line; only a trace of the stack stands below it."""
    words = [f"{name}={encode(value).decode()}" for name, value in pairs.items() if name != "exception"]
    line = " ".join([stamp, f"{level:7}", event.replace("\n", "\\n"), "", *words])
    return f"{line}\n{pairs['exception']}" if "exception" in pairs else line


def open_log(name: str, form: Callable[[], str]) -> None:
    """Begin the log of the process `name`. How much is logged is the level of the logger `ostiary`."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(name, form))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("ostiary").setLevel(logging.INFO)
