"""The two cookies of a session: its token, which no script can read, and its CSRF token, which scripts must."""

from ostiary.dialects.credentials import CSRF_COOKIE, SESSION_COOKIE
from ostiary.dialects.doorman.asked import Asked
from ostiary.dialects.doorman.words import Headers


def session_cookies(asked: Asked, token: str, csrf: str, seconds: int) -> Headers:
    """Both, for as long as the token lives. They are Secure where the client's side is https."""
    always = asked.desk.settings().session.cookie_secure == "always"
    secure = "; Secure" if always or asked.request.secure else ""
    rest = f"Max-Age={seconds}; Path=/; SameSite=Strict{secure}"
    return (
        ("Set-Cookie", f"{SESSION_COOKIE}={token}; HttpOnly; {rest}"),
        ("Set-Cookie", f"{CSRF_COOKIE}={csrf}; {rest}"),
    )


def no_cookies(asked: Asked) -> Headers:
    """Both, taken back."""
    return session_cookies(asked, "", "", 0)
