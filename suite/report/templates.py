"""The Jinja environment of all pages, whose templates are in templates/."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

Filters = Mapping[str, Callable[..., str]]


def render(name: str, content: Mapping[str, Any], filters: Filters | None = None) -> str:
    """Render the template `name` with variables and filters; HTML is escaped.

    Raises jinja2.UndefinedError for a variable that `content` does not hold.
    """
    environment = Environment(
        loader=PackageLoader("suite.report"),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(content)


def is_html(name: str | None) -> bool:
    """Return whether a template is of an HTML page, by its name."""
    return name is not None and ".html" in name
