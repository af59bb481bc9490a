"""Names as Weights & Biases takes them: what is too long or forbidden there is replaced.

The limits are those of its service: names of projects, runs and groups have 128 characters, tags
have 64. Two names that differ stay different, since a shortened name ends with its digest.
"""

import hashlib
from typing import Any

NAME_LENGTH = 128
TAG_LENGTH = 64
TEXT_LENGTH = 10_000  # of a text in the configuration; the whole has a few megabytes
DIGEST_LENGTH = 8
FORBIDDEN = frozenset("/\\#?%:")  # in names of projects


def shortened(text: str, limit: int) -> str:
    """Return a printable text of at most `limit` characters; a changed one ends with a digest."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    if plain == text and len(text) <= limit:
        return text
    return with_digest(plain, text, limit)


def with_digest(plain: str, original: str, limit: int) -> str:
    """Return the beginning of a text and the digest of the original, `limit` characters at most."""
    content = original.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
    return f"{plain[: limit - DIGEST_LENGTH - 1].strip()}-{digest}".lstrip("-")


def project_name(text: str) -> str:
    """Return the name of a project without forbidden characters."""
    plain = "".join("-" if c in FORBIDDEN else c for c in text)
    if plain == text:
        return shortened(text, NAME_LENGTH)
    return with_digest(plain, text, NAME_LENGTH)


def tags(texts: list[str]) -> list[str]:
    """Return tags, each once; empty ones are left out."""
    return list(dict.fromkeys(shortened(text, TAG_LENGTH) for text in texts if text.strip()))


def config_values(values: Any) -> Any:
    """Return a configuration's values with very long texts shortened."""
    if isinstance(values, dict):
        return {name: config_values(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [config_values(value) for value in values]
    if isinstance(values, str) and len(values) > TEXT_LENGTH:
        return with_digest(values, values, TEXT_LENGTH)
    return values
