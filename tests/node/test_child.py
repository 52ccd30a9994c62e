"""What a process of a node hands on to those that it starts."""

import os
import subprocess
import sys

CODE = """
import os
from ostiary.node.child import keep_to_itself
keep_to_itself()
print(*sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")
      and os.get_inheritable(fd)))
"""


def test_only_the_standard_streams_are_handed_on() -> None:
    read, write = os.pipe()
    words = [sys.executable, "-c", CODE]
    found = subprocess.run(words, pass_fds=(read, write), check=True, capture_output=True, text=True).stdout
    os.close(read)
    os.close(write)
    assert found == "0 1 2\n"
