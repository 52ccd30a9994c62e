"""Settings of managed workloads."""

from typing import Annotated, Literal

from msgspec import Meta

from ostiary.core.configuration.measure import Duration, Secret, Size, Timeout
from ostiary.core.configuration.settings.section import Name, PortNumber, Positive, Section, about
from ostiary.core.snapshot import SECOND


class DropletHealthSettings(Section, frozen=True):
    """Looking after a droplet: by HTTP, or by a connection."""

    http: Annotated[str, about("path that is asked; healthy: a status below 400", "/healthz")] = ""
    tcp: Annotated[PortNumber | None, about("port of the template that must take a connection", "80")] = None
    port: Annotated[PortNumber | None, about("http: port of the template; absent: its first", "80")] = None
    every: Annotated[Timeout, about("time between two looks", "2s")] = Timeout(2 * SECOND)
    timeout: Annotated[Timeout, about("until the answer must be there", "1s")] = Timeout(SECOND)
    healthy_after: Annotated[Positive, about("successes in a row that make it healthy", "1")] = 1
    unhealthy_after: Annotated[Positive, about("failures in a row that make it unhealthy", "3")] = 3


class DropletStopSettings(Section, frozen=True):
    """How a droplet is ended."""

    signal: Annotated[
        Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"], about("the signal that asks it to end", "TERM")
    ] = "TERM"
    timeout: Annotated[Timeout, about("until what is left of it is killed", "10s")] = Timeout(10 * SECOND)
    drain: Annotated[Duration, about("before the signal: what requests in flight have to end", "10s")] = Duration(
        10 * SECOND
    )


class DropletRestartSettings(Section, frozen=True):
    """What follows when a droplet ends by itself."""

    policy: Annotated[
        Literal["never", "on_failure", "always"], about("on_failure: unless its exit code is 0", "on_failure")
    ] = "on_failure"
    max: Annotated[Annotated[int, Meta(ge=0, le=1_000_000)], about("restarts without quiet between them", "5")] = 5
    first_wait: Annotated[Timeout, about("before the first restart; each further wait is twice as long", "1s")] = (
        Timeout(SECOND)
    )
    max_wait: Annotated[Timeout, about("the longest wait", "60s")] = Timeout(60 * SECOND)
    reset_after: Annotated[Timeout, about("running so long counts as quiet", "60s")] = Timeout(60 * SECOND)


class DropletLimitSettings(Section, frozen=True):
    """What a droplet may use."""

    memory: Annotated[Size | None, about("absent: no limit", "256MiB")] = None
    cpu: Annotated[float | None, about("cores; absent: no limit", "0.5")] = None
    pids: Annotated[Positive | None, about("processes and threads; absent: no limit", "128")] = None


class TemplateSettings(Section, frozen=True):
    """What droplets are made from."""

    default: Annotated[bool, about("taken where none is named; exactly one template is the default", "true")] = False
    command: Annotated[
        list[str],
        about(
            "program and arguments, through no shell; {port}, {port:N}, {name} and {python} are filled in, {{ is {",
            '["{python}", "-m", "http.server", "{port:80}", "--bind", "127.0.0.1"]',
        ),
    ] = []
    image: Annotated[str, about("docker: the image", "registry.example/web:3")] = ""
    ports: Annotated[list[PortNumber], about("each is reached at a free port of 127.0.0.1", "[80]")] = []
    env: Annotated[dict[str, Secret], about("environment", "{MODE: prod, KEY: {env: KEY}}")] = {}
    limits: Annotated[DropletLimitSettings, about("what it may use")] = DropletLimitSettings()
    user: Annotated[str, about("whom it runs as; empty: as Ostiary, or as the image says", "nobody")] = ""
    mounts: Annotated[list[str], about("docker: HOST:INSIDE or HOST:INSIDE:ro", '["/srv/web:/data:ro"]')] = []
    health: Annotated[DropletHealthSettings | None, about("absent: it is ready when it has lived for a second")] = None
    start_timeout: Annotated[Timeout, about("until it must be healthy", "60s")] = Timeout(60 * SECOND)
    stop: Annotated[DropletStopSettings, about("how it is ended")] = DropletStopSettings()
    restart: Annotated[DropletRestartSettings, about("what follows when it ends by itself")] = DropletRestartSettings()
    types: Annotated[
        dict[str, list[str]], about("an app's process types and their commands; absent: web is the command")
    ] = {}


class DockerSettings(Section, frozen=True):
    """The engine that runs containers: Docker's, or Podman's with the same interface."""

    socket: Annotated[str, about("its Unix socket", "/run/podman/podman.sock", restart=True)] = "/var/run/docker.sock"
    pull: Annotated[Literal["missing", "never", "always"], about("when images are fetched", "missing")] = "missing"


class DropletSettings(Section, frozen=True):
    """Managed workloads of this node."""

    driver: Annotated[
        Literal["process", "docker"], about("who runs them: local processes, or containers", "process", restart=True)
    ] = "process"
    docker: Annotated[DockerSettings, about("the engine of containers")] = DockerSettings()
    prefix: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,30}$")],
        about("names that Ostiary gives: this and a number", "droplet"),
    ] = "droplet"
    max: Annotated[Annotated[int, Meta(ge=0, le=10_000)], about("how many there may be", "100")] = 100
    concurrency: Annotated[Annotated[int, Meta(ge=1, le=1000)], about("so many are launched at once", "4")] = 4
    lock_timeout: Annotated[Timeout, about("how long an operation waits for another on the same", "30s")] = Timeout(
        30 * SECOND
    )
    on_stop: Annotated[
        Literal["stop", "keep"] | None,
        about("what becomes of them when Ostiary is stopped; absent: process stop, docker keep", "keep"),
    ] = None
    images: Annotated[
        list[str], about("docker: patterns of images that apps may name; * and ?", '["registry.example/*"]')
    ] = []
    templates: Annotated[dict[Name, TemplateSettings], about("what they are made from")] = {}
