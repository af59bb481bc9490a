"""Names of domains, objectives and language tasks, and the classes behind them.

A name is built in (below), an entry point of an installed package, or an import path
`package.module:Class`. Nothing is imported before it is asked for.
"""

import difflib
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from suite.config.contracts import DomainConfig, ObjectiveConfig, import_path
from suite.config.fields import ConfigError

DOMAINS = {
    "archive": "suite.domains.bandit.archive_config:ArchiveConfig",
    "bandit": "suite.domains.bandit.online_config:BanditConfig",
    "control": "suite.domains.control.online_config:ControlConfig",
    "lm": "suite.domains.language.online_config:LMConfig",
    "offline": "suite.domains.control.offline_config:OfflineConfig",
    "rows": "suite.domains.language.offline_config:RowsConfig",
}
OBJECTIVES = {
    "pmpo": "suite.objectives.config:PMPOConfig",
    "dpo": "suite.objectives.pairs_config:DPOConfig",
    "mpo": "suite.objectives.config:MPOConfig",
    "weighted": "suite.objectives.groups_config:WeightedConfig",
    "cdpo": "suite.objectives.pairs_config:CDPOConfig",
    "robust_dpo": "suite.objectives.pairs_config:RobustDPOConfig",
    "ipo": "suite.objectives.pairs_config:IPOConfig",
    "exo_pref": "suite.objectives.pairs_config:EXOPrefConfig",
    "rpo": "suite.objectives.pairs_config:RPOConfig",
    "dpo_positive": "suite.objectives.pairs_config:DPOPositiveConfig",
    "simpo": "suite.objectives.pairs_config:SimPOConfig",
    "orpo": "suite.objectives.pairs_config:ORPOConfig",
    "ada_dpo": "suite.objectives.pairs_config:AdaDPOConfig",
    "altpo": "suite.objectives.pairs_config:AltPOConfig",
    "bpr": "suite.objectives.pairs_config:BPRConfig",
    "var_bpr": "suite.objectives.pairs_config:VarBPRConfig",
    "kto": "suite.objectives.singles_config:KTOConfig",
    "bco": "suite.objectives.singles_config:BCOConfig",
    "apo_zero": "suite.objectives.singles_config:APOZeroConfig",
    "npo": "suite.objectives.singles_config:NPOConfig",
    "simnpo": "suite.objectives.singles_config:SimNPOConfig",
    "topr": "suite.objectives.singles_config:TOPRConfig",
    "d2o": "suite.objectives.singles_config:D2OConfig",
    "reinforce": "suite.objectives.singles_config:ReinforceConfig",
    "exo_rw": "suite.objectives.groups_config:EXORWConfig",
    "dpo_rw": "suite.objectives.groups_config:DPORWConfig",
    "nca": "suite.objectives.groups_config:NCAConfig",
    "neat": "suite.objectives.groups_config:NEATConfig",
    "rwr": "suite.objectives.groups_config:RWRConfig",
    "awr": "suite.objectives.groups_config:AWRConfig",
    "crr": "suite.objectives.groups_config:CRRConfig",
    "v_mpo": "suite.objectives.groups_config:VMPOConfig",
}
TASKS = {
    "arithmetic": "suite.domains.language.tasks.arithmetic:Arithmetic",
    "letters": "suite.domains.language.tasks.letters:Letters",
    "prompts": "suite.domains.language.tasks.prompt_file:PromptFile",
}


class Kind(NamedTuple):
    """A kind of thing that a configuration chooses by name."""

    key: str
    """The key that holds the name."""
    built_in: dict[str, str]
    """Import paths by name."""
    entry_points: str
    """The group of entry points of other packages."""
    base: type | None = None
    """What its class must be a subclass of."""
    methods: tuple[str, ...] = ()
    """What its class must have."""


