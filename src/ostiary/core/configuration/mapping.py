"""ApiFest's mappings: what the files of one version say together, the paths of its endpoints, and how they are listed.

(`contracts` are the public promises: A1 to A3, A6 and A7 of the ApiFest dialect.)
"""

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from ostiary.core.refusal import Mistake
from ostiary.core.routing.backend_path import HOLE
from ostiary.core.routing.pattern import check
from ostiary.core.routing.template import NAME, checked
from ostiary.core.snapshot import Fixed, Piece, Variable

NAMED = re.compile(r"\{([^{}]*)\}")
LITERAL = re.compile(r"(?:[A-Za-z0-9_~!&',;=:@%/-]|\\[^A-Za-z0-9])*")
"""A piece of a regular expression that matches one text only."""


class PluginName(Struct, frozen=True):
    """An action or filter as an endpoint or a table names it."""

    name: str
    type: str
    """The Java class; empty where only a name is given."""
    line: int
    path: str


class Endpoint(Struct, frozen=True):
    """One endpoint as the file has it; None stands for what it has not."""

    external: str
    internal: str
    method: str
    file: str
    line: int
    path: str
    scope: str | None = None
    auth_type: str | None = None
    var_name: str | None = None
    var_expression: str | None = None
    host: str = ""
    port: int = 0
    actions: tuple[PluginName, ...] = ()
    filters: tuple[PluginName, ...] = ()
    properties: dict[str, str] | None = None
    legacy: bool = False
    """Whether `external` is one regular expression."""

    @property
    def pattern(self) -> str:
        """The pattern text P of the contract (A6): what tells endpoints apart, and is hashed for their keys."""
        if "{" not in self.external or self.var_name is None or self.var_expression is None:
            return self.external + "$"
        text = self.external
        pairs = list(zip(self.var_name.split(" "), self.var_expression.split(" "), strict=False))
        for name, expression in pairs[:-1]:
            text = text.replace(f"{{{name}}}", f"({expression})")
        name, expression = pairs[-1]
        end = "$" if self.external.endswith("}") and not expression.endswith("$") else ""
        return text.replace(f"{{{name}}}", f"({expression})" + end)


class Mapping(Struct, frozen=True):
    """One mapping file. A table that is absent is None: it is made from the endpoints."""

    file: str
    version: str
    actions: tuple[PluginName, ...] | None
    filters: tuple[PluginName, ...] | None
    endpoints: tuple[Endpoint, ...]
    errors: tuple[tuple[int, str, int], ...]
    """Status, message, line."""


class GlobalErrors(Struct, frozen=True):
    """The global errors file: status, message, line."""

    file: str
    errors: tuple[tuple[int, str, int], ...] = ()


class Use(Struct, frozen=True):
    """An endpoint with its action and filter, their classes resolved."""

    endpoint: Endpoint
    action: PluginName | None
    filter: PluginName | None


class Version(Struct):
    """What the files of one version say together."""

    actions: dict[str, str] = {}
    """Name (or class, where it has no name) -> class."""
    filters: dict[str, str] = {}
    errors: dict[int, str] = {}
    endpoints: list[Use] = []


