"""YAML files to a frozen Config: `extends`, dotted overrides, and messages that name the key."""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from utils.errors import MissingFileError, UserError, did_you_mean, one_line, shortened
from utils.settings import Config

EXTENDS = "extends"
HELPER = "x-"  # how a key of a file begins that only holds anchors for its other keys
TAG = "tag:yaml.org,2002:"  # YAML's own types
MARKED = tuple("'\"!&|>")  # how a YAML scalar begins that is not as it is written


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
            if get_origin(alternative) is tuple:  # a list of one may be given as the mapping that it holds
                return resolve_scalars(values, *get_args(alternative))
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


class _Loader(yaml.SafeLoader):
    """YAML as users expect it.

    Numbers and truth values keep their text beside them, see Scalar. 1e-5 is a number and 010 is ten; `no`, a date and
    12:30 are text. Keys are text, and one given twice is an error; `<<` merges.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012, the shape that PyYAML asks for; filled below

    def compose_mapping_node(self, anchor):
        """A mapping before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        given = set()
        for number, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in given:
                raise yaml.composer.ComposerError(None, None, f"given twice: {key.value}", key.start_mark)
            given.add(key.value)
            if key.tag != TAG + "merge":
                node.value[number] = (yaml.ScalarNode(TAG + "str", key.value, key.start_mark, key.end_mark), value)
        return node

    def construct_number(self, node):
        """An integer, a float or a truth value, with its text."""
        text = self.construct_scalar(node)
        plain = text.replace("_", "").lower()
        try:
            if node.tag == TAG + "bool":
                return Scalar(text, plain == "true")
            if node.tag == TAG + "int":
                return Scalar(text, int(plain, 0 if plain.lstrip("+-")[1:2].isalpha() else 10))
            return Scalar(text, float(re.sub(r"\.(inf|nan)$", r"\1", plain)))
        except ValueError as error:  # of a tag that is written out, such as `!!int x`
            raise yaml.constructor.ConstructorError(None, None, one_line(error), node.start_mark) from error


for kind, pattern, first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(\d[\d_]*|0x[\da-fA-F][\da-fA-F_]*|0o[0-7][0-7_]*|0b[01][01_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(TAG + kind, re.compile(f"^(?:{pattern})$"), first)
for kind in ("bool", "int", "float"):
    _Loader.add_constructor(TAG + kind, _Loader.construct_number)
_Loader.add_constructor(TAG + "merge", _Loader.construct_yaml_str)  # as a value; as a key, PyYAML merges


def load_config(path: str | Path | None = None, overrides: list[str] | None = None) -> Config:
    """Reads an experiment.

    In a file, anchors and merge keys (`<<: *base`) are allowed; a key `x-...` at the top only holds anchors and is left
    out.

    Args:
        path: YAML file, or None for the defaults.
        overrides: `key.subkey=value` strings, the value in YAML.

    Raises:
        MissingFileError: No such file.
        UserError: Not YAML, an unknown key or a value that is not allowed.
    """
    values = _read(Path(path), seen=()) if path else {}
    for override in overrides or []:
        values = _merge(values, _parse_override(override), "the command line")
    sources = [str(path)] if path else []
    source = " and ".join([*sources, *(["the command line"] if overrides else [])])
    return config_from_dict(resolve_scalars(values, Config), source)


def config_from_dict(values: dict, source: str) -> Config:
    """Validates the plain dict of a YAML file or a checkpoint; `source` is named in the error."""
    return validated(Config, values, source)


def dump_config(config: Config) -> str:
    """The whole config as YAML text."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(values: dict, prefix: str = "") -> dict:
    """Nested dicts, and lists of them, to one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        nested = dict(enumerate(value)) if _is_list_of_mappings(value) else value
        flat.update(flatten(nested, f"{prefix}{key}.") if isinstance(nested, dict) else {f"{prefix}{key}": value})
    return flat


def changed_keys(before: Config, after: Config, ignored: tuple[str, ...] = ()) -> list[str]:
    """`key: VALUE then, VALUE now` for every key that differs; `ignored` keys are without the numbers of a list."""
    old, new = (flatten(config.model_dump(mode="json")) for config in (before, after))
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key) and _plain(key) not in ignored]
    return [f"{key}: {old.get(key)} then, {new.get(key)} now" for key in differing]


def _read(path: Path, seen: tuple[Path, ...]) -> dict:
    if path.is_dir():
        raise UserError(f"config {path} is a folder; name a YAML file in it")
    if not path.is_file():
        near = ", ".join(sorted(str(file) for file in path.parent.glob("*.yaml"))) or "none"
        raise MissingFileError(f"config {path} does not exist; YAML files in {path.parent}: {near}")
    if path.resolve() in seen:
        raise UserError(f"{path}: `{EXTENDS}` leads back to this file")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {one_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values.value if isinstance(values, Scalar) else values).__name__
        raise UserError(f"{path}: a config is a mapping of keys to values, got {kind}")
    values = {key: value for key, value in values.items() if not str(key).startswith(HELPER)}
    parent = values.pop(EXTENDS, None)
    if parent is None:
        return values
    return _merge(_read(path.parent / str(parent), (*seen, path.resolve())), values, str(path))


