"""Refusals: answers of no, by meaning. Dialects map a meaning (or its exact code) to their own status and words."""

from msgspec import Struct


class Mistake(Struct, frozen=True):
    """One thing wrong in an input, and where: in a file (`file`, `line`) or in a body (`path` alone)."""

    path: str
    message: str
    file: str = ""
    line: int = 0
    code: str = ""
    """A stable name where a dialect has its own words for this mistake."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class Refusal(Exception):
    """An answer of no. `code` is a stable name such as `scope.exists`, `message` a sentence for a person."""

    def __init__(self, code: str, message: str, mistakes: tuple[Mistake, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.mistakes = mistakes


class Invalid(Refusal):
    """What was asked is not well formed; `mistakes` says each thing wrong."""


class Unauthenticated(Refusal):
    """Nobody, or nobody known, is asking."""


class Forbidden(Refusal):
    """The principal is known and may not."""


class NotFound(Refusal):
    """What was named does not exist (for this principal)."""


class Conflict(Refusal):
    """The change does not fit what is there: it exists already, or is in use."""


class TooLarge(Refusal):
    """More was sent than the limit allows."""


class Unsupported(Refusal):
    """The media type or form is not one that is understood here."""


class Limited(Refusal):
    """Too many requests; `retry_after` is in whole seconds, 1 or more."""

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """Cannot be done now; nothing was changed. `retry_after` is in whole seconds, 1 or more."""

    def __init__(self, code: str, message: str, retry_after: int = 1) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after
