"""Load YAML files as a frozen Config: `extends`, dotted overrides, and error messages that name the key."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from utils.annotations import has_keys, is_model, models_among, union_members
from utils.errors import MissingFileError, UserError, did_you_mean, one_line, shortened
from utils.files import read_limited, reading
from utils.settings import Config

EXTENDS = "extends"
SUFFIXES = (".yaml", ".yml")
HELPER = "x-"  # prefix of top-level keys that only hold anchors
LARGEST = 2**20  # bytes of a file
MOST_VALUES = 100_000  # of one file, where each alias counts as all that it stands for
TAG = "tag:yaml.org,2002:"  # YAML's own types
KINDS = ("null", "str", "seq", "map")  # read as PyYAML does
QUOTES = ("'", '"')
NULLS = ("null", "Null", "NULL", "~")


@dataclass(frozen=True)
class Scalar:
    """A YAML scalar whose type the settings decide: its text where they expect text, else its value.

    Args:
        text: Text as written, such as `1.10` or `4283e97`.
        value: Value according to YAML.
    """

    text: str
    value: Any

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:  # in messages
        return repr(self.value)


@dataclass(frozen=True)
class Ambiguous:
    """A number with leading zeros, which YAML 1.1 reads as octal and YAML 1.2 as decimal; no setting accepts it."""

    text: str

    def __repr__(self) -> str:  # in messages
        return f"{self.text} (for a number, omit leading zeros; 0o10 is octal)"


def resolve_scalars(values: Any, *annotations: Any) -> Any:
    """Return the values with every Scalar replaced by its text or value, as the type of its key requires.

    Args:
        values: Content of a YAML file: mappings, lists and scalars. A value that fits no annotation is kept for the
            error message.
        annotations: A model, or the allowed types.
    """
    alternatives = [alternative for annotation in annotations for alternative in union_members(annotation)]
    if isinstance(values, Scalar):
        return values.text if str in alternatives else values.value
    if isinstance(values, dict):
        for alternative in alternatives:
            if is_model(alternative):
                fields = alternative.model_fields
                return {
                    key: resolve_scalars(value, fields[key].annotation) if key in fields else value
                    for key, value in values.items()
                }
            if get_origin(alternative) in (dict, Mapping):
                _, below = get_args(alternative)
                return {key: resolve_scalars(value, below) for key, value in values.items()}
            if get_origin(alternative) is tuple:  # a list of one may be given as a mapping
                return resolve_scalars(values, *get_args(alternative))
    if isinstance(values, list):
        for alternative in alternatives:
            if get_origin(alternative) in (list, tuple, Sequence):
                return [resolve_scalars(value, *get_args(alternative)) for value in values]
    return values


class _Loader(yaml.SafeLoader):
    """A YAML loader with fewer surprises.

    Numbers and booleans keep their text, see Scalar. 1e-5 is a number, 010 is not; `no`, dates and 12:30 are text.
    Keys are text, and a repeated key is an error; `<<` merges.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012, the shape that PyYAML asks for; filled below
    yaml_constructors = {  # noqa: RUF012, as above; without dates, bytes and sets, which no setting has
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, *(TAG + kind for kind in KINDS))
    }

    def compose_mapping_node(self, anchor):
        """Return a mapping with keys as text, before merging; raise an error for a repeated key."""
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

    def get_single_node(self):
        """Return the root; raise an error if aliases of aliases would stand for more values than memory can hold."""
        root = super().get_single_node()
        if root is not None and _expanded_size(root, {}) > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES:,} values", root.start_mark)
        return root

    def construct_number(self, node):
        """Return an integer, a float or a boolean with its text."""
        text = self.construct_scalar(node)
        plain = text.replace("_", "").lower()
        try:
            if node.tag == TAG + "bool":
                return Scalar(text, plain == "true")
            if re.match(r"[-+]?0\d+$", plain):
                return Scalar(text, Ambiguous(text))
            if node.tag == TAG + "int":
                return Scalar(text, int(plain, 0 if plain.lstrip("+-")[1:2].isalpha() else 10))
            return Scalar(text, float(re.sub(r"\.(inf|nan)$", r"\1", plain)))
        except ValueError as error:  # an explicit tag, such as `!!int x`
            raise yaml.constructor.ConstructorError(None, None, one_line(error), node.start_mark) from error


