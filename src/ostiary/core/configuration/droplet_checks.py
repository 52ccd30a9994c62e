"""Checks of the settings of droplets: what their types cannot say."""

import re
from collections.abc import Iterator, Set

from ostiary.core.configuration.binding import Fault, Where
from ostiary.core.configuration.near import near
from ostiary.core.configuration.settings import DropletHealthSettings, Settings, TemplateSettings
from ostiary.core.droplets import MOST_VALUE, key_ok, placeholder_fault, value_ok

_TYPE = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_PATH = re.compile(r"/[!-~]{0,1023}", re.ASCII)
_MOUNT = re.compile(r"/[^:\0]*:/[^:\0]*(?::ro)?")
MOST_CORES = 1024
LEAST_CORES = 0.01


def checked_droplets(settings: Settings, broken: Set[Where]) -> Iterator[Fault]:
    """Every fault of `droplets`, and of upstreams that draw on them; but for what is `broken` anyway."""
    if ("droplets", "templates") not in broken:
        yield from _default(settings)
        for name, each in settings.droplets.templates.items():
            yield from _template(each, ("droplets", "templates", name), settings.droplets.driver)
        yield from _of_apps(settings)
    for name in settings.upstreams:
        if ("upstreams", name) not in broken:
            yield from _upstream(settings, name)


def _of_apps(settings: Settings) -> Iterator[Fault]:
    """What new apps run has to be there."""
    wanted, templates = settings.deis.template, tuple(settings.droplets.templates)
    if wanted and wanted not in templates:
        yield Fault(("deis", "template"), f"no template is named {wanted[:64]}{near(wanted, templates)}")


def _default(settings: Settings) -> Iterator[Fault]:
    templates = settings.droplets.templates
    defaults = [name for name, each in templates.items() if each.default]
    if templates and not defaults:
        yield Fault(("droplets", "templates"), "one template has to be the default: give it default: true")
    for name in defaults[1:]:
        where: Where = ("droplets", "templates", name, "default")
        yield Fault(where, f"{defaults[0]} is the default already: there is one")


def _template(each: TemplateSettings, where: Where, driver: str) -> Iterator[Fault]:
    if driver == "docker" and not each.image:
        yield Fault((*where, "image"), "a container needs an image")
    if driver == "process" and not each.command:
        yield Fault((*where, "command"), "a process needs a command")
    yield from _command(each.command, (*where, "command"), each)
    for name, command in each.types.items():
        if not _TYPE.fullmatch(name):
            yield Fault((*where, "types", name), "a process type is lower-case letters, digits and -, a letter first")
        if not command:
            yield Fault((*where, "types", name), "a process type needs a command")
        yield from _command(command, (*where, "types", name), each)
    for index, port in enumerate(each.ports):
        if port in each.ports[:index]:
            yield Fault((*where, "ports", index), f"port {port} is there already")
    yield from _env(each, where)
    if each.health is not None:
        yield from _health(each.health, each.ports, (*where, "health"))
    cpu = each.limits.cpu
    if cpu is not None and not LEAST_CORES <= cpu <= MOST_CORES:
        yield Fault((*where, "limits", "cpu"), f"expected {LEAST_CORES} to {MOST_CORES} cores")
    for index, mount in enumerate(each.mounts):
        if not _MOUNT.fullmatch(mount):
            yield Fault((*where, "mounts", index), "expected /HOST/PATH:/INSIDE/PATH, perhaps with :ro behind it")


def _command(command: list[str], where: Where, each: TemplateSettings) -> Iterator[Fault]:
    for index, argument in enumerate(command):
        if "\0" in argument:
            yield Fault((*where, index), "an argument cannot hold a NUL")
        elif wrong := placeholder_fault(argument, tuple(each.ports)):
            yield Fault((*where, index), wrong)


def _env(each: TemplateSettings, where: Where) -> Iterator[Fault]:
    for key, value in each.env.items():
        if not key_ok(key):
            yield Fault((*where, "env", key), "a variable is letters, digits and _, at most 128, no digit first")
        elif not value_ok(value.reveal()):
            yield Fault((*where, "env", key), f"a value has no NUL and at most {MOST_VALUE} bytes")


def _health(health: DropletHealthSettings, ports: list[int], where: Where) -> Iterator[Fault]:
    if bool(health.http) == (health.tcp is not None):
        yield Fault(where, "expected one of http: PATH and tcp: PORT")
        return
    if health.http and not _PATH.fullmatch(health.http):
        yield Fault((*where, "http"), "expected a path that begins with / and has no blanks")
    if health.tcp is not None and health.port is not None:
        yield Fault((*where, "port"), "tcp names its port itself")
    name = "tcp" if health.tcp is not None else "port"
    port = health.tcp or health.port
    if not ports:
        yield Fault(where, "the template has no ports")
    elif port is not None and port not in ports:
        yield Fault((*where, name), f"{port} is none of the template's ports")


def _upstream(settings: Settings, name: str) -> Iterator[Fault]:
    upstream = settings.upstreams[name]
    source, where = upstream.droplets, ("upstreams", name, "droplets")
    if source is None:
        return
    if bool(source.template) == bool(source.app):
        yield Fault(where, "expected one of template: NAME and app: NAME")
    elif source.template:
        templates = settings.droplets.templates
        template = templates.get(source.template)
        if template is None:
            names = tuple(templates)
            yield Fault(
                (*where, "template"), f"no template is named {source.template[:64]}{near(source.template, names)}"
            )
        elif not template.ports or (source.port is not None and source.port not in template.ports):
            yield Fault((*where, "port"), f"the template has {'no such port' if template.ports else 'no ports'}")
