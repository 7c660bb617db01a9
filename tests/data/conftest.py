"""What the tests of this room share."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from file_server import FileServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server without files, which is asked again without pauses."""
    monkeypatch.setenv('NO_PROXY', '*')
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    with FileServer({}) as server:
        yield server
