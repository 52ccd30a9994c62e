"""`make conformance [CASES=DIR]`: the contracts' cases against a fresh server, a line a file.

Without DIR: the cases kept here, as far as covered.txt says that this stage has their surfaces. With DIR: everything
in it. The exit status is 0 only if all pass.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.cases import CASES, covered, run, select
from tests.conformance.server import serving


def main(directory: Path) -> int:
    """Run every file; 1 where a case fails or there is nothing to run."""
    with tempfile.TemporaryDirectory(prefix="ostiary-") as scratch:
        kept = Path(scratch)
        files = list(_covered(kept)) if directory.resolve() == CASES else sorted(directory.glob("*.json"))
        if not files:
            print(f"no *.json in {directory}", file=sys.stderr)
            return 1
        (kept / "state").mkdir()
        with serving(kept / "state") as urls:
            outcomes = [(file, run(file, urls["admin"])) for file in files]
    for file, outcome in outcomes:
        print(f"{'ok  ' if outcome.passed else 'FAIL'} {file.stem}: {outcome.summary}")
        if not outcome.passed:
            print(outcome.text)
    return 0 if all(outcome.passed for _, outcome in outcomes) else 1


def _covered(scratch: Path) -> Iterator[Path]:
    for name, ids in covered().items():
        selected = scratch / f"{name}.json"
        selected.write_text(json.dumps(select(json.loads((CASES / f"{name}.json").read_text()), ids)))
        yield selected


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else CASES))
