"""Settings of routes: what they require, limit and pass through, and where mapping files and plug-ins are."""

from typing import Annotated, Literal

from ostiary.core.configuration.measure import Duration, Size, Timeout
from ostiary.core.configuration.settings.section import Body, Name, PluginUse, Positive, Section, Status, about
from ostiary.core.snapshot import SECOND


class LimitSettings(Section, frozen=True):
    """A rate limit; all of it may come at once."""

    requests: Annotated[Positive, about("how many requests", "100")]
    per: Annotated[Timeout, about("in which time", "1s")] = Timeout(SECOND)
    by: Annotated[
        Literal["client", "user", "address", "route"],
        about("counted for each client application, user or address, or for all requests together", "client"),
    ] = "client"


ANY_CLIENT: Literal["client-app"] = "client-app"


class RequireSettings(Section, frozen=True):
    """What the token of a request must be."""

    token: Annotated[
        Literal["client-app", "user"], about("user: a token with a user; client-app: any token", "user")
    ] = ANY_CLIENT
    scope: Annotated[
        str | list[str], about("one of these scopes; text separated by blanks, or a list; empty: any token", "basic")
    ] = ""


class RouteSettings(Section, frozen=True):
    """A public method and path, what it requires, and the backend path that it becomes."""

    match: Annotated[
        str,
        about(
            "methods (one, some with commas, or *) and path; {name} is one segment, {name:EXPRESSION} what it matches",
            "GET /v1.0/countries/{code:[A-Z]{3}}",
        ),
    ]
    upstream: Annotated[str, about("name of the upstream", "countries")]
    to: Annotated[str, about("path at the backend, {name} filled in; absent: the public path", "/countries/{code}")] = (
        ""
    )
    require: Annotated[
        RequireSettings | None, about("the token it takes; absent: public", "{token: user, scope: basic}")
    ] = None
    limit: Annotated[
        str | LimitSettings | None, about("a name from limits, or a limit of its own", "{requests: 5, per: 1m}")
    ] = None
    actions: Annotated[
        list[PluginUse], about("plug-ins on the request: a name, or {name: {its arguments}}", "[replace_user_id]")
    ] = []
    filters: Annotated[
        list[PluginUse], about("plug-ins on the response", "[{remove_json_field: {field: balance}}]")
    ] = []
    errors: Annotated[
        dict[Status, Body], about("bodies that replace backend answers of these statuses", "{404: {error: unknown}}")
    ] = {}
    keep_authorization: Annotated[bool, about("send the Authorization header on to the backend", "false")] = False
    max_body: Annotated[Size | None, about("request body; absent: the gateway's limit", "1MiB")] = None
    timeout: Annotated[Duration, about("for the whole exchange; 0s: no limit", "0s")] = Duration(0)
    director_tag: Annotated[
        str, about("tag of the director's hosts that serve it, unless the token's details name one", "eu")
    ] = ""


class MappingFiles(Section, frozen=True):
    """ApiFest mapping files that are read alike."""

    files: Annotated[str, about("a file, a directory, or a pattern", "mappings/*.xml")]
    legacy_regex: Annotated[bool, about("read external paths as one regular expression, as ApiFest did", "true")] = (
        False
    )


class PluginSettings(Section, frozen=True):
    """Plug-ins beside the bundled ones. Nothing that is not named here is ever imported."""

    directory: Annotated[str, about("where plug-in files are", "plugins")] = ""
    names: Annotated[
        dict[Name, str], about("name -> FILE.py:ATTRIBUTE in the directory, or entry-point", "{sign: sign.py:sign}")
    ] = {}
