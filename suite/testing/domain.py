"""The contract of a domain."""

import copy
from pathlib import Path

import torch
from torch import Tensor

from suite.config.schema import Config
from suite.domains.base import Domain
from suite.feedback.feedback import Feedback
from suite.testing.shared import (
    build,
    check_settings,
    check_training_moves_the_policy_alone,
    config_of,
    equal,
    first_feedback,
    require,
)

MODES = ("positive", "negative", "mixed")


def check_domain(name: str, *overrides: str, folder: Path) -> None:
    """Check everything that the suite relies on in a domain.

    `name` is the value of `domain.name`; `overrides` are `key=value`, best with small sizes; caches
    and a configuration file go into `folder`. Raises BrokenContract in one sentence, and
    ConfigError where the settings do not load.
    """
    for mode in MODES:
        check_feedback(config_of(name, [*overrides, f"feedback={mode}"], folder))
    config = config_of(name, overrides, folder)
    check_settings(config, folder)
    check_training_moves_the_policy_alone(config)
    check_evaluation(config)
    check_seeds(config, config_of(name, [*overrides, f"seed={config.seed + 1}"], folder))
    check_state(config)
    check_saving(config, folder / "saved")


def check_feedback(config: Config) -> None:
    """Feedback has the promised shapes, signs and gradients; at the start the KL is 0."""
    domain = build(config)
    feedback = first_feedback(domain)
    contexts, samples = feedback.logp.shape
    check_weights(feedback, config.feedback)
    require(feedback.kl.shape == (contexts,), f"kl must be [B] = [{contexts}]")
    require((feedback.kl >= -1e-6).all(), "kl must not be negative")
    require(
        (feedback.kl_parts is not None) == config.domain.has_gaussian_policy(),
        "kl_parts must be there exactly where the settings declare closed_form_kl, or"
        " has_gaussian_policy returns True",
    )
    if feedback.kl_parts is not None:
        for part in feedback.kl_parts:
            require(
                part.shape == (contexts, domain.dimensions),
                f"kl_parts must be [B, D] = [{contexts}, {domain.dimensions}] each",
            )
        require(
            torch.allclose(feedback.kl_parts.total(), feedback.kl, rtol=1e-4, atol=1e-6),
            "kl must be the sum of kl_parts",
        )
    for name, values in (("reference_logp", feedback.reference_logp), ("score", feedback.score)):
        require(
            values is not None and values.shape == (contexts, samples),
            f"{name} must be [B, K] = [{contexts}, {samples}]",
        )
    if feedback.reverse_kl is not None:
        require(feedback.reverse_kl.shape == (contexts,), f"reverse_kl must be [B] = [{contexts}]")
        require((feedback.reverse_kl >= -1e-6).all(), "reverse_kl must not be negative")
        require(not feedback.reverse_kl.requires_grad, "reverse_kl must have no gradient")
    check_start(domain, feedback)


def check_weights(feedback: Feedback, mode: str) -> None:
    """Labels are weights, one kind for each sample; the mode hides the other kind."""
    for name, weight in (("accept", feedback.accept), ("reject", feedback.reject)):
        require(weight.shape == feedback.logp.shape, f"{name} must have the shape of logp, [B, K]")
        require((weight >= 0).all(), f"{name} must not be negative")
    require(
        (feedback.accept * feedback.reject == 0).all(), "a sample is both accepted and rejected"
    )
    hidden = {"positive": feedback.reject, "negative": feedback.accept}.get(mode)
    require(
        hidden is None or hidden.sum() == 0,
        f"feedback={mode} must hide the other label; let LabelNoise.apply make the labels",
    )


def check_start(domain: Domain, feedback: Feedback) -> None:
    """The policy starts at the reference, and only the policy gets gradients."""
    assert feedback.reference_logp is not None
    require(
        torch.allclose(feedback.logp, feedback.reference_logp, atol=1e-4, rtol=1e-4),
        "before the first step logp must equal reference_logp",
    )
    require((feedback.kl.abs() < 1e-5).all(), "before the first step the KL must be 0")
    require(not feedback.reference_logp.requires_grad, "reference_logp must carry no gradient")
    feedback.logp.sum().backward()  # type: ignore[no-untyped-call]
    moved = any(p.grad is not None and bool(p.grad.any()) for p in domain.policy.parameters())
    require(moved, "logp must have a gradient for the policy's parameters")
    require(
        all(p.grad is None for p in domain.reference.parameters()),
        "the reference's parameters must get no gradient",
    )
    for name, share in domain.shares._asdict().items():
        require(0 <= share <= 1, f"shares.{name} must lie in [0, 1], found {share}")


def check_evaluation(config: Config) -> None:
    """An evaluation has a score and a KL, repeats itself, and leaves training alone."""
    domain = build(config)
    before = copy.deepcopy(domain.state_dict())
    first, second = domain.evaluate(), domain.evaluate()
    require({"score", "kl"} <= first.keys(), "evaluate must return `score` and `kl`")
    require(first == second, "a second evaluation of the same policy must give the same numbers")
    after = domain.state_dict()
    require(
        all(equal(before[name], after[name]) for name in before),
        "evaluate must leave the state of training alone",
    )


def check_seeds(config: Config, other: Config) -> None:
    """Equal seeds give equal batches, and other seeds other ones."""

    def numbers(config: Config) -> Tensor:
        feedback = first_feedback(build(config))
        assert feedback.score is not None
        return torch.cat([feedback.score, feedback.logp.detach()])

    require(torch.equal(numbers(config), numbers(config)), "equal seeds must give equal batches")
    require(not torch.equal(numbers(config), numbers(other)), "other seeds must give other batches")


def check_state(config: Config) -> None:
    """A state continues the stream of batches exactly."""
    first = build(config)
    batches = iter(first.train_dataloader())
    next(batches)
    state = copy.deepcopy(first.state_dict())
    expected = first.feedback(next(batches))
    second = build(config)
    second.load_state_dict(state)
    after = first_feedback(second)
    for name in ("score", "logp"):
        require(
            equal(getattr(expected, name), getattr(after, name)),
            f"after load_state_dict the next batch must have the same {name}",
        )
    require(first.shares == second.shares, "load_state_dict must bring back the shares")


def check_saving(config: Config, folder: Path) -> None:
    """The policy is written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    build(config).save(folder)
    require(any(folder.iterdir()), "save must write the policy into the folder")
