"""Bandits with few arms, for the tests of the categorical policy."""

import torch

from suite.config.schema import LabelNoiseConfig
from suite.domains.bandit.categorical import Arms
from suite.domains.bandit.online_config import BanditConfig
from suite.feedback.label_noise import LabelNoise
from tests.conftest import ROOT, parts_of

HIDDEN = ROOT / "configs/bandit/hidden_peak.yaml"


def domain_of(*, seed: int = 0, flip: float = 0.0, **keys: object) -> Arms:
    settings = BanditConfig(policy="categorical", **{"function": "likely_peak", **keys})
    settings.check()
    noise = LabelNoise("mixed", LabelNoiseConfig(flip=flip))
    return Arms(settings, parts_of(noise, seed, None))


def move(domain: Arms, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
    """Give policy and reference random logits."""
    generator = torch.Generator().manual_seed(seed)
    for network in (domain.policy, domain.reference):
        logits = scale * torch.randn(len(domain.rewards), generator=generator).to(dtype)
        network.logits.data = logits
