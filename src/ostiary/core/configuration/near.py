"""What may have been meant by a name that is not there."""

from difflib import get_close_matches
from functools import lru_cache


@lru_cache(256)
def near(name: str, names: tuple[str, ...]) -> str:
    """What may have been meant by `name`, as the end of a sentence."""
    found = get_close_matches(name, names, 1, 0.6)
    if found:
        return f"; did you mean {found[0]}?"
    return f"; there are {', '.join(sorted(names)[:20])}" if names else "; none is declared"
