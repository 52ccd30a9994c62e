"""The data plane is tested on the event loop that it runs on."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test here runs under uvloop, as production does."""
    return {"uvloop": uvloop.new_event_loop}
