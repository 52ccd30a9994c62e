"""The reference of the configuration, written from the declarations: docs/configuration.md is its text."""

from typing import Any, Literal, get_args, get_origin

from ostiary.core.configuration.binding import expected
from ostiary.core.configuration.declared import Field, fields, is_section, plain
from ostiary.core.configuration.measure import shown
from ostiary.core.configuration.settings import Settings
from ostiary.core.configuration.settings.section import Section

HEAD = """\
# Configuration

One file says everything: `ostiary.yaml` (or `.json`, `.toml`), given by `ostiary serve --config FILE`. Every part has a
default, so an empty file is a configuration too. This page is written from the declarations in the code.

```yaml
upstreams:
  countries: {servers: ["127.0.0.1:5000", "127.0.0.1:5001"]}
routes:
  - match: "GET /v1.0/countries/{code:[A-Z]{3}}"
    to: /countries/{code}
    upstream: countries
    require: {token: client-app, scope: basic}
```

## How it is read

- **All mistakes at once**, each with file, line, place and what to do: by `ostiary validate`, at the start, and at a
  reload. A configuration with a mistake changes nothing; the old one keeps serving.
- `include: [FILE, "conf.d/*.yaml"]` in the main file takes in others. Mappings are united, lists are joined in that
  order; one value said in two files is a mistake. Names of files start at the main file's directory.
- **Environment.** `OSTIARY_` and the key of a setting (`log.level` is `OSTIARY_LOG_LEVEL`) stands above the files; an
  empty variable counts as none. Lists are separated by commas. It is read when Ostiary starts.
- **Secrets** are text, `{env: NAME}` or `{file: PATH}` (a final line break is dropped), and are never shown.
- **Durations** are a whole number and `us`, `ms`, `s`, `m`, `h` or `d`; **sizes** one and `B`, `KiB`, `MiB`, `GiB` or
  `TiB` (or `K`, `M`, `G`, `T`, which mean the same). In YAML, `no` and `on` are text, a key stands once, anchors and
  `<<` work, tags do not.
- **Reload**: SIGHUP, `ostiary config reload`, or any surface that offers it. Settings marked *restart* are taken when
  Ostiary starts; a reload names those that changed.

## Routes

`match` is methods, one blank, and a path. Methods are one (`GET`), some (`GET,POST`) or any (`*`). In the path `{name}`
stands for one segment or a part of one, `{name:EXPRESSION}` for what the expression matches; an expression that can
match a slash may reach over several segments. Expressions run in linear time or are refused. The whole path is matched,
after it was normalised. Which route goes first never depends on chance: one without variables, then segment by segment
fixed text before variables and longer fixed text first. Two routes that match the same path with nothing to tell them
apart are a mistake.

A limit that a route writes out is its own; routes that name one of `limits` share it.

ApiFest mapping files (`mappings`) are read as they are, and `dialects.apifest.classes` says which plug-in stands for a
Java class. Where two of their endpoints match the same path, the earlier one goes.

## Settings
"""


def reference() -> str:
    """The whole page, in Markdown."""
    parts = [HEAD, *_section(Settings, "", "")]
    return "\n".join(parts).rstrip() + "\n"


def _section(section: type[Section], path: str, title: str) -> list[str]:
    leaves, inner = [], []
    for each in fields(section):
        place = f"{path}.{each.name}" if path else each.name
        if is_section(each.type):
            inner += _section(each.type, place, f"### `{place}`: {each.description}")
        else:
            leaves.append(_row(each))
            if items := _item(each.type):
                each_of = place + {list: "[]", dict: ".NAME"}.get(get_origin(each.type), "")
                inner += _section(items, each_of, f"### `{each_of}`: {_first_line(items)}")
    table = [title, "", "| setting | default | example | meaning |", "|---|---|---|---|", *leaves, ""] if leaves else []
    return [*table, *inner]


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").partition("\n")[0].rstrip(".")


def _item(kind: Any) -> type[Section] | None:
    """The section that each item of a list or mapping is."""
    for argument in get_args(kind):
        for choice in (plain(argument), *map(plain, get_args(plain(argument)))):
            if is_section(choice):
                return choice
    return None


def _row(each: Field) -> str:
    meaning = each.description
    if get_origin(each.type) is Literal:
        meaning += f" ({expected(each.type)})"
    if each.restart:
        meaning += " *restart*"
    default = _default(each)
    example = f"`{each.example}`" if each.example and f"`{each.example}`" != default else ""
    return f"| `{each.name}` | {default} | {example} | {meaning} |"


def _default(each: Field) -> str:
    if each.required:
        return "*required*"
    value = shown(each.default)
    if value is None:
        return "absent"
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list) else f"`{value}`"
