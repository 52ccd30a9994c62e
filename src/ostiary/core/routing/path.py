"""The canonical form of a request path: what is matched is what is sent, and no backend can read it differently.

Resolved or unified: dot segments, duplicate slashes, escapes of unreserved characters, the case of escapes, raw
characters that RFC 3986 has no place for. Refused is what programs are known to disagree about: escaped slashes,
backslashes, escaped dot segments, `..;x` (servlet engines cut at the semicolon), control characters, bytes that are
not UTF-8. A canonical path has only RFC 3986 path characters; a `{` or `?` is never among them.
"""

import re
from urllib.parse import unquote_to_bytes

UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
ALPHABET = UNRESERVED | frozenset(b"!$&'()*+,;=:@/%")
"""The bytes of canonical paths."""

_HEX = "0123456789ABCDEFabcdef"
# Possessive: nothing to give back, so it fails as fast as it succeeds. Segments that begin with a dot go the long way.
_ordinary = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,;=:@\-][A-Za-z0-9_~!$&'()*+,;=:@\-.]*+)++/?+").fullmatch
_refused = re.compile(
    rb"[^!-~]|[\\#?]|%(?![0-9A-Fa-f]{2})"
    rb"|%(?:[01][0-9A-Fa-f]|7[Ff]|2[Ff]|5[Cc])"  # controls, slash, backslash
    rb"|%[Cc]2%[89][0-9A-Fa-f]"  # U+0080 to U+009F, controls too
).search
_foreign = re.compile(rb"%..|[^A-Za-z0-9_~!$&'()*+,;=:@\-./%]").sub
_dotted = re.compile(rb"\.\.?(?:;|%3B)").match
_query = re.compile(rb'[!"$-~]*+').fullmatch


def _escape(byte: int) -> bytes:
    return bytes([byte]) if byte in UNRESERVED else b"%%%02X" % byte


_FORM = {f"%{a}{b}".encode(): _escape(int(a + b, 16)) for a in _HEX for b in _HEX}
_FORM |= {bytes([byte]): _escape(byte) for byte in range(0x21, 0x7F) if byte not in ALPHABET}


def canonical(path: bytes) -> bytes | None:
    """The canonical form of `path` (without its query), or None where it must be refused with 400.

    A canonical path comes back as it is. The usual path costs one regular expression.
    """
    return path if _ordinary(path) else _canonical(path)


def _canonical(path: bytes) -> bytes | None:
    if path[:1] != b"/" or _refused(path) or not _utf8(path):
        return None
    text = _foreign(lambda match: _FORM[match[0]], path)
    if b"/." not in text and b"//" not in text:
        return text
    return _resolve(path, text)


def _utf8(path: bytes) -> bool:
    if b"%" not in path:
        return True
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _resolve(path: bytes, text: bytes) -> bytes | None:
    """Take dot segments and empty segments out of `text`; `path` is the same before its escapes were unified."""
    kept: list[bytes] = []
    part = b""
    for raw, part in zip(path.split(b"/"), text.split(b"/"), strict=True):
        if part == b"..":
            if raw != part or not kept:
                return None
            kept.pop()
        elif _dotted(part) or (part == b"." and raw != part):
            return None
        elif part not in (b"", b"."):
            kept.append(part)
    if kept and part in (b"", b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def fixed(text: str) -> str:
    """A fixed part of a configured path with its characters as canonical paths have them; its segments are kept."""
    raw = b"".join(bytes([byte]) if 0x20 < byte < 0x7F else b"%%%02X" % byte for byte in text.encode())
    return _foreign(lambda match: _FORM.get(match[0], match[0]), raw).decode()


def query_ok(query: bytes) -> bool:
    """Whether `query` (what follows the first `?`) has only characters that may travel: visible ASCII without `#`."""
    return _query(query) is not None
