"""The head of a response as the gateway reads it once, and what of it goes to the client."""

from ostiary.core.http1 import BadMessage, framing, parse_fields, parse_status_line, tokens

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
NO_BODY = frozenset((204, 304))
"""Statuses of responses that have none (RFC 9110 sections 15.3.5 and 15.4.5)."""


class ResponseHead:
    """A response head, parsed: what of it goes to the client, and how its body is delimited.

    `start` is the status line and the fields that pass, without framing by chunks and without the empty line.
    """

    __slots__ = ("chunked", "close", "length", "start", "status", "upgrade")

    def __init__(self, raw: bytes) -> None:
        line, _, block = raw.partition(b"\r\n")
        minor, self.status = parse_status_line(line)
        try:
            fields = parse_fields(block)
            self.length, self.chunked = framing(fields)
        except BadMessage as bad:
            raise BadMessage(502, f"backend: {bad.reason}") from None
        options = tokens(fields, b"connection")
        self.close = b"close" in options or (not minor and b"keep-alive" not in options)
        self.upgrade = b"".join(b"%s: %s\r\n" % field for field in fields if field[0] == b"upgrade")
        drop = HOP_BY_HOP.union(options) | {b"x-request-id"}
        if self.status == 204 or self.status < 200:
            drop |= {b"content-length"}
        kept = [b"%s: %s\r\n" % field for field in fields if field[0] not in drop]
        reason = line[9:] if len(line) > 12 else line[9:] + b" "
        self.start = b"HTTP/1.1 " + reason + b"\r\n" + b"".join(kept) + b"via: 1.1 ostiary\r\n"