def _expanded_size(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """Return how many nodes a node stands for with every alias replaced; infinite if it contains itself."""
    if node not in known:
        known[node] = math.inf  # until all below it are counted
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = chain.from_iterable(below) if isinstance(node, yaml.MappingNode) else below
        known[node] = 1 + sum(_expanded_size(part, known) for part in parts)
    return known[node]


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
    """Return the config of an experiment.

    A file may contain anchors and merge keys (`<<: *base`); a top-level key `x-...` only holds anchors and is ignored.

    Args:
        path: YAML file, or None for the defaults.
        overrides: Strings `key.subkey=value`, with the value in YAML.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is not valid YAML, or contains an unknown key or a value that is not allowed.
    """
    values = _read(Path(path), seen=()) if path else {}
    for override in overrides or []:
        values = _merge(values, _parse_override(override), "the command line")
    sources = [str(path)] if path else []
    source = " and ".join([*sources, *(["the command line"] if overrides else [])])
    return config_from_dict(resolve_scalars(values, Config), source)


def config_from_dict(values: dict, source: str) -> Config:
    """Return the config of a plain dict from a YAML file or checkpoint; `source` is named in errors."""
    return validated(Config, values, source)


def dump_config(config: Config) -> str:
    """Return the whole config as YAML text."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(values: dict, prefix: str = "") -> dict:
    """Return nested dicts, and lists of dicts, as one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        nested = dict(enumerate(value)) if _is_list_of_mappings(value) else value
        flat.update(flatten(nested, f"{prefix}{key}.") if isinstance(nested, dict) else {f"{prefix}{key}": value})
    return flat


def changed_keys(before: Config, after: Config, ignored: tuple[str, ...] = ()) -> list[str]:
    """Return `key: VALUE then, VALUE now` for every key that differs; `ignored` keys omit list indices."""
    old, new = (flatten(config.model_dump(mode="json")) for config in (before, after))
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key) and _plain(key) not in ignored]
    return [f"{key}: {old.get(key)} then, {new.get(key)} now" for key in differing]


def _read(path: Path, seen: tuple[Path, ...]) -> dict:
    with reading(path):
        if path.is_dir():
            raise UserError(f"config {path} is a folder; name a YAML file in it")
        if not path.is_file():
            near = ", ".join(sorted(str(file) for file in path.parent.glob("*.yaml"))) or "none"
            raise MissingFileError(f"config {path} does not exist; YAML files in {path.parent}: {near}")
        if path.resolve() in seen:
            raise UserError(f"{path}: `{EXTENDS}` refers back to this file")
    values = parse_yaml(read_limited(path, LARGEST), str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values.value if isinstance(values, Scalar) else values).__name__
        raise UserError(f"{path}: a config is a mapping of keys to values, got {kind}")
    values = {key: value for key, value in values.items() if not str(key).startswith(HELPER)}
    parent = values.pop(EXTENDS, None)
    if parent is None:
        return values
    if not str(parent).lower().endswith(SUFFIXES):
        raise UserError(f"{path}: `{EXTENDS}` names {shortened(str(parent))}, which does not end with .yaml or .yml")
    return _merge(_read(path.parent / str(parent), (*seen, path.resolve())), values, str(path))


def parse_yaml(text: str | bytes, source: str):
    """Return the value of a YAML text, with numbers and booleans as Scalar; `source` is named in errors.

    Bytes are UTF-8 or, with a byte order mark, UTF-16.

    Raises:
        UserError: The text is not valid YAML; the message has line and column.
    """
    try:
        return _load_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"{source}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {one_line(error)}") from error
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML: nested too deeply") from error


