"""The domains by name; a new one is a line here, a settings class and a class (see base.py)."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.domains.bandit.config import BanditConfig
from suite.domains.lm.config import LMConfig

if TYPE_CHECKING:
    from suite.domains.base import Domain

DOMAINS: dict[str, tuple[type, str]] = {
    "bandit": (BanditConfig, "suite.domains.bandit.domain:Bandit"),
    "lm": (LMConfig, "suite.domains.lm.domain:LanguageModel"),
}


def build_domain(
    settings: Any, *, feedback: str, divergence: str, seed: int, cache: Path
) -> "Domain":
    """Build a domain from its settings.

    `feedback` says which labels the learner may see, `divergence` which KL it computes, `seed`
    starts its random streams, and `cache` is a folder for what runs share.
    """
    _, path = DOMAINS[settings.name]
    module, _, name = path.partition(":")
    domain: Domain = getattr(import_module(module), name)(
        settings, feedback=feedback, divergence=divergence, seed=seed, cache=cache
    )
    return domain
