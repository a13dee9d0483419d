"""Databases of rated images: labels, splits, transforms and the one Dataset."""

__all__ = ["READERS", "Record", "read_records"]


def __getattr__(name: str):
    """Import the readers on first use, since they need pandas and scoring does not."""
    if name in __all__:
        from datasets import readers  # noqa: PLC0415

        return getattr(readers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