@lru_cache(maxsize=4)
def _load_yaml(text: str | bytes) -> Any:
    """Parse YAML, for the splits of a run once; the result, which nobody changes, is shared."""
    return yaml.load(text, _Loader)


def _parse_override(text: str) -> dict:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{shortened(repr(text))} is not an override; write key.subkey=value, such as optim.lr=3e-5")
    parts = key.split(".")
    annotations: list[Any] = [Config]
    for part in parts:
        annotations = _annotations_below(annotations, part)
    nested = _text(value, type(None) in annotations) if str in annotations else parse_yaml(value, shortened(text))
    for part in reversed(parts):
        nested = {part: nested}
    return nested


def _text(value: str, optional: bool) -> str | None:
    """Return a text as the shell delimited it; only quotes around it, and `null` if that is allowed, are YAML's."""
    if value == "" or (optional and value in NULLS):
        return None
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES
    return str(parse_yaml(value, value)) if quoted else value


def _merge(base: dict, changes: dict, source: str) -> dict:
    """Return the base with changes applied; a mapping with numbers as keys changes members of a list."""
    merged = dict(base)
    for key, value in changes.items():
        below = base.get(key)
        if isinstance(value, dict) and _is_list_of_mappings(below):
            members = {str(number): member for number, member in enumerate(below)}
            alone = len(below) == 1 and not value.keys() & {"0", 0}  # as if given as a mapping
            by_number = {"0": value} if alone else {str(number): change for number, change in value.items()}
            if not by_number.keys() <= members.keys():
                raise UserError(
                    f"{source}: {key} is a list of {len(below)}; change an item by its number, such as "
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

SUBJECT = "Input should be "  # prefix of pydantic's messages
NOT_A_MAPPING = ("model_type", "model_attributes_type", "dict_type")


def validated(model: type[Model], values: dict, source: str) -> Model:
    """Return the settings of a plain dict; `source` is named in errors.

    Raises:
        UserError: A key is unknown, with the most similar known key, or a value is not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error, model, values)}") from error


def _explain(error: ValidationError, root: type[BaseModel], values: dict) -> str:
    """Return one clause for each wrong key; the alternatives of a union share a clause."""
    clauses: dict[str, list[str]] = {}
    received = {}
    for detail in error.errors():
        path, known = _key_path([str(part) for part in detail["loc"]], root)
        if path[:2] == ["dataset", "0"] and not isinstance(values.get("dataset"), (list, tuple)):
            if path[2:3] == ["scale"]:  # reported as the config's own `scale`
                continue
            del path[1]
        key = ".".join(path)
        if detail["type"] == "extra_forbidden":
            clauses[f"unknown key {shortened(repr(key))}{did_you_mean(path[-1], known)}"] = [
                f"known keys: {', '.join(known)}"
            ]
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
    """Return alternatives as one message, such as `Input should be a valid number or 'fit'`."""
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(message.removeprefix(SUBJECT) for message in others)])


def _key_path(path: list[str], root: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the keys in an error's path, and the known keys at the level of the last one.

    After the keys, pydantic's path names alternatives of a union and positions in lists of plain values.
    """
    annotations: list[Any] = [root]
    known: list[str] = []
    for index, part in enumerate(path):
        known = [name for model in models_among(annotations) for name in model.model_fields] or known
        annotations = _annotations_below(annotations, part)
        if not any(has_keys(each) for each in annotations):
            return path[: index + 1], known
    return path, known


def _annotations_below(annotations: list[Any], part: str) -> list[Any]:
    """Return the types at a key of a mapping, or at a position of a list, of which the first may be omitted."""
    lists = [get_args(each)[0] for each in annotations if get_origin(each) is tuple]
    if part.isdigit():
        below = lists
    else:
        models = models_among([*annotations, *lists])
        below = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        below += [get_args(each)[1] for each in annotations if get_origin(each) is dict]
    return [each for annotation in below for each in union_members(annotation)]
