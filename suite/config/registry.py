"""Domains and objectives by name; a new one is a line here and a settings class."""

from suite.domains.bandit.archive_config import ArchiveConfig
from suite.domains.bandit.config import BanditConfig
from suite.domains.control.config import ControlConfig
from suite.domains.control.offline_config import OfflineConfig
from suite.domains.language.config import LMConfig
from suite.domains.language.offline_config import RowsConfig
from suite.objectives.config import DPOConfig, MPOConfig, PMPOConfig, WeightedConfig

DOMAINS: dict[str, tuple[type, str]] = {
    "archive": (ArchiveConfig, "suite.domains.bandit.archive:Archive"),
    "bandit": (BanditConfig, "suite.domains.bandit.online:Bandit"),
    "control": (ControlConfig, "suite.domains.control.online:Control"),
    "lm": (LMConfig, "suite.domains.language.online:LanguageModel"),
    "offline": (OfflineConfig, "suite.domains.control.offline:Offline"),
    "rows": (RowsConfig, "suite.domains.language.offline:Rows"),
}


OBJECTIVES: dict[str, tuple[type, str]] = {
    "pmpo": (PMPOConfig, "suite.objectives.pmpo"),
    "dpo": (DPOConfig, "suite.objectives.dpo"),
    "mpo": (MPOConfig, "suite.objectives.mpo"),
    "weighted": (WeightedConfig, "suite.objectives.weighted"),
}