def parse_yaml(text: str, source: str):
    """The value of a YAML text, its numbers and truth values as Scalar; `source` is named in the error.

    Raises:
        UserError: With line and column where the text is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"{source}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not a YAML text: {one_line(error)}") from error


def _parse_override(text: str) -> dict:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is not an override; write key.subkey=value, such as optim.lr=3e-5")
    nested = parse_yaml(value, text)
    if isinstance(nested, (str, Scalar)) and value.strip()[:1] not in MARKED:  # ` #` begins a comment in files alone
        nested = Scalar(value.strip(), nested.value if isinstance(nested, Scalar) else nested)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _merge(base: dict, changes: dict, source: str) -> dict:
    """Changes over a base; a mapping with the numbers of a list changes members of that list."""
    merged = dict(base)
    for key, value in changes.items():
        below = base.get(key)
        if isinstance(value, dict) and _is_list_of_mappings(below):
            members = {str(number): member for number, member in enumerate(below)}
            alone = len(below) == 1 and not value.keys() & {"0", 0}  # as where it was given without the list
            by_number = {"0": value} if alone else {str(number): change for number, change in value.items()}
            if not by_number.keys() <= members.keys():
                raise UserError(
                    f"{source}: {key} is a list of {len(below)}; change a member by its number, such as "
                    f"{key}.0.root=FOLDER, or replace the list"
                )
            merged[key] = list(_merge(members, by_number, source).values())
        else:
            both = isinstance(value, dict) and isinstance(below, dict)
            merged[key] = _merge(below, value, source) if both else value
    return merged


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, dict) for item in value)


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if not part.isdigit())


Model = TypeVar("Model", bound=BaseModel)

SUBJECT = "Input should be "  # how pydantic begins what is allowed
NOT_A_MAPPING = ("model_type", "model_attributes_type", "dict_type")


def validated(model: type[Model], values: dict, source: str) -> Model:
    """The settings that a plain dict states; `source` is named in the error.

    Raises:
        UserError: Unknown keys, with the nearest known one, and values that are not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error, model, values)}") from error


def _explain(error: ValidationError, root: type[BaseModel], values: dict) -> str:
    """One clause for each key that is wrong; the alternatives of a union are one clause."""
    clauses: dict[str, list[str]] = {}
    received = {}
    for detail in error.errors():
        path, known = _keys_of([str(part) for part in detail["loc"]], root)
        if path[:2] == ["dataset", "0"] and not isinstance(values.get("dataset"), (list, tuple)):
            if path[2:3] == ["scale"]:  # the config's own, which is reported as such
                continue
            del path[1]
        key = ".".join(path)
        if detail["type"] == "extra_forbidden":
            clauses[f"unknown key {key!r}{did_you_mean(path[-1], known)}"] = [f"known here: {', '.join(known)}"]
            continue
        clauses.setdefault(key, []).append(_message(detail))
        if detail["type"] not in ("value_error", "missing"):
            received[key] = f", got {shortened(repr(detail['input']))}"
    return "; ".join(
        f"{key}{': ' if key else ''}{_alternatives(messages)}{received.get(key, '')}"
        for key, messages in clauses.items()
    )


def _message(detail: Any) -> str:
    if detail["type"] in NOT_A_MAPPING:
        return f"{SUBJECT}a mapping of keys to values"
    return detail["msg"].removeprefix("Value error, ")


def _alternatives(messages: list[str]) -> str:
    """`Input should be a valid number or 'fit'`."""
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(message.removeprefix(SUBJECT) for message in others)])


def _keys_of(path: list[str], root: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The part of an error's path that is keys, and which keys are known beside the last one.

    Behind the keys pydantic names alternatives of a union and positions in lists of plain values.
    """
    annotations: list[Any] = [root]
    known: list[str] = []
    for index, part in enumerate(path):
        models = [each for each in annotations if isinstance(each, type) and issubclass(each, BaseModel)]
        known = [name for model in models for name in model.model_fields] or known
        below = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        below += [get_args(each)[1] for each in annotations if get_origin(each) is dict]
        below += [get_args(each)[0] for each in annotations if get_origin(each) is tuple and part.isdigit()]
        annotations = [each for annotation in below for each in _alternatives_of(annotation)]
        if not any(_has_keys(each) for each in annotations):
            return path[: index + 1], known
    return path, known


def _has_keys(annotation: Any) -> bool:
    """Whether a type is a mapping, or a list of mappings."""
    if get_origin(annotation) is tuple:
        return _has_keys(get_args(annotation)[0])
    return get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel))
