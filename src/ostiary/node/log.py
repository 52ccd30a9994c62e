"""Log lines of a process, on standard error: one JSON object a line, or text for people.

An event's text, then its pairs. What is logged with `logging` and with structlog comes out the same.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

encode = msgspec.json.Encoder(enc_hook=str).encode
Form = Literal["json", "text"]


class Lines(logging.Formatter):
    """Writes records of the process `name`; `form` may be changed at any time."""

    def __init__(self, name: str, form: Form) -> None:
        super().__init__()
        self.name = name
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        pairs: dict[str, Any] = {"process": self.name, **getattr(record, "pairs", {})}
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return self._write(stamp, record.levelname, record.getMessage(), pairs)

    def _write(self, stamp: str, level: str, event: str, pairs: dict[str, Any]) -> str:
        if self.form == "json":
            return encode({"timestamp": stamp, "level": level.lower(), "event": event, **pairs}).decode()
        words = " ".join(f"{name}={encode(value).decode()}" for name, value in pairs.items() if name != "exception")
        return f"{stamp} {level:7} {event}  {words}" + ("\n" + pairs["exception"] if "exception" in pairs else "")


class Log:
    """The log of this process."""

    def __init__(self, name: str, level: str = "INFO", form: Form = "json") -> None:
        self._lines = Lines(name, form)
        handler = logging.StreamHandler()
        handler.setFormatter(self._lines)
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
        self.set(level, form)

    def set(self, level: str, form: Form) -> None:
        """From now on: the least level that is logged, and how."""
        logging.getLogger("ostiary").setLevel(level)
        self._lines.form = form
