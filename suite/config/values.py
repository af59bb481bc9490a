"""Values as a person wrote them, and what they mean for a key of a known type.

YAML 1.1 reads 010 as 8, 1:30 as 90 and `on` as true, whatever the key holds. Here plain words stay
text until the type of their key is known: a key for text gets the text, a key for numbers a decimal
number.
"""

import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf

from suite.config.fields import ConfigError

NULLS = ("", "~", "null", "Null", "NULL")
BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
OTHER_BASE = re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+|o[0-7_]+)")
LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
REAL = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)")
# ${name:…} calls a function, such as one that reads the environment, where secrets are.
RESOLVER = re.compile(r"\$\{[^}]*[:$]")
MARK = "\0"


class Plain(str):
    """A word of YAML without quotes, as it was written."""


class Given(Plain):
    """The value of an override as it was written; text for a key that holds text, else YAML."""


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader that leaves plain words as they are, and takes no key twice."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the tag of a node."""
        is_plain = kind is yaml.ScalarNode and implicit[0] and value != "<<"
        if is_plain:
            return "!plain"
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Build a mapping; raises YAMLError where a key is there twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    message = f"found duplicate key {key.value}"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


PlainLoader.add_constructor("!plain", lambda loader, node: Plain(node.value))


def parse_yaml(text: str) -> Any:
    """Parse YAML; plain words come as Plain. Raises YAMLError, and ConfigError for a resolver."""
    values = yaml.load(str(text), PlainLoader)  # libyaml takes no subclass of str
    if "${" not in text:
        return values
    check_resolvers(values, "")
    names = encoded(values) if isinstance(values, dict) else {}  # that `${name}` refers to
    marked = OmegaConf.create({**names, MARK: encoded(values)})
    resolved: Any = OmegaConf.to_container(marked, resolve=True)
    return decoded(resolved[MARK])


def check_resolvers(values: Any, name: str) -> None:
    """Raise ConfigError where a value calls a resolver: what is written would hold its result."""
    if isinstance(values, dict):
        for key, value in values.items():
            check_resolvers(str(key), f"{name}.{key}".strip("."))
            check_resolvers(value, f"{name}.{key}".strip("."))
    elif isinstance(values, list):
        for value in values:
            check_resolvers(value, name)
    elif isinstance(values, str) and RESOLVER.search(values):
        raise ConfigError(
            f"{name} must not call a resolver: its result, which may be a secret, would be written"
            f" into config.yaml and published; found {str(values)!r}"
        )


def encoded(values: Any) -> Any:
    """Return values for OmegaConf, which knows no Plain: those are marked."""
    if isinstance(values, dict):
        return {str(key): encoded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [encoded(value) for value in values]
    if isinstance(values, Plain):
        return str(values) if "${" in values else MARK + values
    return values


def decoded(values: Any) -> Any:
    """Return values of OmegaConf with the marked ones as Plain."""
    if isinstance(values, dict):
        return {key: decoded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [decoded(value) for value in values]
    if isinstance(values, str) and MARK in values:
        text = values.replace(MARK, "")
        return Plain(text) if values.startswith(MARK) else text
    return values


def untyped(value: Any) -> Any:
    """Return values for keys without a type: plain words that look like numbers are numbers."""
    if isinstance(value, dict):
        return {str(key): untyped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [untyped(inner) for inner in value]
    if isinstance(value, Given):
        return untyped(parse_yaml(value))
    if not isinstance(value, Plain):
        return value
    text = str(value)
    if text in NULLS:
        return None
    if text.lower() in BOOLS:
        return BOOLS[text.lower()]
    number = as_integer(text)
    if number is not None:
        return number
    is_real = REAL.fullmatch(text) or ENDLESS.fullmatch(text)
    return as_real(text) if is_real and not LEADING_ZERO.match(text) else text


def typed(base: DictConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Return values with the types of the keys of `base`; raises ConfigError naming the key."""
    kind: Any = OmegaConf.get_type(base)
    hints = hints_of(kind) if isinstance(kind, type) and kind is not dict else {}
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = None
        if key in base and not OmegaConf.is_missing(base, key):
            inner = base[key]
        parsed = value
        if isinstance(inner, DictConfig) and isinstance(value, Given):
            parsed = parse_yaml(value)
        if isinstance(inner, DictConfig) and isinstance(parsed, dict):
            result[key] = typed(inner, parsed)
        else:
            result[key] = typed_value(parsed, hints.get(key, Any), key)
    return result


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    try:
        return get_type_hints(kind)
    except Exception:  # a plug-in's hint may name what only type checkers see
        return {}


def typed_value(value: Any, hint: Any, name: str) -> Any:
    """Return a value as its type wants it; what does not fit is left for OmegaConf to refuse."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [kind for kind in choices if kind is not NoneType]
    kind = kinds[0] if len(kinds) == 1 else Any
    is_text = kind is str or (
        get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind))
    )
    if isinstance(value, Given):
        value = text_of(value) if is_text else parse_yaml(value)
    if isinstance(value, list):
        inner = (get_args(kind) or (Any,))[0] if get_origin(kind) in (list, tuple) else Any
        return [typed_value(item, inner, name) for item in value]
    if isinstance(value, dict):
        inner = (*get_args(kind), Any)[1] if get_origin(kind) is dict else Any
        return {str(key): typed_value(item, inner, name) for key, item in value.items()}
    if not isinstance(value, str) or (isinstance(value, Plain) and value in NULLS):
        return untyped(value)
    if is_text:
        return str(value)
    if kind in (int, float):
        return number_of(str(value), kind, name)
    return BOOLS.get(value.lower(), str(value)) if kind is bool else untyped(value)


def text_of(value: Given) -> str:
    """Return the text of an override: all of it, or what its quotes enclose."""
    if value[:1] in ("'", '"'):
        try:
            parsed = parse_yaml(value)
        except yaml.YAMLError:
            return value
        if isinstance(parsed, str):
            return parsed
    return value


def number_of(text: str, kind: type, name: str) -> Any:
    """Return a decimal number; raises ConfigError for a leading zero, which YAML reads as octal."""
    if LEADING_ZERO.fullmatch(text):
        raise ConfigError(
            f"{name} must be a number without a leading zero, which some read as octal and some as"
            f" decimal; found {text}"
        )
    number = as_integer(text)
    if kind is int or number is None:
        return number if kind is int and number is not None else as_real_or_text(text, kind)
    return float(number)


def as_integer(text: str) -> int | None:
    """Return the integer that a text is, None for another text."""
    if INTEGER.fullmatch(text):
        return int(text)
    return int(text.replace("_", ""), 0) if OTHER_BASE.fullmatch(text) else None


def as_real_or_text(text: str, kind: type) -> float | str:
    """Return a number for a key that holds a fraction, and else the text, which is refused."""
    is_real = REAL.fullmatch(text) or ENDLESS.fullmatch(text)
    return as_real(text) if kind is float and is_real else text


def as_real(text: str) -> float:
    """Return the number that a text of REAL or ENDLESS is."""
    sign, rest = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    if ENDLESS.fullmatch(rest):
        rest = rest[1:]
    return float(sign + rest.replace("_", ""))