KINDS = {
    "domain": Kind("domain.name", DOMAINS, "pmpo_suite.domains", DomainConfig),
    "objective": Kind("objective.name", OBJECTIVES, "pmpo_suite.objectives", ObjectiveConfig),
    "task": Kind(
        *("domain.task", TASKS, "pmpo_suite.tasks"),
        methods=("prompts", "demonstration", "score"),
    ),
}


class Choice(NamedTuple):
    """The class behind a name."""

    name: str
    """The canonical name: a built-in one as it is, else the class's own import path."""
    settings: Any
    """The class: settings of a domain or an objective, or a language task."""


@cache
def choose(kind: str, name: str) -> Choice:
    """Return the class behind a name; raises ConfigError with the nearest known name."""
    what = KINDS[kind]
    if name in what.built_in:
        return Choice(name, imported(what.key, name, what.built_in[name]))
    path = name if ":" in name else entry_point_path(what, name)
    chosen = imported(what.key, name, path)
    check_class(what, name, chosen)
    own_path = f"{chosen.__module__}:{chosen.__qualname__}"
    built_in = {path: name for name, path in what.built_in.items()}
    return Choice(built_in.get(own_path, own_path), chosen)


def canonical_name(kind: str, name: str) -> str:
    """Return the canonical name, which is what a signature holds; raises ConfigError."""
    return name if name in KINDS[kind].built_in else choose(kind, name).name


def known_names(kind: str) -> list[str]:
    """Return all short names: built-in ones, then those of installed packages."""
    what = KINDS[kind]
    return [*what.built_in, *sorted({point.name for point in points_of(what)} - {*what.built_in})]


def points_of(what: Kind) -> list[EntryPoint]:
    """Return what installed packages offer."""
    return list(entry_points(group=what.entry_points))


def entry_point_path(what: Kind, name: str) -> str:
    """Return the import path of an entry point; raises ConfigError for none, or for several."""
    paths = sorted({point.value for point in points_of(what) if point.name == name})
    if len(paths) > 1:
        raise ConfigError(
            f"{what.key}={name} is ambiguous, for several packages bring it:"
            f" {', '.join(paths)}; give one of these import paths"
        )
    if not paths:
        known = [*what.built_in, *sorted(point.name for point in points_of(what))]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{what.key} must be one of {', '.join(known)}, or an import path"
            f" package.module:Class; found {name!r}{hint}"
        )
    return paths[0]


def imported(key: str, name: str, path: str) -> Any:
    """Import `package.module:attribute`; raises ConfigError with the error's own words."""
    module, _, attribute = path.partition(":")
    try:
        return import_path(path)
    except (Exception, SystemExit) as error:  # of somebody else's module
        shown = name if name == path else f"{name} ({path})"
        near = nearest_attribute(module, attribute) if isinstance(error, AttributeError) else ""
        raise ConfigError(
            f"{key}={shown} cannot be imported: {type(error).__name__}: {error}{near}"
        ) from error


def nearest_attribute(module: str, attribute: str) -> str:
    """Return a hint at what a module has under a similar name."""
    near = difflib.get_close_matches(attribute, dir(import_module(module)), n=1, cutoff=0.6)
    return f"; did you mean {module}:{near[0]}?" if near else ""


def check_class(what: Kind, name: str, chosen: Any) -> None:
    """Raise ConfigError unless an import led to a class that can be used."""
    if not isinstance(chosen, type):
        raise ConfigError(f"{what.key}={name} must be a class, found {type(chosen).__name__}")
    for method in what.methods:
        if not callable(getattr(chosen, method, None)):
            raise ConfigError(f"{what.key}={name} must have the method {method}, and has none")
    if what.base is None:
        return
    settings: Any = chosen
    if not (issubclass(chosen, what.base) and is_dataclass(chosen)):
        raise ConfigError(
            f"{what.key}={name} must be a dataclass that subclasses"
            f" {what.base.__module__}.{what.base.__name__}, found {chosen.__name__}"
        )
    if not settings.implementation:
        raise ConfigError(
            f"{what.key}={name} must name its implementation: {chosen.__name__}.implementation ="
            " 'package.module:name'"
        )
