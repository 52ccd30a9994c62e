"""The parameters behind a path."""

import re

from ostiary.core.refusal import Invalid
from ostiary.dialects.message import parse_pairs, repeated

_NUMBER = re.compile("[0-9]{1,9}", re.ASCII)
_TRUTHS = {"true": True, "false": False}


class Query:
    """What is given once. Refuses Invalid to what is given twice; what nobody knows is nobody's."""

    def __init__(self, text: str) -> None:
        pairs = parse_pairs(text)
        if repeated(pairs) is not None:
            raise Invalid("query.repeated", "A parameter of the query is given more than once")
        self._given = dict(pairs)

    def truth(self, name: str, default: bool) -> bool:
        """`true` or `false`. Refuses Invalid."""
        given = self._given.get(name)
        if given is None:
            return default
        if given not in _TRUTHS:
            raise Invalid("query.truth", f"{name} must be true or false")
        return _TRUTHS[given]

    def number(self, name: str, default: int, most: int) -> int:
        """A number from 0 to `most`. Refuses Invalid."""
        given = self._given.get(name)
        if given is None:
            return default
        if not _NUMBER.fullmatch(given) or int(given) > most:
            raise Invalid("query.number", f"{name} must be a number from 0 to {most}")
        return int(given)
