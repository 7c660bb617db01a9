"""What the tests of predictions share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope='module')
def _plain_pictures(plain_pictures: None) -> None:
    """tests/test_modes.py has a prediction drawn, and tests/figures look at what is."""