class Merger:
    """Puts mapping files together and finds what does not fit."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self.versions: dict[str, Version] = {}
        self.listed: list[tuple[Literal["action", "filter"], PluginName, str]] = []
        """What stands in the tables of the files, whether an endpoint uses it or not; and the file."""
        self._patterns: dict[tuple[str, str], Endpoint] = {}
        self._classes: dict[tuple[str, str], str] = {}
        self._messages: dict[int, tuple[str, str]] = {}

    def merge(self, mappings: list[Mapping]) -> None:
        """All files, in their order."""
        for mapping in mappings:
            version = self.versions.setdefault(mapping.version, Version())
            self._table("action", version.actions, mapping, mapping.actions)
            self._table("filter", version.filters, mapping, mapping.filters)
            self._errors(version, mapping)
        for mapping in mappings:
            for endpoint in mapping.endpoints:
                self._endpoint(self.versions[mapping.version], endpoint)

    def _table(
        self,
        kind: Literal["action", "filter"],
        table: dict[str, str],
        mapping: Mapping,
        given: tuple[PluginName, ...] | None,
    ) -> None:
        self.listed += ((kind, each, mapping.file) for each in given or ())
        if given is None:
            given = tuple(each for point in mapping.endpoints for each in getattr(point, f"{kind}s") if each.type)
        for each in given:
            name = each.name or each.type
            known = self._classes.setdefault((kind, name), each.type)
            if known != each.type:
                message = f"{kind} {name} is mapped to two classes, {known} and {each.type}"
                self.mistakes.append(Mistake(each.path, message, mapping.file, each.line, "mapping.class"))
            table.setdefault(name, each.type)

    def _errors(self, version: Version, mapping: Mapping) -> None:
        for status, message, line in mapping.errors:
            known, where = self._messages.setdefault(status, (message, f"{mapping.file}:{line}"))
            if known != message:
                text = f"the error {status} has another message in {where}"
                self.mistakes.append(Mistake("errors", text, mapping.file, line, "mapping.error"))
            version.errors.setdefault(status, message)

    def _endpoint(self, version: Version, endpoint: Endpoint) -> None:
        first = self._patterns.setdefault((endpoint.method, endpoint.pattern), endpoint)
        if first is not endpoint:
            message = f"external path {endpoint.method} {endpoint.pattern} is duplicated in mappings"
            path = f"{endpoint.path}: first in {first.file}:{first.line}"
            self.mistakes.append(Mistake(path, message, endpoint.file, endpoint.line, "mapping.duplicate"))
            return
        action = self._resolved("action", version.actions, endpoint, endpoint.actions)
        filter = self._resolved("filter", version.filters, endpoint, endpoint.filters)
        version.endpoints.append(Use(endpoint, action, filter))
        self._remark(endpoint)

    def _resolved(
        self, kind: str, table: dict[str, str], endpoint: Endpoint, given: tuple[PluginName, ...]
    ) -> PluginName | None:
        if not given:
            return None
        last = given[-1]
        if len(given) > 1:
            self._warn(endpoint, f"several {kind}s; only the last one counts")
        if last.type:
            return last
        if last.name not in table:
            message = f"{kind} {last.name} not mapped to class"
            self.mistakes.append(Mistake(last.path, message, endpoint.file, last.line, "mapping.name"))
            return None
        return PluginName(last.name, table[last.name], last.line, last.path)

    def _remark(self, endpoint: Endpoint) -> None:
        if endpoint.auth_type not in (None, "user", "client-app"):
            self._warn(endpoint, f"authType {endpoint.auth_type!r} is neither user nor client-app: nothing passes")
        if endpoint.scope and endpoint.auth_type is None:
            self._warn(endpoint, "scope without authType is not checked: the endpoint is public")

    def _warn(self, endpoint: Endpoint, message: str) -> None:
        self.warnings.append(Mistake(endpoint.path, message, endpoint.file, endpoint.line))


def pieces(endpoint: Endpoint) -> tuple[Piece, ...]:
    """The public path of an endpoint. ValueError says what is wrong with it."""
    pairs = _pairs(endpoint)
    if not endpoint.external.startswith("/"):
        raise ValueError("it begins with no slash")
    if endpoint.legacy:
        return checked(tuple(_legacy(endpoint.external, pairs)))
    parts: list[Piece] = []
    for at, part in enumerate(NAMED.split(endpoint.external)):
        if at % 2 == 0:
            parts.extend([Fixed(part)] if part else [])
        elif part in pairs:
            parts.append(Variable(part, pairs[part]))
        else:
            raise ValueError(f"{{{part}}} has no expression in varName and varExpression")
    return checked(tuple(parts))


def _pairs(endpoint: Endpoint) -> dict[str, str]:
    """Variable -> its expression, without a final `$`."""
    names = endpoint.var_name.split(" ") if endpoint.var_name is not None else []
    expressions = endpoint.var_expression.split(" ") if endpoint.var_expression is not None else []
    if len(names) != len(expressions):
        raise ValueError(f"varName has {len(names)} names and varExpression {len(expressions)} expressions")
    for name, expression in zip(names, expressions, strict=True):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:64]!r} in varName is no name; names are separated by one blank")
        if names.count(name) > 1:
            raise ValueError(f"varName names {name} twice")
        if not expression or (reason := check(expression)):
            raise ValueError(f"the expression of {{{name}}}: {reason if expression else 'it is empty'}")
    return {name: _without_end(expression) for name, expression in zip(names, expressions, strict=True)}


def _without_end(expression: str) -> str:
    rest = expression.removesuffix("$")
    escapes = len(rest) - len(rest.rstrip("\\"))
    return rest if rest and escapes % 2 == 0 else expression


def _legacy(text: str, pairs: dict[str, str]) -> list[Piece]:
    """One regular expression with variables in it, cut at its slashes so that its segments can be told apart."""
    parts: list[Piece] = []
    for at, part in enumerate(HOLE.split(text)):
        if at % 2 == 0:
            parts.extend(_chunk(chunk) for chunk in _cut(part) if chunk)
        elif part in pairs:
            parts.append(Variable(part, pairs[part]))
        else:
            raise ValueError(f"{{{part}}} has no expression in varName and varExpression")
    return [*_joined(parts)]


def _joined(parts: list[Piece]) -> Iterator[Piece]:
    """The pieces, fixed text in a row made one."""
    text = ""
    for part in parts:
        if isinstance(part, Fixed):
            text += part.text
            continue
        if text:
            yield Fixed(text)
        text = ""
        yield part
    if text:
        yield Fixed(text)


def _chunk(text: str) -> Piece:
    if LITERAL.fullmatch(text):
        return Fixed(re.sub(r"\\(.)", r"\1", text))
    if reason := check(text):
        raise ValueError(f"{text[:64]!r}: {reason}")
    return Variable("", text)


def _cut(text: str) -> list[str]:
    """A regular expression cut at each slash that stands outside of groups and sets."""
    chunks, start, depth, at = list[str](), 0, 0, 0
    bracket = False
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif bracket:
            bracket = character != "]"
        elif character == "[":
            bracket = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            raise ValueError("an alternative (`|`) stands in parentheses")
        elif character == "/" and not depth and text[at + 1 : at + 2] not in ("?", "*", "+", "{"):
            chunks += [text[start:at], "/"]
            start = at + 1
        at += 1
    return [*chunks, text[start:]]


def listing(versions: dict[str, Version]) -> dict[str, object]:
    """All versions as `GET /apifest-mappings` shows them, values as in the files."""
    return {name: _version(version) for name, version in versions.items()}


def _version(version: Version) -> dict[str, object]:
    return {
        "mappings": _keyed(version.endpoints),
        "actions": version.actions,
        "filters": version.filters,
        "errors": {str(status): version.errors[status] for status in sorted(version.errors)},
    }


def _keyed(uses: list[Use]) -> dict[str, object]:
    """Endpoints by the key of their pattern; where keys collide, `.2`, `.3` in (method, pattern) order."""
    keys: dict[tuple[str, str], str] = {}
    often: dict[str, int] = {}
    for use in sorted(uses, key=lambda use: (use.endpoint.method, use.endpoint.pattern)):
        key = pattern_key(use.endpoint.method, use.endpoint.pattern)
        often[key] = often.get(key, 0) + 1
        keys[use.endpoint.method, use.endpoint.pattern] = key if often[key] == 1 else f"{key}.{often[key]}"
    return {keys[use.endpoint.method, use.endpoint.pattern]: _listed(use) for use in uses}


def _listed(use: Use) -> dict[str, object]:
    point = use.endpoint
    members = {
        "backendPort": point.port,
        "backendHost": point.host,
        "varExpression": point.var_expression,
        "varName": point.var_name,
        "authType": point.auth_type,
        "scope": point.scope,
        "method": point.method,
        "internalEndpoint": point.internal,
        "externalEndpoint": point.external,
        "action": _plugin(use.action, "actionClassName"),
        "filter": _plugin(use.filter, "filterClassName"),
        "customProperties": point.properties,
    }
    return {name: value for name, value in members.items() if value is not None}


def _plugin(plugin: PluginName | None, member: str) -> dict[str, str] | None:
    if plugin is None:
        return None
    return {"name": plugin.name, member: plugin.type} if plugin.name else {member: plugin.type}


def pattern_key(method: str, pattern: str) -> str:
    """`com.apifest.MappingPattern@` and the hash code that ApiFest's own objects have."""
    return f"com.apifest.MappingPattern@{((31 + _hash(method)) * 31 + _hash(pattern)) & 0xFFFFFFFF:x}"


def _hash(text: str) -> int:
    """Java's String.hashCode, as an unsigned number."""
    code = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for high, low in zip(units[::2], units[1::2], strict=True):
        code = (31 * code + (high << 8 | low)) & 0xFFFFFFFF
    return code


HEADS = {
    "mapping.schema": "mappings configuration file {} is not valid against schema",
    "errors.schema": "global errors configuration file {} is not valid against schema",
}


def told(mistake: Mistake) -> str:
    """A mistake as ApiFest's reload tells it: its own sentence, then where and what exactly."""
    place = f"{mistake.file}:{mistake.line}" if mistake.file else "environment"
    if mistake.code in HEADS:
        name = mistake.file.rpartition("/")[2]
        return f"{HEADS[mistake.code].format(name)} ({place}: {mistake.message})"
    return f"{mistake.message} ({place}: {mistake.path or 'the file'})"
