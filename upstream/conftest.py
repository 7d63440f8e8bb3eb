"""The fixture that deepinv's tests have."""

import pytest


@pytest.fixture
def device() -> str:
    """The device of the tests."""
    return "cpu"
