"""Completion in bash, through the script that `--show-completion` prints; and what the catalog is made of."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ostiary.cli import catalog
from ostiary.control.subjects import registry

SCRIPT = """\
eval "$(ostiary --show-completion bash)"
COMP_WORDS=($1)
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_ostiary_completion ostiary
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("ostiary sc", {"scopes"}, {"serve"}),
        ("ostiary ", {"serve", "login", "scopes", "users"}, {"--help"}),
        ("ostiary scopes ", {"create", "delete", "get", "list", "update"}, {"serve"}),
        ("ostiary audit ex", {"export"}, {"list"}),
        ("ostiary scopes create --c", {"--cc-expires-in"}, {"--description"}),
        ("ostiary users list --order ", {"created", "name"}, {"--all"}),
        ("ostiary dovea", {"doveadm"}, {"serve"}),
        ("ostiary doveadm ", {"director", "kick", "who"}, {"serve"}),
        ("ostiary doveadm -f ", {"table", "tab", "json", "flow", "pager"}, {"who"}),
        ("ostiary doveadm director ring ", {"add", "remove", "status"}, {"map"}),
        ("ostiary doveadm -f tab stats dump ", {"global", "session"}, {"reset"}),
        ("ostiary doveadm --d", {"--dry-run"}, {"--url"}),
    ],
)
def test_bash_is_offered(line: str, offered: set[str], not_offered: set[str]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", SCRIPT, "bash", line], env={**os.environ, "PATH": path}, check=True, capture_output=True, text=True
    )
    words = set(done.stdout.split())
    assert offered <= words
    assert not words & not_offered


def test_the_catalog_has_every_operation_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    catalog.catalog.cache_clear()
    made = catalog.catalog()
    assert {entry.name for entries in made.values() for entry in entries} == set(registry().operations)
    (file,) = (tmp_path / "ostiary").iterdir()
    catalog.catalog.cache_clear()
    assert catalog.catalog() == made
    file.write_text("{")
    catalog.catalog.cache_clear()
    assert catalog.catalog() == made
    assert file.read_bytes() != b"{"


def test_no_cache_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    catalog.catalog.cache_clear()
    assert "scopes" in catalog.catalog()


@pytest.mark.parametrize("name", ["ostiary.control", "ostiary.store", "pydantic_core", "httpx2", "rich"])
def test_the_command_line_itself_does_not_import(name: str) -> None:
    code = "import ostiary.cli; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert name not in done.stdout.split()
