"""Plain values to typed settings, with errors that name the key and say what is allowed."""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from utils.errors import UserError, did_you_mean, shortened
from utils.settings import DATASET_TAGS

Model = TypeVar("Model", bound=BaseModel)

SUBJECT = "Input should be "  # how pydantic begins what is allowed
NOT_A_MAPPING = ("model_type", "model_attributes_type", "dict_type")


@dataclass(frozen=True)
class Scalar:
    """A YAML scalar whose type the settings decide: its text where they ask for text, else its value.

    Args:
        text: As it is written, such as `1.10` or `4283e97`.
        value: What YAML makes of it.
    """

    text: str
    value: Any

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:  # in messages
        return repr(self.value)


def resolve_scalars(values: Any, *annotations: Any) -> Any:
    """The values with every Scalar as its text or its value, as the type of its key asks for.

    Args:
        values: Of a YAML file: mappings, lists and scalars.
        annotations: A model, or the types that are allowed. What fits none of them stays for the error message.
    """
    alternatives = [alternative for annotation in annotations for alternative in _alternatives_of(annotation)]
    if isinstance(values, Scalar):
        return values.text if str in alternatives else values.value
    if isinstance(values, dict):
        for alternative in alternatives:
            if isinstance(alternative, type) and issubclass(alternative, BaseModel):
                fields = alternative.model_fields
                return {
                    key: resolve_scalars(value, fields[key].annotation) if key in fields else value
                    for key, value in values.items()
                }
            if get_origin(alternative) in (dict, Mapping):
                _, below = get_args(alternative)
                return {key: resolve_scalars(value, below) for key, value in values.items()}
    if isinstance(values, list):
        for alternative in alternatives:
            if get_origin(alternative) in (list, tuple, Sequence):
                return [resolve_scalars(value, *get_args(alternative)) for value in values]
    return values


def _alternatives_of(annotation: Any) -> Iterator[Any]:
    """The types that a union is of; of any other annotation, itself."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives_of(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _alternatives_of(argument)
    else:
        yield annotation


def validated(model: type[Model], values: dict, source: str) -> Model:
    """The settings that a plain dict states; `source` is named in the error.

    Raises:
        UserError: Unknown keys, with the nearest known one, and values that are not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error, model)}") from error


def _explain(error: ValidationError, root: type[BaseModel]) -> str:
    """One clause for each key that is wrong; the alternatives of a union are one clause."""
    clauses: dict[str, list[str]] = {}
    values = {}
    for detail in error.errors():
        path = [str(part) for part in detail["loc"] if part not in DATASET_TAGS]
        if detail["type"] == "extra_forbidden":
            known = list(_model_at(path[:-1], root).model_fields)
            hint = did_you_mean(path[-1], known)
            clauses[f"unknown key {'.'.join(path)!r}{hint}"] = [f"known here: {', '.join(known)}"]
            continue
        key = ".".join(_path_of_key(path, root))
        clauses.setdefault(key, []).append(_message(detail))
        if detail["type"] != "value_error":
            values[key] = f", got {shortened(repr(detail['input']))}"
    return "; ".join(
        f"{key}{': ' if key else ''}{_alternatives(messages)}{values.get(key, '')}" for key, messages in clauses.items()
    )


def _message(detail: Any) -> str:
    if detail["type"] in NOT_A_MAPPING:
        return f"{SUBJECT}a mapping of keys to values"
    return detail["msg"].removeprefix("Value error, ")


def _alternatives(messages: list[str]) -> str:
    """`Input should be a valid number or 'fit'`."""
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(message.removeprefix(SUBJECT) for message in others)])


def _path_of_key(path: list[str], root: type[BaseModel]) -> list[str]:
    """The part of an error's path that is keys; behind it pydantic names alternatives and positions."""
    model: Any = root
    for index, part in enumerate(path):
        if part.isdigit():  # a member of a list of models
            continue
        model = _model_in(model.model_fields[part].annotation, several=path[index + 1 : index + 2])
        if model is None:
            return path[: index + 1]
    return path


def _model_at(path: list[str], root: type[BaseModel]) -> type[BaseModel]:
    model: Any = root
    for index, part in enumerate(path):
        if not part.isdigit():
            model = _model_in(model.model_fields[part].annotation, several=path[index + 1 : index + 2])
    return model


def _model_in(annotation: Any, several: list[str]) -> type[BaseModel] | None:
    """The model that an annotation asks for: the last of its alternatives where the path goes on with a number."""
    models = list(_models_in(annotation))
    in_list = bool(several) and several[0].isdigit()
    return (models[-1] if in_list else models[0]) if models else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
