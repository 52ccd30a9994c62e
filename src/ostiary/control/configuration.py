"""Configuration: files and environment -> settings, mapping files and every mistake in them, each with its place.

    read -> put together -> environment -> bind -> paths made absolute -> mapping files -> compile

`load` reads through a Reader, so that a revision out of the store is loaded just as the files on the disk are.
"""

import posixpath
import shlex
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from ostiary.control.appendable import check_appendable
from ostiary.control.plugged import problem
from ostiary.control.sources import Reader, Recorder, Sources
from ostiary.core.configuration.assembly import Assembly, unused
from ostiary.core.configuration.binding import Binder, Fault, Where
from ostiary.core.configuration.catalogue import Catalogue
from ostiary.core.configuration.compile import Compiled, Compiler
from ostiary.core.configuration.document import read
from ostiary.core.configuration.keys import KEYS, value_of, values
from ostiary.core.configuration.mapping import GlobalErrors, Merger, Version
from ostiary.core.configuration.mapping import Mapping as MappingFile
from ostiary.core.configuration.mapping_file import read_global_errors, read_mapping
from ostiary.core.configuration.measure import Url
from ostiary.core.configuration.settings import MappingFiles, Settings
from ostiary.core.configuration.source import Document
from ostiary.core.oauth import BUILT_IN_GRANTS
from ostiary.core.refusal import Mistake

SQLITE, POSTGRESQL = "sqlite:///", "postgresql://"
MOST_LISTED = 1000
"""Mistakes, changed settings or routes that are named at most."""
Hold = Callable[[Settings], Settings]
"""Settings -> the same, with what needs a restart as it runs."""


class Origin(Struct, frozen=True, rename={"source": "from"}):
    """Where a setting's value comes from, and whether a reload can change it."""

    source: str
    """`default`, `file` or `environment`."""
    reloadable: bool
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    name: str | UnsetType = UNSET
    """The variable."""


class Loaded(Struct):
    """What was read. Where there are mistakes, `settings` are as much as could be made out."""

    settings: Settings
    origins: dict[str, Origin]
    mistakes: list[Mistake]
    warnings: list[Mistake]
    mappings: list[MappingFile]
    global_errors: GlobalErrors | None
    sources: Sources
    assembly: Assembly
    broken: list[Where]
    """Parts that could not be made out."""


class Built(Struct, frozen=True):
    """A configuration that has no mistakes, compiled, and what the operations show of it."""

    settings: Settings
    """Without the routes, which `compiled` has."""
    origins: dict[str, Origin]
    compiled: Compiled
    versions: dict[str, Version]
    mapping_files: int
    warnings: list[Mistake]
    sources: Sources


def load(path: Path, environ: Mapping[str, str], reader: Reader) -> Loaded:
    """Everything that the main file `path` says, and all that is wrong with it. Never raises for what it reads."""
    return _Loading(path, environ, reader).run()


def build(loaded: Loaded, catalogue: Catalogue, public: str, hold: Hold | None = None) -> Built | list[Mistake]:
    """The compiled configuration, revision 0; or all mistakes, in file order. `hold` keeps what needs a restart."""
    settings = hold(loaded.settings) if hold else loaded.settings
    merger = Merger()
    merger.merge(loaded.mappings)
    compiler = Compiler(settings, merger, loaded.global_errors, catalogue, public, loaded.broken)
    compiled = compiler.run(0)
    faults = [loaded.assembly.mistake(*fault) for fault in (*compiler.faults, *plugged_faults(settings))]
    mistakes = [*loaded.mistakes, *faults, *compiler.mistakes]
    if mistakes:
        return told(in_order(mistakes, loaded.sources), loaded.sources)
    return Built(
        replace(settings, routes=[]),
        loaded.origins,
        compiled,
        merger.versions,
        len(loaded.mappings),
        in_order([*loaded.warnings, *compiler.warnings], loaded.sources),
        loaded.sources,
    )


