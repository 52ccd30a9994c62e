"""Templates: what people write for public paths and backend paths -> the pieces that are matched and filled in."""

import re
from typing import NamedTuple

from ostiary.core.routing.backend_path import HOLE
from ostiary.core.routing.outline import unrunnable
from ostiary.core.routing.path import canonical, fixed, query_ok
from ostiary.core.routing.pattern import check, crosses
from ostiary.core.snapshot import Fixed, Piece, Variable

METHOD = re.compile(r"[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_PLAIN = r"[A-Za-z0-9_~-][A-Za-z0-9_~.-]*+"
_EXPRESSION = r"(?:[A-Za-z0-9_~%.,+*?|()-]|\\[a-z]|\[[A-Za-z0-9_.~-]++\]|\{[0-9,]++\})++"
USUAL = re.compile(rf"([A-Z]++) ((?:/(?:{_PLAIN}|\{{{_NAME}(?::{_EXPRESSION})?\}}))++/?+)")
"""Lines whose path is canonical as it stands, and whose variables are whole segments: nearly all."""
USUAL_VARIABLE = re.compile(rf"\{{({_NAME})(?::({_EXPRESSION}))?\}}")
USUAL_BACKEND = re.compile(rf"(?:/(?:{_PLAIN}|\{{{_NAME}\}}))++/?+")


class Line(NamedTuple):
    """What `match` says. `path` is the public path as routes are named by."""

    methods: tuple[str, ...]
    pieces: tuple[Piece, ...]
    path: str


def read_match(text: str) -> Line:
    """The methods and the public path of `GET,POST /v1/{name:EXPRESSION}`. ValueError says what is wrong."""
    usual = USUAL.fullmatch(text)
    if usual:
        pieces = _usual(usual[2])
        if pieces:
            return Line((usual[1],) if usual[1] != "CONNECT" else _methods("CONNECT"), pieces, usual[2])
    methods, blank, path = text.partition(" ")
    if not blank or not path.startswith("/"):
        raise ValueError("expected methods, one blank and a path: `GET /v1/countries` or `GET,POST /v1/{name}`")
    pieces = read_path(path)
    return Line(_methods(methods), pieces, written(pieces))


def _usual(path: str) -> tuple[Piece, ...] | None:
    """The pieces of a usual path; None if it has to go the long way after all."""
    if "{" not in path:
        return (Fixed(path),)
    parts = USUAL_VARIABLE.split(path)
    names = parts[1::3]
    expressions = [each for each in parts[2::3] if each]
    if len(set(names)) < len(names) or any(check(each) or crosses(each) for each in expressions):
        return None
    pieces: list[Piece] = []
    for text, name, expression in zip(parts[0::3], [*names, ""], [*parts[2::3], None], strict=True):
        if text:
            pieces.append(Fixed(text))
        if name:
            pieces.append(Variable(name, expression or ""))
    return tuple(pieces)


def _methods(text: str) -> tuple[str, ...]:
    if text == "*":
        return ("*",)
    names = tuple(text.split(","))
    for name in names:
        if not METHOD.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no method: capitals such as GET, some joined by commas, or *")
        if names.count(name) > 1:
            raise ValueError(f"the method {name} stands twice")
        if name == "CONNECT":
            raise ValueError("CONNECT has no path and cannot be routed")
    return names


def read_path(text: str) -> tuple[Piece, ...]:
    """The pieces of a public path with `{name}` and `{name:EXPRESSION}`. ValueError says what is wrong."""
    pieces: list[Piece] = []
    at = 0
    while at < len(text):
        if text[at] == "{":
            variable, at = _variable(text, at)
            pieces.append(variable)
        else:
            end = text.find("{", at)
            end = len(text) if end < 0 else end
            pieces.append(Fixed(text[at:end]))
            at = end
    return checked(tuple(pieces))


def _variable(text: str, start: int) -> tuple[Variable, int]:
    """The variable whose brace opens at `start`, and where the text goes on."""
    found = NAME.match(text, start + 1)
    if not found:
        raise ValueError(f"{text[start : start + 20]!r}: a variable is {{name}} or {{name:EXPRESSION}}; a brace is %7B")
    end = found.end()
    if text[end : end + 1] == "}":
        return Variable(found[0]), end + 1
    if text[end : end + 1] != ":":
        raise ValueError(f"{text[start : start + 20]!r}: expected `}}` or `:` after the name")
    close = _closing(text, end + 1)
    expression = text[end + 1 : close]
    if not expression:
        raise ValueError(f"{{{found[0]}:}} has no expression; write {{{found[0]}}} for one segment")
    if reason := check(expression):
        raise ValueError(f"the expression of {{{found[0]}}}: {reason}")
    return Variable(found[0], expression), close + 1


def _closing(text: str, at: int) -> int:
    """Where the brace closes that opened before the expression at `at`."""
    depth, bracket = 0, False
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif bracket:
            bracket = character != "]"
        elif character == "[":
            bracket = True
        elif character == "{":
            depth += 1
        elif character == "}":
            if not depth:
                return at
            depth -= 1
        at += 1
    raise ValueError("a variable's closing brace is missing")


def checked(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """`pieces` with their fixed text canonical. ValueError where no request could ever match them."""
    names = [piece.name for piece in pieces if isinstance(piece, Variable) and piece.name]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the variable {{{twice}}} stands twice")
    cleaned = tuple(Fixed(_clean(piece.text)) if isinstance(piece, Fixed) else piece for piece in pieces)
    shape = "".join(piece.text if isinstance(piece, Fixed) else "x" for piece in cleaned)
    found = canonical(shape.encode())
    if found is None:
        raise ValueError("a request with such a path is refused, so that no route can have it")
    if found.decode() != shape:
        raise ValueError(f"no request has such a path: it is always read as {found.decode()[:200]}")
    if reason := unrunnable(cleaned) if len(cleaned) > 1 or names else "":
        raise ValueError(reason)
    return cleaned


def _clean(text: str) -> str:
    if "?" in text or "#" in text:
        raise ValueError("a path ends before `?` and `#`; a query takes no part in matching")
    return fixed(text)


def written(pieces: tuple[Piece, ...]) -> str:
    """Pieces as `match` writes them; the name of a route is its method and this."""
    return "".join(piece.text if isinstance(piece, Fixed) else _braced(piece) for piece in pieces)


def _braced(variable: Variable) -> str:
    return f"{{{variable.name}:{variable.expression}}}" if variable.expression else f"{{{variable.name}}}"


def template(pieces: tuple[Piece, ...]) -> str:
    """The backend path that is the public path itself."""
    return "".join(piece.text if isinstance(piece, Fixed) else f"{{{piece.name}}}" for piece in pieces)


def holes(to: str) -> list[str]:
    """The names that a backend path wants filled in."""
    return HOLE.findall(to) if "{" in to else []


def read_backend_path(text: str) -> str:
    """A backend path, its odd characters escaped. ValueError says what is wrong."""
    return text if USUAL_BACKEND.fullmatch(text) else _backend_path(text)


def _backend_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("a backend path begins with a slash")
    if "#" in text:
        raise ValueError("a backend path has no fragment (`#`)")
    if rest := re.search(r"[{}].{0,20}", HOLE.sub("", text)):
        raise ValueError(f"{rest[0]!r}: a name to fill in is {{name}}; a brace itself is %7B or %7D")
    path, mark, query = text.partition("?")
    path, query = _filled(path), _escaped(query)
    shape = HOLE.sub("x", path).encode()
    if canonical(shape) != shape or not query_ok(HOLE.sub("x", query).encode()):
        raise ValueError("not a path in its plain form: no `.` or `..` segments, no `//`, no bad escapes")
    return path + mark + query


def _filled(path: str) -> str:
    """A path with its fixed parts as canonical paths have them, and its names as they are."""
    return "".join(fixed(part) if at % 2 == 0 else f"{{{part}}}" for at, part in enumerate(HOLE.split(path)))


def _escaped(query: str) -> str:
    return "".join(c if " " < c < "\x7f" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in query)
