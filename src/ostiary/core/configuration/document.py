"""Documents: the text of a configuration file, in YAML, JSON or TOML -> its data, and the line of each place in it."""

from ostiary.core.configuration.json_document import read_json
from ostiary.core.configuration.source import LARGEST, Document, nothing
from ostiary.core.configuration.toml_document import read_toml
from ostiary.core.configuration.yaml_document import read_yaml

READERS = {"json": read_json, "toml": read_toml}


def read(text: bytes, file: str) -> Document:
    """The document in `text`, whose name says what it is: `.json`, `.toml`, and YAML for all else."""
    if len(text) > LARGEST:
        return nothing(file, 0, f"the file is larger than {LARGEST >> 20} MiB")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        return nothing(file, text.count(b"\n", 0, problem.start) + 1, "the file is not UTF-8 text")
    return READERS.get(file.rpartition(".")[2].lower(), read_yaml)(decoded, file)
