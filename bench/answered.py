"""Waiting for the first answer of something that starts."""

import http.client
import time

from bench.process import Failed

PATIENCE = 120.0
"""Seconds."""


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200 now."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", path)
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def until_answered(port: int, path: str, began: float) -> float:
    """Milliseconds from `began` until a GET is answered with 200."""
    while not answers(port, path):
        if time.monotonic() - began > PATIENCE:
            raise Failed(f"nothing serves {path} after {PATIENCE:g} s")
        time.sleep(0.001)
    return (time.monotonic() - began) * 1000
