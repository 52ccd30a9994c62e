"""Examples for the OpenAPI document: of parameters that have to be given, and of refusals."""

from typing import Any

PARAMETERS: dict[str, Any] = {
    "address": "10.0.0.2", "app": "shop", "applications.name": "Photo printer", "cc_expires_in": 3600,
    "client_id": "8d1fa2b0c5e94b6f9a3d7c1e0f2b4a6d8c9e1f30", "code": "123456", "droplet": "shop-1",
    "grant_type": "client_credentials", "host": "10.0.0.234", "id": "5f2d8c1b9a7e4036", "image": "web",
    "label": "backup script", "name": "bob", "new_password": "correct horse battery", "pass_expires_in": 900,
    "password": "correct horse battery", "path": "/v1.0/countries/FRA",
    "redirect_uri": "https://printer.example/callback", "refresh_token": "0f" * 32, "revision": 3, "role": "viewer",
    "scope": "photos", "services": ["ws"], "structure": {"web": 4}, "token": "0f" * 32, "type": "global",
    "user": "alice", "values": {"registration.mode": "admin_only"}, "vhosts": 50,
}  # fmt: skip
"""By name, or by subject and name where it means something else there."""

REFUSALS: dict[str, tuple[str, str, str]] = {
    "400": ("What was sent is not valid; `mistakes` names each thing wrong", "params.invalid",
            "The parameters are not valid"),
    "401": ("Nobody, or nobody known, is asking", "authentication.required", "Authentication is required"),
    "403": ("Who asks may not", "permission.denied", "This needs the permission scopes:manage"),
    "404": ("There is no such thing, for who asks", "scope.unknown", "There is no such scope"),
    "409": ("It does not fit what is there", "scope.exists", "The scope exists already"),
    "413": ("The body is too large", "body.too_large", "The body is larger than 1048576 bytes"),
    "415": ("The body is no JSON", "body.media_type", "The body must be application/json"),
    "429": ("Too often: try again later", "login.throttled",
            "Too many log-in attempts. Please wait 30 seconds before trying again."),
    "503": ("Not now: try again later", "store.unavailable", "The store cannot be reached"),
}  # fmt: skip
"""Status -> what it means, and a code and a sentence that it may come with."""


def parameters(operation: str, names: list[str]) -> dict[str, Any]:
    """An example of each of the parameters `names` of an operation."""
    subject = operation.partition(".")[0]
    return {name: PARAMETERS.get(f"{subject}.{name}", PARAMETERS.get(name)) for name in names}
