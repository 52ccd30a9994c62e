"""Stand-ins for control and worker, to see what the supervisor does: they print a line for all that befalls them."""

import os
import select
import signal
import socket
import sys
import time
from types import FrameType

ALIVE, REPORT, GATEWAY = 3, 4, 8


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, words))} {os.getpid()}\n".encode())


def heard(number: int, frame: FrameType | None) -> None:
    say(sys.argv[1], signal.Signals(number).name)
    if number == signal.SIGTERM:
        sys.exit(0)


def listen_to_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, heard)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP, signal.SIGTERM])


def control(*words: str) -> None:
    listen_to_signals()
    say("control", *words)
    os.write(REPORT, b'{"owner": "ann 1234"}\n{"ready": 1}\n')
    os.read(ALIVE, 1)
    say("control alone")


def fleeting(*words: str) -> None:
    os.write(REPORT, b'{"ready": 1}\n')
    sys.exit(7)


def late(*words: str) -> None:
    say("late")
    while signal.SIGHUP not in signal.sigpending():
        time.sleep(0.005)
    control(*words)


def refusing(*words: str) -> None:
    os.write(REPORT, b'{"refused": "the store is broken"}\n')
    sys.exit(3)


def dying(*words: str) -> None:
    sys.exit(5)


def stubborn(*words: str) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: say("stubborn"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    say("stubborn")
    os.read(ALIVE, 1)


def deaf(*words: str) -> None:
    say("deaf")
    os.read(ALIVE, 1)


def worker(number: str, link: str) -> None:
    listen_to_signals()
    listener = socket.socket(fileno=GATEWAY)
    listener.setblocking(True)
    say("worker", number)
    while ALIVE not in select.select([ALIVE, GATEWAY], [], [])[0]:
        client, _ = listener.accept()
        client.sendall(b"%d" % os.getpid())
        client.close()
    say("worker alone")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