def plugged_faults(settings: Settings) -> list[Fault]:
    """Plug-ins that authenticate people and cannot be had, and grants that have a name of Ostiary's own."""
    oauth, faults = settings.oauth, []
    if oauth.authenticator != "ostiary" and (why := problem("authenticators", oauth.authenticator)):
        faults.append(Fault(("oauth", "authenticator"), why))
    for name, plugin in oauth.grants.items():
        why = "is a grant that Ostiary has itself" if name in BUILT_IN_GRANTS else problem("grants", plugin)
        if why:
            faults.append(Fault(("oauth", "grants", name), why))
    return faults


def told(mistakes: list[Mistake], sources: Sources) -> list[Mistake]:
    """As many as anybody reads; more would keep the event loop busy with telling them."""
    rest = len(mistakes) - MOST_LISTED
    more = [Mistake("", f"{rest} more mistakes are not listed", sources.main)] if rest > 0 else []
    return [*mistakes[:MOST_LISTED], *more]


def in_order(mistakes: list[Mistake], sources: Sources) -> list[Mistake]:
    """By file, in the order in which they were read, then by line; those of the environment last."""
    rank = {name: number for number, name in enumerate(sources.files)}
    return sorted(
        dict.fromkeys(mistakes), key=lambda each: (rank.get(each.file, 0 if each.file else 1 << 30), each.line)
    )


