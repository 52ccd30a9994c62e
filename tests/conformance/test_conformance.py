"""The contracts' cases that this stage covers, against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.cases import CASES, covered, run, select
from tests.conformance.server import serving


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("conformance") / "state"
    state.mkdir()
    with serving(state) as urls:
        yield urls["admin"]


@pytest.mark.parametrize("name", covered())
def test_the_covered_cases_pass(name: str, admin: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps(select(json.loads((CASES / f"{name}.json").read_text()), covered()[name])))
    outcome = run(file, admin)
    assert outcome.passed, outcome.text
