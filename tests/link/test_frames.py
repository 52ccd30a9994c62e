import asyncio
import socket

import pytest

from ostiary.link.frames import LARGE, LONGEST, Broken, Channel, frame
from ostiary.link.messages import Ask, Hello, ToControl, decode_to_control


class End:
    """A channel over one end of a socketpair, and what came out of it."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.refuse = refuse
        self.received: list[ToControl] = []
        self.more = asyncio.Event()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.channel: Channel[ToControl] = Channel(
            decode_to_control, lambda _: None, self._receive, self.ended.set_result
        )

    def _receive(self, message: ToControl) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.received.append(message)
        self.more.set()

    async def until(self, count: int) -> None:
        while len(self.received) < count:
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), 30)


async def pair(refuse: Exception | None = None) -> tuple[End, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    end = End(refuse)
    await asyncio.get_running_loop().create_unix_connection(lambda: end.channel, sock=ours)
    return end, theirs


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 1000])
async def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(piece: int) -> None:
    end, theirs = await pair()
    messages: list[ToControl] = [Hello(1, 2, 3), Ask([b"a" * 40]), Ask([]), Hello(4, 5, 6)]
    stream = b"".join(frame(message) for message in messages)
    for at in range(0, len(stream), piece):
        await asyncio.get_running_loop().sock_sendall(theirs, stream[at : at + piece])
    await end.until(len(messages))
    assert end.received == messages
    end.channel.abort()
    theirs.close()


async def test_the_loop_turns_between_large_messages() -> None:
    end, theirs = await pair()
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(end.received))
        if len(end.received) < 5:
            asyncio.get_running_loop().call_soon(turn)

    turn()
    stream = frame(Ask([b"x" * LARGE])) * 5
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, stream))
    await end.until(5)
    await sending
    assert set(range(1, 5)) <= set(turns)
    end.channel.abort()
    theirs.close()


async def test_sending_waits_for_a_peer_that_does_not_read() -> None:
    end, theirs = await pair()
    loop = asyncio.get_running_loop()
    message = Ask([b"x" * 4_000_000])
    end.channel.send(message)
    waiting = asyncio.create_task(end.channel.drained())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert done == set()
    assert end.channel.unsent > 1_000_000
    left = len(frame(message))
    while left:
        left -= len(await loop.sock_recv(theirs, 1_000_000))
    await asyncio.wait_for(waiting, 30)
    end.channel.abort()
    theirs.close()


async def test_nobody_waits_for_a_peer_that_is_gone() -> None:
    end, theirs = await pair()
    end.channel.send(Ask([b"x" * 4_000_000]))
    waiting = asyncio.create_task(end.channel.drained())
    theirs.close()
    await asyncio.wait_for(waiting, 30)
    assert await asyncio.wait_for(end.ended, 30) is None
    assert not end.channel.open
    end.channel.send(Ask([]))


@pytest.mark.parametrize("stream", [(LONGEST + 1).to_bytes(4, "big"), b"\0\0\0\1\xc1", b"\0\0\0\4junk"])
async def test_what_is_no_frame_ends_the_connection(stream: bytes) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    end, theirs = await pair()
    await asyncio.get_running_loop().sock_sendall(theirs, stream)
    failure = await asyncio.wait_for(end.ended, 30)
    assert failure is not None
    assert end.received == []
    theirs.close()


async def test_what_goes_wrong_in_the_receiver_is_handed_on() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    end, theirs = await pair(refuse=Broken("no"))
    await asyncio.get_running_loop().sock_sendall(theirs, frame(Ask([])))
    assert await asyncio.wait_for(end.ended, 30) is end.refuse
    theirs.close()