class _Loading:
    def __init__(self, path: Path, environ: Mapping[str, str], reader: Reader) -> None:
        self._root = path.parent.absolute()
        self._main = path.name
        self._environ = environ
        self._reader = Recorder(reader, path.name)
        self._assembly = Assembly()
        self._mistakes: list[Mistake] = []
        self._warnings: list[Mistake] = []
        self._broken: list[Where] = []

    def run(self) -> Loaded:
        document = self._add(self._main)
        if document is not None:
            self._include(document)
        self._assembly.override(self._environ)
        self._warnings += (Mistake("", text) for text in unused(self._environ))
        settings = self._bound()
        self._warn_of_trust(settings)
        mappings = self._mappings(settings)
        global_errors = self._global_errors(settings)
        return Loaded(
            resolved(settings, self._root),
            origins(self._assembly),
            [*self._assembly.mistakes, *self._mistakes],
            self._warnings,
            mappings,
            global_errors,
            self._reader.sources,
            self._assembly,
            self._broken,
        )

    def _add(self, name: str) -> Document | None:
        """Take in a document; it is given back with what it wants included, which is for the main one only."""
        try:
            document = read(self._reader.read(name), name)
        except OSError as problem:
            self._mistakes.append(Mistake("", f"cannot be read: {reason(problem)}", name))
            return None
        if "include" in document.data and name != self._main:
            where = document.line(("include",))
            self._mistakes.append(Mistake("include", "only the main file includes others", name, where))
        said = {name: value for name, value in document.data.items() if name != "include"}
        self._assembly.add(document._replace(data=said), name)
        return document

    def _include(self, document: Document) -> None:
        patterns = document.data.get("include") or []
        for index, pattern in enumerate(patterns if isinstance(patterns, list) else [patterns]):
            place = f"include[{index}]", document.line(("include", index))
            for name in self._included(pattern, *place):
                self._add(name)

    def _included(self, pattern: object, path: str, line: int) -> list[str]:
        text = "expected a file name or pattern"
        if isinstance(pattern, str) and pattern:
            try:
                return [name for name in self._reader.match(pattern) if name != self._main]
            except OSError as problem:
                text = f"{pattern} cannot be included: {reason(problem)}"
        self._mistakes.append(Mistake(path, text, self._main, line))
        return []

    def _bound(self) -> Settings:
        binder = Binder(self._secret)
        settings = binder.settings(self._assembly.data)
        self._broken = [fault.where for fault in binder.faults]
        broken = {where[:2] for where in self._broken}
        further = [fault for fault in checks(resolved(settings, self._root)) if fault.where[:2] not in broken]
        self._mistakes += (self._assembly.mistake(*fault) for fault in (*binder.faults, *further))
        return settings

    def _warn_of_trust(self, settings: Settings) -> None:
        networks = settings.dialects.apifest.trusted_networks
        if networks:
            text = f"peers of the admin listener in {', '.join(networks)} need no credentials on ApiFest's paths"
            self._warnings.append(self._assembly.mistake(("dialects", "apifest", "trusted_networks"), text))

    def _secret(self, source: str, name: str) -> str:
        if source == "env":
            if name not in self._environ:
                raise ValueError(f"the environment has no variable {name[:64]}")
            return self._environ[name]
        try:
            return self._reader.secret(name).decode().removesuffix("\n")
        except OSError as problem:
            raise ValueError(f"{name[:200]} cannot be read: {reason(problem)}") from problem
        except UnicodeDecodeError as problem:
            raise ValueError(f"{name[:200]} is not UTF-8 text") from problem

    def _mappings(self, settings: Settings) -> list[MappingFile]:
        legacy: dict[str, bool] = {}
        for index, entry in enumerate(settings.mappings):
            files = entry if isinstance(entry, MappingFiles) else MappingFiles(entry)
            for name in self._matched(files.files, ("mappings", index)):
                if legacy.setdefault(name, files.legacy_regex) != files.legacy_regex:
                    text = f"{name} is read with legacy_regex by one entry and without by another"
                    self._mistakes.append(self._assembly.mistake(("mappings", index), text))
        return [mapping for name in sorted(legacy, key=str.encode) for mapping in self._mapping(name, legacy[name])]

    def _matched(self, pattern: str, where: Where) -> list[str]:
        if where[:2] in [broken[:2] for broken in self._broken]:
            return []
        try:
            return [posixpath.normpath(name) for name in self._reader.match(pattern)]
        except OSError:
            text = f"Cannot load mapping configuration from directory {pattern}"
            self._mistakes.append(self._assembly.mistake(where, text, "mapping.absent"))
            return []

    def _mapping(self, name: str, legacy: bool) -> Iterator[MappingFile]:
        try:
            mapping, mistakes = read_mapping(self._reader.read(name), name, legacy)
        except OSError as problem:
            mapping, mistakes = None, [Mistake("", f"cannot be read: {reason(problem)}", name, 0, "mapping.schema")]
        self._mistakes += mistakes
        if mapping is not None:
            yield mapping

    def _global_errors(self, settings: Settings) -> GlobalErrors | None:
        name = settings.dialects.apifest.global_errors
        if not name:
            return None
        try:
            found, mistakes = read_global_errors(self._reader.read(name), name)
        except OSError:
            text = f"Cannot load global errors configuration from directory {name}"
            where = ("dialects", "apifest", "global_errors")
            found, mistakes = None, [self._assembly.mistake(where, text, "errors.absent")]
        self._mistakes += mistakes
        return found


def reason(problem: OSError) -> str:
    """Why a file cannot be had, without its name."""
    return problem.strerror or str(problem)


def origins(assembly: Assembly) -> dict[str, Origin]:
    """Where the value of each key comes from."""
    return {key: _origin(assembly, each.path, not each.restart) for key, each in KEYS.items()}


def _origin(assembly: Assembly, path: tuple[str, ...], reloadable: bool) -> Origin:
    if not assembly.given(path):
        return Origin("default", reloadable)
    place = assembly.place(path)
    if place.name:
        return Origin("environment", reloadable, name=place.name)
    return Origin("file", reloadable, file=place.file, line=place.line)


