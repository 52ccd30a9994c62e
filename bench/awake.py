"""`python -m bench.awake`: keep a core awake, in time that nobody else wants, until told to end.

A core that falls asleep between two requests wakes up as late as its host likes: on a virtual machine that can be
milliseconds, and what keeps the core busy then seems to make everything faster.
"""

import os


def main() -> None:
    """Spin."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


if __name__ == "__main__":
    main()
