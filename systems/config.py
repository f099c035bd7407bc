"""Configurations: frozen dataclasses addressed by dotted keys (``vat.epsilon``).

The same keys are used by the search spaces, by ``--set`` and by ``--space``.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from systems.errors import UserError, nearest

T = TypeVar("T")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """All leaf values of a configuration by dotted key; a part that is switched off is ``None``."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = prefix + field.name
        if dataclasses.is_dataclass(value):
            leaves.update(flatten(value, key + "."))
        else:
            leaves[key] = value
    return leaves


def get(config: Any, key: str) -> Any:
    """The value at a dotted key. Raises UserError with the nearest key if there is none."""
    value = config
    for name in key.split("."):
        if not dataclasses.is_dataclass(value) or not hasattr(value, name):
            raise _unknown_key(config, key)
        value = getattr(value, name)
    return value


def has(config: Any, key: str) -> bool:
    """Whether there is a value at a dotted key: none below a part that is switched off."""
    try:
        get(config, key)
    except UserError:
        return False
    return True


def replace(config: T, overrides: Mapping[str, Any]) -> T:
    """A copy of ``config`` with the values at some dotted keys replaced, or whole parts of it.

    Raises:
        UserError: for an unknown key (names the nearest one) or a value of the wrong type.
    """
    for key, value in overrides.items():
        config = _replace_one(config, key, key.split("."), value, config)
    return config


def parse(config: Any, key: str, text: str) -> Any:
    """Read ``--set key=text``: the text is taken as the type of the field at ``key``."""
    if isinstance(get(config, key), str):
        return text  # refinement.on=none is a word
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "," in text:
        return tuple(_scalar(part) for part in text.split(","))
    return _scalar(text)


def short(value: Any) -> str:
    """A value in a line of a table: itself, or how many there are of a long list."""
    if not isinstance(value, list | tuple):
        return str(value)
    return f"{len(value)} values" if len(value) > 4 else ", ".join(map(str, value)) or "none"


def to_json(config: Any) -> str:
    """The configuration as nested JSON."""
    return json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True)


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of ``dataclasses.asdict`` for nested frozen dataclasses."""
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"'{name}' is no field of {kind.__name__}{nearest(name, hints)}.")
        arguments[name] = _restore(hints[name], value)
    return kind(**arguments)


def _restore(hint: Any, value: Any) -> Any:
    """A value as its type says: tuples and dataclasses, which JSON has no name for."""
    if hint is Any:
        return value
    for option in typing.get_args(hint) if _is_union(hint) else (hint,):
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(option):
            return from_dict(option, value)  # type: ignore[arg-type]
        if isinstance(value, Mapping) and origin in (dict, Mapping):
            return {key: _restore(inner[1], one) for key, one in value.items()}
        if isinstance(value, list) and origin is tuple:
            kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
            return tuple(map(_restore, kinds, value))
    return tuple(value) if isinstance(value, list) else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _replace_one(config: Any, key: str, path: list[str], value: Any, root: Any) -> Any:
    name, rest = path[0], path[1:]
    if config is None:
        raise UserError(f"'{key}' cannot be set: '{key.removesuffix('.'.join(path))[:-1]}' is off.")
    if not dataclasses.is_dataclass(config) or name not in {
        f.name for f in dataclasses.fields(config)
    }:
        raise _unknown_key(root, key)
    if rest:
        new = _replace_one(getattr(config, name), key, rest, value, root)
    else:
        new = _checked(typing.get_type_hints(type(config))[name], key, value)
    try:
        return dataclasses.replace(config, **{name: new})  # type: ignore[type-var]
    except ValueError as error:
        raise UserError(f"{key}={value}: {error}") from error


def _checked(hint: Any, key: str, value: Any) -> Any:
    """The value as the type the field asks for; integers count as floats, 1e3 as 1000."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        origin = typing.get_origin(option)
        if option is type(None) or dataclasses.is_dataclass(option):
            if type(value) is option:  # nothing, or a whole part of the configuration
                return value
        elif origin is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif origin is tuple:
            item = typing.get_args(option)[0]
            values = value if isinstance(value, list | tuple) else (value,)
            return tuple(_checked(item, key, v) for v in values)
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif option is int and isinstance(value, float) and value.is_integer():
            return int(value)
        elif isinstance(option, type) and type(value) is option:
            return value
    allowed = [", ".join(map(str, typing.get_args(o))) for o in options
               if typing.get_origin(o) is typing.Literal]  # fmt: skip
    expected = f"one of {allowed[0]}" if allowed else _type_names(options)
    raise UserError(f"'{key}' takes {expected}, not {value!r}.")


def _type_names(options: tuple[Any, ...]) -> str:
    return " or ".join(
        "none" if o is type(None) else getattr(o, "__name__", str(o)) for o in options
    )


def _unknown_key(config: Any, key: str) -> UserError:
    keys = sorted(flatten(config))
    return UserError(
        f"unknown configuration key '{key}'{nearest(key, keys)}. Known: {', '.join(keys)}."
    )
