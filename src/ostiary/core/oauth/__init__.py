"""OAuth 2.0, decided: scopes, client applications, codes and grants. Values and rules, nothing kept."""

from ostiary.core.oauth.applications import (
    BUILT_IN_GRANTS,
    PUBLIC,
    Application,
    AuthMethod,
    Client,
    Proof,
    RateLimit,
    Rules,
    Secret,
    Unproven,
    authenticate,
    check_application,
    check_fields,
    granted_scopes,
    hex_ok,
    redirect_uri_ok,
)
from ostiary.core.oauth.codes import Code, CodeRequest, consented, decide_code, location, redirect_of, subject_ok
from ostiary.core.oauth.grants import Grant, Handed, Held, Refreshing, Reused, TokenRequest, decide
from ostiary.core.oauth.scopes import (
    MAX_SECONDS,
    Scope,
    check_scope,
    check_texts,
    lifetime,
    scope_name_ok,
    split_scopes,
    text_ok,
)

__all__ = [
    "BUILT_IN_GRANTS", "MAX_SECONDS", "PUBLIC", "Application", "AuthMethod", "Client", "Code", "CodeRequest", "Grant",
    "Handed", "Held", "Proof", "RateLimit", "Refreshing", "Reused", "Rules", "Scope", "Secret", "TokenRequest",
    "Unproven", "authenticate", "check_application", "check_fields", "check_scope", "check_texts", "consented",
    "decide", "decide_code", "granted_scopes", "hex_ok", "lifetime", "location", "redirect_of", "redirect_uri_ok",
    "scope_name_ok", "split_scopes", "subject_ok", "text_ok",
]  # fmt: skip