def resolved(settings: Settings, root: Path) -> Settings:
    """Settings with every path absolute; relative ones start at the configuration's directory."""

    def absolute(name: str) -> str:
        return posixpath.normpath(root / name) if name else ""

    state = absolute(settings.state_dir or "var")
    gateway, access, plugins = settings.gateway, settings.log.access, settings.plugins
    tls = gateway.tls
    if tls:
        files = {name: absolute(getattr(tls, name)) for name in ("certificate", "key", "client_ca")}
        gateway = replace(gateway, tls=replace(tls, **files))
    upstreams = dict(settings.upstreams)
    for name, each in settings.upstreams.items():
        if each.tls:
            files = {part: absolute(getattr(each.tls, part)) for part in ("ca", "certificate", "key")}
            upstreams[name] = replace(each, tls=replace(each.tls, **files))
    return replace(
        settings,
        state_dir=state,
        pid_file=absolute(settings.pid_file) or f"{state}/ostiary.pid",
        store=replace(settings.store, url=_store(settings.store.url, root, state)),
        gateway=gateway,
        upstreams=upstreams,
        log=replace(settings.log, access=access if access in ("", "-") else absolute(access)),
        plugins=replace(plugins, directory=absolute(plugins.directory)),
    )


def _store(url: Url, root: Path, state: str) -> Url:
    if url and not url.startswith(SQLITE):
        return url
    return Url(SQLITE + posixpath.normpath(root / url.removeprefix(SQLITE) if url else f"{state}/ostiary.db"))


def checks(settings: Settings) -> Iterator[Fault]:
    """What only the machine can tell: whether certificates and keys can be used, and the access log be written."""
    if not settings.store.url.startswith((SQLITE, POSTGRESQL)):
        yield Fault(("store", "url"), "expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")
    yield from _access_log(settings.log.access)
    tls = settings.gateway.tls
    if tls:
        yield from _pair(tls.certificate, tls.key, ("gateway", "tls"))
        yield from _authorities(tls.client_ca, ("gateway", "tls", "client_ca"))
    for name, each in settings.upstreams.items():
        if each.tls:
            where = ("upstreams", name, "tls")
            yield from _authorities(each.tls.ca, (*where, "ca"))
            if bool(each.tls.certificate) != bool(each.tls.key):
                yield Fault(where, "certificate and key stand together or not at all")
            elif each.tls.certificate:
                yield from _pair(each.tls.certificate, each.tls.key, where)


def _access_log(file: str) -> Iterator[Fault]:
    try:
        if file not in ("", "-"):
            check_appendable(file)
    except OSError as problem:
        yield Fault(("log", "access"), f"{file[:200]} cannot be written: {reason(problem)}")


def _pair(certificate: str, key: str, where: Where) -> Iterator[Fault]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yield from _tried((*where, "certificate"), lambda: Path(certificate).read_bytes())
    yield from _tried((*where, "key"), lambda: Path(key).read_bytes())
    if Path(certificate).is_file() and Path(key).is_file():
        yield from _tried((*where, "key"), lambda: context.load_cert_chain(certificate, key, lambda: ""))


def _authorities(file: str, where: Where) -> Iterator[Fault]:
    if file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        yield from _tried(where, lambda: context.load_verify_locations(file))


def _tried(where: Where, use: Callable[[], object]) -> Iterator[Fault]:
    try:
        use()
    except ssl.SSLError as problem:
        said = (problem.reason or "no certificate or key in it").lower().replace("_", " ")
        yield Fault(where, f"cannot be used: {said} (keys must be PEM, without a passphrase)")
    except (OSError, ValueError) as problem:
        yield Fault(where, f"cannot be read: {reason(problem) if isinstance(problem, OSError) else 'not a file name'}")


# What the operations show


class Current(Struct, frozen=True):
    """The effective settings, secrets redacted, and where each comes from."""

    config: dict[str, Any]
    sources: dict[str, Origin]
    revision: int
    collections: dict[str, int]
    """How many routes, upstreams, mappings (files), errors and limits there are."""
    reload_command: str


def current(built: Built) -> Current:
    """What serves."""
    settings, snapshot = built.settings, built.compiled.snapshot
    counts = {
        "routes": len(built.compiled.configured),
        "upstreams": len(settings.upstreams),
        "mappings": built.mapping_files,
        "errors": len(snapshot.gateway.errors),
        "limits": len(settings.limits),
    }
    return Current(values(settings), built.origins, snapshot.revision, counts, reload_command(settings))


