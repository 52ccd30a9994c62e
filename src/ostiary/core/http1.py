"""HTTP/1.1 on the wire, strictly (RFC 9112), without I/O: heads, fields, framing, chunks.

One parser guards both planes. What is doubtful is refused, never repaired: a head that two programs could read
differently is how requests are smuggled. Every expression here is a single pass (possessive repeats), because its input
is hostile. `BadMessage` carries the status to answer with and a reason without any of the sender's bytes.
"""

import re
from typing import NamedTuple

TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
_FIELDS = re.compile(rb"(?:[" + TCHAR + rb"]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
_REQUEST_LINE = re.compile(rb"([" + TCHAR + rb"]{1,32}+) ([!-~]++) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t \x21-\x7e\x80-\xff]*+)?")
_VERSION = re.compile(rb"[!-~]++ [!-~]++ HTTP/(?!1\.[01])[0-9]\.[0-9]")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]++)([/?].*+)?", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[\t \x21-\x7e\x80-\xff]*+)?")

MAX_CHUNK_LINE = 256
MAX_TRAILER = 8192


class BadMessage(Exception):
    """A message that is refused: `status` to answer with, and why, in words that repeat nothing of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestLine(NamedTuple):
    """`minor` is 0 or 1; `target` is in origin form (or `*`); `host` only where the target was in absolute form."""

    method: bytes
    target: bytes
    minor: int
    host: bytes = b""


class Framing(NamedTuple):
    """How a body is delimited: `length` bytes, or chunks, or (both -1 and False) not announced."""

    length: int = -1
    chunked: bool = False


Fields = list[tuple[bytes, bytes]]
"""Lower-case names and values without surrounding blanks, in the order and number of the message."""


def parse_request_line(line: bytes) -> RequestLine:
    """The request line without its CRLF; 400 when malformed, 505 for another version (RFC 9112 section 3)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _VERSION.fullmatch(line):
            raise BadMessage(505, "HTTP version not supported")
        raise BadMessage(400, "malformed request line")
    method, target, minor = match[1], match[2], match[3] == b"1"
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return RequestLine(method, target, minor)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadMessage(400, "malformed request target")
    rest = absolute[2] or b"/"
    return RequestLine(method, rest if rest[:1] == b"/" else b"/" + rest, minor, absolute[1])


def parse_fields(block: bytes, most: int = 100) -> Fields:
    """The field lines, each with its CRLF; 400 when one is malformed, 431 when there are more than `most`."""
    if block.count(b"\n") > most:
        raise BadMessage(431, "too many header fields")
    if _FIELDS.fullmatch(block) is None:
        raise BadMessage(400, "malformed header field")
    fields = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    return fields


