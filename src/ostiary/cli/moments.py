"""Moments and durations as people write and read them. Inside they are Unix microseconds, and microseconds."""

import time
from datetime import UTC, datetime, timedelta

import typer

from ostiary.core.configuration.measure import Duration

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WRITTEN = "as 2026-11-22T05:00:00Z, or how long ago: 2h"


def moment(text: str, flag: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time, a duration before now, or Unix microseconds. Refuses usage."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return time.time_ns() // 1000 - Duration.parse(text)
    except ValueError:
        pass  # It is no duration, but may be a time.
    try:
        found = datetime.fromisoformat(text)
    except ValueError as problem:
        raise typer.BadParameter(f"{flag} takes a time, {WRITTEN}") from problem
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return max(0, (found - EPOCH) // timedelta(microseconds=1))


def rfc3339(microseconds: int) -> str:
    """A moment in UTC, to the second."""
    return f"{EPOCH + timedelta(seconds=microseconds // 10**6):%Y-%m-%dT%H:%M:%SZ}"
