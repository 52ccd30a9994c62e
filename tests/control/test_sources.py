"""Where configurations are read from."""

from pathlib import Path

import pytest

from ostiary.control.sources import Disk, Kept, Recorder, Sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with some files."""
    for name in ("a.yaml", "m/b.xml", "m/a.xml", "m/é.xml", "m/.hidden.xml", "m/deep/c.xml", "m/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.yaml", ["a.yaml"]),
        ("m/*.xml", ["m/a.xml", "m/b.xml", "m/é.xml"]),
        ("m", ["m/a.xml", "m/b.xml", "m/é.xml"]),
        ("m/", ["m/a.xml", "m/b.xml", "m/é.xml"]),
        ("m/**/*.xml", ["m/a.xml", "m/b.xml", "m/deep/c.xml", "m/é.xml"]),
        ("m/[ab].*", ["m/a.xml", "m/b.xml"]),
        ("m/*.none", []),
        ("*.yaml", ["a.yaml"]),
    ],
)
def test_a_pattern_gives_files_in_byte_order_without_hidden_ones(root: Path, pattern: str, names: list[str]) -> None:
    assert Disk(root).match(pattern) == names


def test_an_absolute_pattern_gives_absolute_names(root: Path) -> None:
    assert Disk(Path("/elsewhere")).match(f"{root}/m/[ab].xml") == [f"{root}/m/a.xml", f"{root}/m/b.xml"]


@pytest.mark.parametrize("pattern", ["none", "none/*.xml", "none/a.xml", "m/a.xml/*", "m/**a/*.xml", "a\0b"])
def test_what_is_named_and_absent_is_an_error(root: Path, pattern: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        Disk(root).match(pattern)


@pytest.mark.parametrize("name", ["none", "m", "a\0b", "x" * 300, "/dev/zero"])
def test_what_cannot_be_read_is_an_error(root: Path, name: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        Disk(root).read(name)


def test_what_one_load_read_another_is_given(root: Path) -> None:
    recorder = Recorder(Disk(root), "a.yaml")
    read = (recorder.read("a.yaml"), recorder.match("m"), recorder.secret("m/d.txt"))
    nowhere = Disk(Path("/nowhere"))
    kept = Kept(recorder.sources, nowhere)
    assert (kept.read("a.yaml"), kept.match("m"), kept.secret("m/d.txt")) == read
    for ask in (kept.read, kept.match, kept.secret):
        with pytest.raises(OSError, match=r".+"):
            ask("other")


def test_secrets_are_those_of_now_where_they_still_are(root: Path) -> None:
    kept = Kept(Sources("a.yaml", secrets={"m/d.txt": b"old"}), Disk(root))
    assert kept.secret("m/d.txt") == b"m/d.txt"
