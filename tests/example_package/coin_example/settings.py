"""Settings of the coin domain and of the hinge objective; nothing heavy is imported here."""

from dataclasses import dataclass
from typing import ClassVar

from suite.config.contracts import DomainConfig, ObjectiveConfig
from suite.config.fields import key


@dataclass
class CoinConfig(DomainConfig):
    """One number, and feedback that prefers positive samples."""

    implementation: ClassVar[str] = "coin_example.coin:Coin"
    closed_form_kl: ClassVar[bool] = True
    batch_size_key: ClassVar[str] = "contexts"
    contexts: int = key(8, "groups of samples per batch", at_least=1)
    samples: int = key(4, "samples per group, K", at_least=2)


@dataclass
class HingeConfig(ObjectiveConfig):
    """A hinge on each labelled sample's log-ratio to the reference."""

    implementation: ClassVar[str] = "coin_example.hinge:bind"
    margin: float = key(1.0, "log-ratio from which on a sample is good enough, in nats", above=0)
    beta: float = key(0.1, "weight of KL(π_ref ‖ π)", at_least=0)
