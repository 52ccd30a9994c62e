"""The bundled plug-ins. Each shows how one is written: arguments, and one function on the request or the response."""

from typing import Literal
from urllib.parse import quote

import msgspec

from ostiary.gateway.plugins import (
    ActionFunction,
    Declaration,
    FilterFunction,
    NoArguments,
    Refuse,
    Request,
    Response,
    action,
    checked_name,
    checked_value,
    filter,
)


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """A header field: its name and the value that it gets."""

    name: str
    value: str

    def __post_init__(self) -> None:
        checked_name(self.name)
        checked_value(self.value)


class HeaderName(msgspec.Struct, forbid_unknown_fields=True):
    """The name of a header field."""

    name: str

    def __post_init__(self) -> None:
        checked_name(self.name)


class Field(msgspec.Struct, forbid_unknown_fields=True):
    """A top-level member of a JSON object and the value that it gets.

    `otherwise`: what an action does with another body: refuse it (400), or fail (500, as ApiFest's actions do).
    """

    field: str
    value: object
    otherwise: Literal["refuse", "fail"] = "refuse"


class FieldName(msgspec.Struct, forbid_unknown_fields=True):
    """The name of a top-level member of a JSON object."""

    field: str


@action("replace_user_id")
def replace_user_id(_: NoArguments) -> ActionFunction:
    """Put the token's user id, percent-encoded, where the backend path says `{userId}` or `{customerId}`."""

    def run(request: Request) -> None:
        if request.admission is None or not request.admission.user:
            raise ValueError("the token has no user")
        user = quote(request.admission.user, safe="")
        request.path = request.path.replace("{userId}", user).replace("{customerId}", user)

    return run


@action("set_header", Header)
def set_request_header(header: Header) -> ActionFunction:
    """Set a header of the request to the backend."""
    return lambda request: request.headers.set(header.name, header.value)


@action("remove_header", HeaderName)
def remove_request_header(header: HeaderName) -> ActionFunction:
    """Remove a header of the request to the backend."""
    return lambda request: request.headers.remove(header.name)


@filter("set_header", Header)
def set_response_header(header: Header) -> FilterFunction:
    """Set a header of the response to the client."""
    return lambda response: response.headers.set(header.name, header.value)


@filter("remove_header", HeaderName)
def remove_response_header(header: HeaderName) -> FilterFunction:
    """Remove a header of the response to the client."""
    return lambda response: response.headers.remove(header.name)


def _object(body: bytes) -> dict[str, object]:
    """The JSON object in `body`; msgspec.DecodeError for anything else."""
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except UnicodeDecodeError as fault:
        raise msgspec.DecodeError("not UTF-8") from fault


def _request_object(request: Request) -> dict[str, object]:
    """The JSON object that the client sent; another body is its mistake."""
    try:
        return _object(request.body)
    except msgspec.DecodeError:
        raise Refuse(400, b'{"error":"request body is not a JSON object"}') from None


def _set_in_request(request: Request, field: Field) -> None:
    document = _request_object(request) if field.otherwise == "refuse" else _object(request.body)
    document[field.field] = field.value
    request.body = msgspec.json.encode(document)


@action("set_json_field", Field, body=True)
def set_request_field(field: Field) -> ActionFunction:
    """Set a member of the JSON object in the request body; another body is refused with 400."""
    return lambda request: _set_in_request(request, field)


@action("remove_json_field", FieldName, body=True)
def remove_request_field(field: FieldName) -> ActionFunction:
    """Remove a member of the JSON object in the request body."""

    def run(request: Request) -> None:
        document = _request_object(request)
        if document.pop(field.field, document) is not document:
            request.body = msgspec.json.encode(document)

    return run


@filter("set_json_field", Field, body=True)
def set_response_field(field: Field) -> FilterFunction:
    """Set a member of the JSON object in the response body; other bodies pass unchanged."""

    def run(response: Response) -> None:
        try:
            document = _object(response.body)
        except msgspec.DecodeError:
            return
        document[field.field] = field.value
        response.body = msgspec.json.encode(document)

    return run


@filter("remove_json_field", FieldName, body=True)
def remove_response_field(field: FieldName) -> FilterFunction:
    """Remove a member of the JSON object in the response body; other bodies pass unchanged."""

    def run(response: Response) -> None:
        try:
            document = _object(response.body)
        except msgspec.DecodeError:
            return
        if document.pop(field.field, document) is not document:
            response.body = msgspec.json.encode(document)

    return run


BUNDLED: tuple[Declaration, ...] = (
    replace_user_id, set_request_header, remove_request_header, set_response_header, remove_response_header,
    set_request_field, remove_request_field, set_response_field, remove_response_field,
)  # fmt: skip
