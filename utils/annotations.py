"""Types of settings, as they are annotated: sections, unions, mappings."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def is_model(annotation: Any) -> bool:
    """Return whether a type is a section of the settings; in Python 3.10, `dict[str, int]` is a type, but no class."""
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def union_members(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, or the annotation itself if it is not a union."""
    if get_origin(annotation) is Annotated:
        yield from union_members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from union_members(argument)
    else:
        yield annotation


def models_among(annotations: list[Any]) -> list[type[BaseModel]]:
    """Return the sections among some types."""
    return list(filter(is_model, annotations))


def has_keys(annotation: Any) -> bool:
    """Return whether a type is a mapping or a list of mappings."""
    if get_origin(annotation) is tuple:
        return has_keys(get_args(annotation)[0])
    return get_origin(annotation) is dict or is_model(annotation)