def reload_command(settings: Settings) -> str:
    """What tells this process to reload."""
    return f"kill -HUP $(cat {shlex.quote(settings.pid_file)})"


class ReloadableKey(Struct, frozen=True):
    """A setting that a reload can change."""

    key: str
    description: str
    example: str


class ReloadableKeys(Struct, frozen=True):
    """All of them."""

    reloadable_keys: list[ReloadableKey]
    total: int
    notes: list[str]


def reloadable_keys() -> ReloadableKeys:
    """The settings that a reload can change, as they are declared."""
    keys = [ReloadableKey(key, each.description, each.example) for key, each in KEYS.items() if not each.restart]
    notes = [
        "Routes, upstreams, mappings, errors and limits are read anew by a reload too.",
        "A variable OSTIARY_<KEY> in the environment goes before the files and is read when Ostiary starts.",
        "Other settings are taken when Ostiary starts; a reload names those that changed in restart_needed.",
    ]
    return ReloadableKeys(keys, len(keys), notes)


class ChangedKey(Struct, frozen=True):
    """A setting that has another value now; secrets are redacted in both."""

    key: str
    old: Any
    new: Any


class RouteChanges(Struct, frozen=True):
    """Names of routes, sorted, at most MOST_LISTED each; `total` is of those that serve now."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    total: int


class Changes(Struct, frozen=True):
    """What another configuration made different."""

    changed: list[ChangedKey]
    restart_needed: list[str]
    """Keys that changed and keep their values until Ostiary is started anew."""
    routes: RouteChanges

    def texts(self) -> list[str]:
        """A text a thing that is different."""
        routes = self.routes
        kinds = (("added", routes.added), ("removed", routes.removed), ("changed", routes.changed))
        return [
            *(f"{each.key}: {each.old} -> {each.new}" for each in self.changed),
            *(f"{key}: needs a restart" for key in self.restart_needed),
            *(f"route {kind}: {name}" for kind, names in kinds for name in names),
        ]


_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def changes(old: Built, new: Built, asked: Settings) -> Changes:
    """From `old` to `new`; `asked` are the new settings before those that need a restart were kept."""
    before, after = old.settings, new.settings
    shown_before, shown_after = values(before), values(after)
    changed = [
        ChangedKey(key, shown_before[key], shown_after[key])
        for key, each in sorted(KEYS.items())
        if value_of(before, each.path) != value_of(after, each.path)
    ]
    waiting = [key for key, each in sorted(KEYS.items()) if value_of(asked, each.path) != value_of(after, each.path)]
    return Changes(changed[:MOST_LISTED], waiting[:MOST_LISTED], route_changes(old.compiled, new.compiled))


def route_changes(old: Compiled, new: Compiled) -> RouteChanges:
    """Routes by name; one has changed if its backend path, upstream (by name) or policy is another."""
    if old.routes == new.routes and _shared(old) == _shared(new):
        return RouteChanges([], [], [], len(new.configured))
    before, after = _contents(old), _contents(new)
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    changed = sorted(name for name, content in after.items() if before.get(name, content) != content)
    return RouteChanges(added[:MOST_LISTED], removed[:MOST_LISTED], changed[:MOST_LISTED], len(new.configured))


def _shared(compiled: Compiled) -> object:
    """What routes refer to."""
    return [each.name for each in compiled.snapshot.upstreams], compiled.snapshot.policies


def _contents(compiled: Compiled) -> dict[str, tuple[str, str, bytes]]:
    upstreams = [each.name for each in compiled.snapshot.upstreams]
    # Error bodies go by numbers, and only texts can be put in order.
    policies = [_encode(msgspec.to_builtins(each, str_keys=True)) for each in compiled.snapshot.policies]
    return {route.name: (route.to, upstreams[route.upstream], policies[route.policy]) for route in compiled.configured}
