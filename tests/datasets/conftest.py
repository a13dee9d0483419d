"""Fixtures for the tests of databases."""

import pytest

from tests.databases import Made, write_database


@pytest.fixture
def made(request, tmp_path) -> Made:
    """A synthetic copy of the database named by `each`, in its official layout."""
    return write_database(request.param, tmp_path / request.param)
