"""The tables of docs/CONFIGURATION.md: every key of a config, from the settings."""

import json
from inspect import cleandoc
from typing import Any, get_args

import pandas as pd
from pydantic import BaseModel

from utils.annotations import is_model
from utils.errors import UserError
from utils.settings import Config
from utils.tables import to_markdown

COLUMNS = ("key", "type", "default", "allowed", "meaning")
TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "text", "null": "`null`"}


def settings_tables() -> str:
    """Return the Markdown tables of all keys, one per section.

    Raises:
        UserError: Python runs without docstrings, of which the tables are made.
    """
    if Config.__doc__ is None:
        raise UserError("the settings' meanings are docstrings, which python -OO omits; run it without -OO")
    tables = []
    for name, field in Config.model_fields.items():
        models = _models_in(field.annotation)
        if models:
            model = max(models, key=lambda each: len(each.model_fields))  # for a database, the one with all its keys
            about = cleandoc(model.__doc__).partition("\n\n")[0].replace("\n", " ")
            rows = [_row(f"{name}.{key}", schema) for key, schema in model.model_json_schema()["properties"].items()]
        else:
            about = field.description
            rows = [_row(name, Config.model_json_schema()["properties"][name])]
        tables.append(f"## {name}\n\n{about}\n\n{to_markdown(pd.DataFrame(rows, columns=COLUMNS))}")
    return "\n\n".join(tables)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if is_model(annotation):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _row(key: str, schema: dict[str, Any]) -> tuple[str, ...]:
    default = schema.get("default", "required")
    default = default if isinstance(default, str) else json.dumps(default)
    allowed = "; ".join(dict.fromkeys(filter(None, map(_allowed, _alternatives(schema)))))
    types = dict.fromkeys(map(_type, _alternatives(schema)))
    return f"`{key}`", " or ".join(types), f"`{default}`", allowed, schema["description"].replace("\n", " ")


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of a union, or the schema itself."""
    return [one for each in schema["anyOf"] for one in _alternatives(each)] if "anyOf" in schema else [schema]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "section"
    if "enum" in schema or "const" in schema:
        return "choice"
    if schema.get("type") == "array":
        return f"list of {_type(_alternatives(_item(schema))[0])}s"
    return TYPES[schema["type"]]


def _item(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the items of a list, which are all alike."""
    return schema["items"] if "items" in schema else schema["prefixItems"][0]


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        each = ", ".join(filter(None, map(_allowed, _alternatives(_item(schema)))))
        return f"each {each}" if each else ""
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " and ".join(f"{sign} {schema[bound]:g}" for bound, sign in signs.items() if bound in schema)
