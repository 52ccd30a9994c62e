"""The process that hashes strangers' passwords, in time that nobody else wants; it imports little else than argon2.

Its standard input is a socket to control, over which questions and answers come one by one, each a 4-byte big-endian
length and a msgpack message. It ends when control is gone, and not before: signals to the whole node are control's.
"""

import os
import resource
import signal
from typing import BinaryIO

import msgspec
from msgspec import Struct

from ostiary.control.argon2id import Cost, fits, make

CONTROL = 0
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Make(Struct, frozen=True, tag="make"):
    """What is the argon2id text of this? The answer is that text."""

    password: bytes
    salt: bytes
    cost: Cost


class Verify(Struct, frozen=True, tag="verify"):
    """Was `kept` made of this? The answer is a truth value."""

    kept: str
    presented: bytes


def framed(message: object) -> bytes:
    """`message` as it travels."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


def main() -> None:
    """Answer until control is gone."""
    # Idle: whoever else wakes up on the core gets it at once.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no image of a password on a disk
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    with open(CONTROL, "rb") as control:
        answer_all(control)


def answer_all(control: BinaryIO) -> None:
    """Answer what comes, up to the end."""
    question = msgspec.msgpack.Decoder(Make | Verify)
    while len(size := control.read(4)) == 4:
        asked = question.decode(control.read(int.from_bytes(size, "big")))
        try:
            os.write(CONTROL, framed(answer(asked)))
        except BrokenPipeError:
            break


def answer(asked: Make | Verify) -> str | bool:
    """The answer to one question."""
    if isinstance(asked, Make):
        return make(asked.password, asked.salt, asked.cost)
    return fits(asked.kept, asked.presented)
