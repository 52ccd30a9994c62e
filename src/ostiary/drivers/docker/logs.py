"""What the engine sends of a container's log: frames, each with the stream that it comes from. Docker Engine API,
"attach to a container"; and, as asked for here, the time of each entry before it."""

from collections.abc import AsyncGenerator, AsyncIterator

from ostiary.drivers.docker.container import nanoseconds

HEAD = 8


async def frames(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The payloads, of both streams as they come."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        while len(rest) >= HEAD and len(rest) >= (end := HEAD + int.from_bytes(rest[4:HEAD])):
            yield rest[HEAD:end]
            rest = rest[end:]


def entry(frame: bytes) -> tuple[int, bytes]:
    """When it was said (Unix nanoseconds), and what."""
    at, _, said = frame.partition(b" ")
    return nanoseconds(at.decode()), said
