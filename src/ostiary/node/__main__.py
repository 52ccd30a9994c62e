"""`python -m ostiary.node control PLAN GATEWAY ADMIN [resume]`, `... worker NUMBER LINK` and `... hasher`.

Started by the supervisor, the last by control, never by hand. Each imports only what its process needs: a worker never
sees the store.
"""

import sys


def main(kind: str, *words: str) -> None:
    """Run one process until it is told to end."""
    if kind == "worker":
        from ostiary.node.worker import main as work

        work(int(words[0]), words[1])
    elif kind == "hasher":
        from ostiary.node.hasher import main as hash_passwords

        hash_passwords()
    else:
        from ostiary.node.control import main as control

        control(*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
