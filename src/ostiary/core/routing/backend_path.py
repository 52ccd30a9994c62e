"""The backend path of a route, filled in from what its public path captured.

Captures come from canonical paths, so they hold no `?`, `#`, `{` or control character. What filling could still do,
it may not: make a dot segment (`/v{n}` with `/v..`), an empty segment, or a new escape out of two halves, or add a
parameter to the query of the backend path (`?shop={shop}` with `a&admin=1`).
"""

import re
from collections.abc import Collection, Mapping

HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_dots = re.compile(rb"/\.\.?(?:[/;]|%3B|$)").search
_whole_escapes = re.compile(rb"[^%]*+(?:%[0-9A-F]{2}[^%]*+)*+").fullmatch
_slashes = re.compile(rb"//+").sub
_parameter = re.compile(rb"[&+;=]").sub


class BackendPath:
    """A backend path with `{name}` where captures go. `unfilled` are the names that nothing captures, for actions."""

    __slots__ = ("_names", "_path", "_query", "_query_names", "query", "unfilled")

    def __init__(self, text: str, captured: Collection[str]) -> None:
        """`text` is canonical but for its names and its query; `captured` are the names of the route's variables."""
        path, self.query, query = text.partition("?")
        self._path, self._names = _format(path, captured)
        self._query, self._query_names = _format(query, captured)
        self.unfilled = tuple(dict.fromkeys(name for name in HOLE.findall(text) if name not in captured))

    def fill(self, captures: Mapping[str, bytes]) -> tuple[bytes, bytes] | None:
        """The path and its own query (empty: none), `{name}` kept where unfilled.

        None where the captures would make a path that programs read differently: refuse the request with 400.
        """
        path = self._path
        if self._names:
            texts = [captures[name] for name in self._names]
            path %= tuple(texts)
            if b"/." in path or b"//" in path or b"%" in path:
                path = _slashes(b"/", path)
                if _dots(path) or (b"%" in path and not all(map(_whole_escapes, texts))):
                    return None
        if not self._query_names:
            return path, self._query
        return path, self._query % tuple([_argument(captures[name]) for name in self._query_names])


def _format(text: str, captured: Collection[str]) -> tuple[bytes, tuple[str, ...]]:
    """`text` as a format with `%b` for each captured name, and those names; as it is where there are none."""
    names = tuple(name for name in HOLE.findall(text) if name in captured)
    if not names:
        return text.encode(), ()
    pieces = HOLE.split(text)
    literal, holes = pieces[::2], pieces[1::2]
    marks = ["%b" if name in captured else f"{{{name}}}" for name in holes]
    texts = [piece.replace("%", "%%") for piece in literal]
    return "".join(a + b for a, b in zip(texts, [*marks, ""], strict=True)).encode(), names


def _argument(text: bytes) -> bytes:
    """A capture as the value of a query parameter."""
    return text if text.isalnum() else _parameter(lambda match: b"%%%02X" % match[0][0], text)
