"""Lines of logs: what people read of what a droplet wrote."""

MOST = 16_384
"""Bytes of a line; what is longer goes on as a line of its own, so that nothing is lost."""


class Lines:
    """Cuts a stream into lines, without their ends."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with `data`."""
        *whole, self.rest = (self.rest + data).split(b"\n") if b"\n" in data else (self.rest + data,)
        found = [piece for line in whole for piece in cut(line)]
        if len(self.rest) > MOST:
            *more, self.rest = cut(self.rest)
            found += more
        return found

    def end(self) -> list[bytes]:
        """What was not ended."""
        rest, self.rest = self.rest, b""
        return cut(rest) if rest else []


def cut(line: bytes) -> list[bytes]:
    """A line in pieces that are short enough."""
    return [line[at : at + MOST] for at in range(0, len(line), MOST)] or [b""]
