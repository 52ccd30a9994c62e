"""For schemathesis: where it asks about something by name, half of the time it names something that there is."""

import json
import os
from typing import Any

import schemathesis

KNOWN: dict[str, str] = json.loads(os.environ.get("OSTIARY_KNOWN", "{}"))
REMOVING = (".delete", ".revoke", ".revoke_subject")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Put in what is known, unless the operation would remove it."""
    if case.operation.path.endswith(REMOVING):
        return
    for given in (case.query, case.body):
        for name in KNOWN.keys() & given.keys() if isinstance(given, dict) else ():
            if isinstance(given[name], str) and len(given[name]) % 2:
                given[name] = KNOWN[name]