def framing(fields: Fields) -> Framing:
    """The body's framing as the fields announce it (RFC 9112 section 6.3), refusing whatever is ambiguous."""
    length, chunked = -1, False
    for name, value in fields:
        if name == b"content-length":
            if length >= 0:
                raise BadMessage(400, "repeated Content-Length")
            if _LENGTH.fullmatch(value) is None:
                raise BadMessage(400, "malformed Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked:
                raise BadMessage(400, "repeated Transfer-Encoding")
            if value.lower() != b"chunked":
                raise BadMessage(400, "Transfer-Encoding is not chunked")
            chunked = True
    if chunked and length >= 0:
        raise BadMessage(400, "both Content-Length and Transfer-Encoding")
    return Framing(length, chunked)


def host_of(line: RequestLine, fields: Fields) -> bytes:
    """The one host that the request names (RFC 9112 section 3.2): exactly one Host, well formed, needed by HTTP/1.1."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1:
        raise BadMessage(400, "repeated Host")
    if not hosts and line.minor:
        raise BadMessage(400, "Host is missing")
    host = line.host or (hosts[0] if hosts else b"")
    if _HOST.fullmatch(host) is None or (line.host and hosts and _HOST.fullmatch(hosts[0]) is None):
        raise BadMessage(400, "malformed Host")
    return host


def tokens(fields: Fields, name: bytes) -> list[bytes]:
    """The lower-case elements of a comma-separated field, over all its lines."""
    found = [value for field, value in fields if field == name]
    return [part.strip(b" \t").lower() for value in found for part in value.split(b",") if part.strip(b" \t")]


class RequestHead(NamedTuple):
    """A whole request head, checked."""

    line: RequestLine
    fields: Fields
    host: bytes
    framing: Framing
    close: bool
    """Whether the connection ends after this exchange."""


def parse_request_head(head: bytes, most: int = 100) -> RequestHead:
    """A request head up to and with its empty line, or a BadMessage.

    HTTP/1.0 with Transfer-Encoding is refused (RFC 9112 section 6.1: its framing is not to be trusted).
    """
    start, _, block = head[:-2].partition(b"\r\n")
    line, fields = parse_request_line(start), parse_fields(block, most)
    frame = framing(fields)
    if frame.chunked and not line.minor:
        raise BadMessage(400, "Transfer-Encoding in HTTP/1.0")
    options = tokens(fields, b"connection")
    close = b"close" in options or (not line.minor and b"keep-alive" not in options)
    return RequestHead(line, fields, host_of(line, fields), frame, close)


def unfinished(buffer: bytes, most: int) -> None:
    """Refuse what can no longer become a head of at most `most` bytes, before its end has come (400, 414, 431)."""
    if len(buffer) > most:
        raise BadMessage(431 if b"\r\n" in buffer[:most] else 414, "request head too large")
    # Counted, not searched for: a head that trickles in is looked at again with each piece.
    pairs = buffer.count(b"\r\n")
    if buffer.count(b"\n") != pairs or buffer.count(b"\r") - buffer.endswith(b"\r") != pairs:
        raise BadMessage(400, "bare CR or LF")
    if buffer[:1] not in _FIRST:
        raise BadMessage(400, "malformed request line")


_FIRST = frozenset(
    bytes([c]) for c in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&'*+-.^_`|~\r0123456789"
) | {b""}


class StatusLine(NamedTuple):
    """A response's first line; `minor` as for requests."""

    minor: int
    status: int


def parse_status_line(line: bytes) -> StatusLine:
    """The status line without its CRLF, or a BadMessage with 502."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessage(502, "malformed status line")
    return StatusLine(match[1] == b"1", int(match[2]))


class ChunkDecoder:
    """Takes a chunked body in pieces of any size and gives its data; extensions and trailers are checked and dropped.

    After `done`, `rest` holds the bytes that came behind the body.
    """

    __slots__ = ("_buffer", "_left", "_state", "_trailer", "done", "rest")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._buffer = b""
        self._trailer = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The body's data that `data` brings; BadMessage (400) when the framing is broken (RFC 9112 section 7.1)."""
        pieces: list[bytes] = []
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state is _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _END
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._hold(data[at:])
                return pieces
            self._line(data[at : end + 1])
            at = end + 1
        if self.done:
            self.rest = data[at:]
        return pieces

    def _hold(self, part: bytes) -> None:
        if len(part) > (MAX_TRAILER if self._state is _TRAILER else MAX_CHUNK_LINE):
            raise BadMessage(400, "chunk line too long")
        self._buffer = part

    def _line(self, line: bytes) -> None:
        if line[-2:] != b"\r\n":
            raise BadMessage(400, "bare LF in a chunked body")
        line = line[:-2]
        if self._state is _END:
            if line:
                raise BadMessage(400, "chunk longer than its size")
            self._state = _SIZE
        elif self._state is _SIZE:
            self._size(line)
        elif not line:
            self.done = True
        else:
            self._field(line)

    def _size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None or len(line) > MAX_CHUNK_LINE:
            raise BadMessage(400, "malformed chunk size")
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILER

    def _field(self, line: bytes) -> None:
        self._trailer += len(line) + 2
        if self._trailer > MAX_TRAILER or _FIELDS.fullmatch(line + b"\r\n") is None:
            raise BadMessage(400, "malformed trailer field")


_SIZE, _DATA, _END, _TRAILER = "size", "data", "end", "trailer"

REASONS = {
    100: "Continue", 101: "Switching Protocols", 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
    411: "Length Required", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    417: "Expectation Failed", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip
"""Reason phrases of RFC 9110 section 15."""
