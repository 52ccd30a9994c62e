"""`python -m bench.awake`: keep a core awake, in time that nobody else wants, until told to end.

A core that falls asleep between two requests wakes up as late as its host likes: on a virtual machine that can be
milliseconds, and what keeps the core busy then seems to make everything faster.

It yields all the time. One that only spins is not always left at once, although it is idle to the scheduler: where
several programs shared the core, one that woke up waited for one to two milliseconds in a request of a hundred
(sched_switch and sched_wakeup of Linux 6.18, EEVDF), which looked as if those programs were slow.
"""

import os


def main() -> None:
    """Spin."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        os.sched_yield()


if __name__ == "__main__":
    main()
