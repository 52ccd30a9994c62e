"""The body of a request as it comes in: where it ends, and how much of it may come."""

from ostiary.core.http1 import BadMessage, ChunkDecoder
from ostiary.gateway.fields import RequestFields


class RequestBody:
    """One body. `most`: bytes that it may have where they come in chunks (an announced length was compared before)."""

    __slots__ = ("_chunks", "_left", "_total", "most")

    def __init__(self, fields: RequestFields) -> None:
        self._chunks = ChunkDecoder() if fields.chunked else None
        self._left = fields.length
        self._total = 0
        self.most = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bool, bytes]:
        """What of it is in `data`, whether that was the end, and what came behind it.

        BadMessage when it is malformed (400) or too large (413).
        """
        if self._chunks is not None:
            return self._decode(self._chunks, data)
        left = self._left - len(data)
        self._left = max(left, 0)
        return ([data], not left, b"") if left >= 0 else ([data[:left]], True, data[left:])

    def _decode(self, chunks: ChunkDecoder, data: bytes) -> tuple[list[bytes], bool, bytes]:
        pieces = chunks.feed(data)
        self._total += sum(map(len, pieces))
        if self._total > self.most:
            raise BadMessage(413, "body too large")
        return pieces, chunks.done, chunks.rest

    def shorter(self, most: int) -> bool:
        """Whether it is known that no more than `most` bytes of it are to come."""
        return self._chunks is None and self._left <= most
