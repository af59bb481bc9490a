"""The domains by name; a new one is a line here, a settings class and a class (see base.py)."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from suite.domains.archive.config import ArchiveConfig
from suite.domains.bandit.config import BanditConfig
from suite.domains.control.config import ControlConfig
from suite.domains.lm.config import LMConfig
from suite.domains.offline.config import OfflineConfig
from suite.domains.rows.config import RowsConfig

if TYPE_CHECKING:
    from suite.config import Config
    from suite.domains.base import Domain

DOMAINS: dict[str, tuple[type, str]] = {
    "archive": (ArchiveConfig, "suite.domains.archive.domain:Archive"),
    "bandit": (BanditConfig, "suite.domains.bandit.domain:Bandit"),
    "control": (ControlConfig, "suite.domains.control.domain:Control"),
    "lm": (LMConfig, "suite.domains.lm.domain:LanguageModel"),
    "offline": (OfflineConfig, "suite.domains.offline.domain:Offline"),
    "rows": (RowsConfig, "suite.domains.rows.domain:Rows"),
}


def build_domain(config: "Config", cache: Path) -> "Domain":
    """Build the domain of a run from plain values; `cache` is a folder for what runs share.

    A domain's class takes its settings, and by keyword `teacher` (who turns true labels into those
    that the learner sees), `divergence` (which KL it computes), `seed` (of its random streams) and
    `cache`; one with models that may be large also the `device` where they are to be.
    """
    from suite import ranks
    from suite.teacher import Teacher

    _, path = DOMAINS[config.domain.name]
    module, _, name = path.partition(":")
    where = {"device": ranks.device(config.trainer)} if config.domain.spreadable else {}
    domain: Domain = getattr(import_module(module), name)(
        config.domain,
        teacher=Teacher(config.feedback, config.labels),
        divergence=config.divergence,
        seed=config.seed,
        cache=cache,
        **where,
    )
    return domain
