"""Runs commands of the Deis client, each in a process of its own that has loaded it already.

A line of JSON on standard input: the home directory, the words, what is typed. One on standard output: the exit status
and what the command wrote.
"""

import json
import os
import sys
import tempfile

import deis  # type: ignore[import-not-found]  # the package of that name, beside this file when it runs


def become(home: str, words: list[str], typed: int, written: int) -> None:
    """This process runs the command and ends."""
    os.environ["HOME"] = home
    os.chdir(home)
    os.dup2(typed, 0)
    os.dup2(written, 1)
    sys.stdin = os.fdopen(0)
    sys.argv = ["deis", *words]
    deis.main()
    sys.exit(0)


for line in sys.stdin:
    home, words, typed = json.loads(line)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(typed.encode())
        given.seek(0)
        pid = os.fork()
        if not pid:
            become(home, words, given.fileno(), said.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        print(json.dumps([status, said.read().decode()]), flush=True)
