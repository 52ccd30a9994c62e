"""Authorization codes as ApiFest gives them (apifest.md B3): for the operator's own log-in page."""

from ostiary.control.codes import IssueCode, IssuedCode
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.words import Words, encoded, missing
from ostiary.dialects.message import Answer

WORDS: Words = {
    "response_type.unsupported": (400, '{"error": "unsupported_response_type"}'),
    "redirect_uri.invalid": (400, '{"error": "invalid redirect_uri"}'),
    "challenge.invalid": (400, '{"error":"code_challenge is not valid"}'),
    "user.invalid": (400, '{"error":"user_id is not valid"}'),
    "user.disabled": (401, '{"error": "cannot authenticate user"}'),
}


async def issue(asked: Asked) -> Answer:
    """A code for the user for whom the caller vouches."""
    query = asked.query
    if not query.get("client_id"):
        raise missing("client_id")
    params = IssueCode(
        client_id=query["client_id"],
        response_type=query.get("response_type", ""),
        redirect_uri=query.get("redirect_uri"),
        scope=query.get("scope"),
        state=query.get("state"),
        user=query.get("user_id", ""),
        code_challenge=query.get("code_challenge"),
        code_challenge_method=query.get("code_challenge_method"),
    )
    issued: IssuedCode = await asked.run("codes.issue", params)
    return encoded({"redirect_uri": issued.redirect_uri})


ROWS = (Row("GET", "/oauth20/auth-codes", "codes.issue", issue, words=WORDS),)
