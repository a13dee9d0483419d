"""Databases of rated images: labels, splits, transforms and the one Dataset."""

from datasets.ratings import Record
from datasets.readers import READERS, read_records

__all__ = ["READERS", "Record", "read_records"]
