"""Large configurations: half of the routes exact, half with a variable, every other of these with an expression.

A route's backend path begins with /gN, N being the generation of the configuration, so that an echo backend's answer
says which route and which configuration were used.
"""

from bench.ostiary import Settings

UPSTREAM = "backend"


def settings(backend: int) -> Settings:
    """What stands beside the routes."""
    return {"upstreams": {UPSTREAM: {"servers": [f"127.0.0.1:{backend}"]}}}


def routes(count: int, generation: int = 0) -> list[Settings]:
    """`count` routes of one generation."""
    return [_exact(number, generation) if number % 2 == 0 else _variable(number, generation) for number in range(count)]


def _exact(number: int, generation: int) -> Settings:
    match = f"GET /v1.0/services/s{number}/status"
    return {"match": match, "to": f"/g{generation}/exact/{number}", "upstream": UPSTREAM}


def _variable(number: int, generation: int) -> Settings:
    variable = "{id:[0-9]+}" if number % 4 == 1 else "{id}"
    match = f"GET /v1.0/services/s{number}/items/{variable}"
    return {"match": match, "to": f"/g{generation}/items/{number}/{{id}}", "upstream": UPSTREAM}


Paths = list[tuple[str, str]]


def distinct(paths: Paths, count: int) -> Paths:
    """`count` request targets over these paths, no two the same: a query tells them apart."""
    turns = (paths[number % len(paths)] for number in range(count))
    return [(f"{path}?n={number}", f"{text}?n={number}") for number, (path, text) in enumerate(turns)]


def exact_paths(count: int) -> Paths:
    """Public path of each exact route, and what follows /gN in its backend path."""
    return [(f"/v1.0/services/s{number}/status", f"/exact/{number}") for number in range(0, count, 2)]


def variable_paths(count: int) -> Paths:
    """The same of the routes with variables."""
    numbers = range(1, count, 2)
    return [(f"/v1.0/services/s{number}/items/{number % 977}", f"/items/{number}/{number % 977}") for number in numbers]
