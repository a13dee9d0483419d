"""Types of settings."""

from utils.annotations import is_model
from utils.settings import Config


def test_what_is_a_section():
    """In Python 3.10, `dict[str, int]` and the like are types, of which `issubclass` takes none."""
    assert is_model(Config)
    assert not any(map(is_model, (dict[str, int], tuple[Config, ...], list[int], int, Config | None, None, "int")))
