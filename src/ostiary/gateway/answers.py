"""Answers that the gateway makes itself: a status, a JSON body (or the configured error body), ready to write."""

from ostiary.core.http1 import REASONS

BODIES: dict[int, bytes] = {
    400: b'{"error":"bad request"}',
    401: b'{"error":"access token required"}',
    403: b'{"error":"permission denied"}',
    404: b'{"error":"Not found"}',
    405: b'{"error":"method not allowed"}',
    408: b'{"error":"request timed out"}',
    413: b'{"error":"request body too large"}',
    414: b'{"error":"request target too long"}',
    417: b'{"error":"expectation failed"}',
    429: b'{"error":"rate limit reached"}',
    431: b'{"error":"request head too large"}',
    500: b'{"error":"internal error"}',
    501: b'{"error":"not implemented"}',
    502: b'{"error":"backend failed"}',
    503: b'{"error":"temporarily unavailable"}',
    504: b'{"error":"backend timed out"}',
    505: b'{"error":"HTTP version not supported"}',
}

TOKEN_REQUIRED = b'{"error":"access token required"}'
TOKEN_NOT_VALID = b'{"error":"access token not valid"}'
SCOPE_NOT_VALID = b'{"error":"access token scope not valid"}'
TYPE_NOT_VALID = b'{"error":"access token type not valid"}'


class Answers:
    """The answers of one configuration: its error bodies replace the default ones, whatever the reason.

    Challenges (RFC 6750 section 3) say where `resource` is described, if it has a name (RFC 9728 section 5.1).
    """

    __slots__ = ("_configured", "bearer", "insufficient_scope", "invalid_token")

    def __init__(self, configured: dict[int, str], resource: str = "") -> None:
        self._configured = {status: body.encode() for status, body in configured.items()}
        where = f', resource_metadata="{resource}/.well-known/oauth-protected-resource"' if resource else ""
        self.bearer, self.invalid_token, self.insufficient_scope = (
            f'www-authenticate: Bearer realm="ostiary"{error}{where}\r\n'.encode()
            for error in ("", ', error="invalid_token"', ', error="insufficient_scope"')
        )

    def body(self, status: int, body: bytes | None = None) -> bytes:
        """The body for `status`: the configured one, else `body`, else the default."""
        return self._configured.get(status, BODIES.get(status, b"") if body is None else body)


def render(
    status: int, body: bytes, request_id: bytes, headers: bytes = b"", close: bool = False, head: bool = False
) -> bytes:
    """A whole response; `headers` are complete lines; `head`: without its body, as for HEAD."""
    kind = b"content-type: application/json\r\n" if body else b""
    end = b"connection: close\r\n" if close else b""
    return b"HTTP/1.1 %d %s\r\n%scontent-length: %d\r\n%sx-request-id: %s\r\n%s\r\n%s" % (
        status, REASONS.get(status, "").encode(), kind, len(body), headers, request_id, end, b"" if head else body,
    )  # fmt: skip


def refusal(reason: str) -> bytes:
    """The body of a 400 that says what was wrong; `reason` is ours and repeats nothing of the request."""
    return b'{"error":"bad request: %s"}' % reason.encode()
