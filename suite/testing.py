"""The contracts of domains and objectives, for the tests of other packages.

One line each in the other package's pytest:

```python
def test_the_coin_keeps_the_contract(tmp_path):
    check_domain("mypackage.coin:CoinConfig", "domain.contexts=4", folder=tmp_path)
```
"""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.base import Domain, build_domain
from suite.feedback.feedback import Feedback
from suite.objectives.base import Objective, build_objective
from suite.system.files import write_text

MODES = ("positive", "negative", "mixed")


class BrokenContract(AssertionError):
    """A domain or an objective breaks a rule that the suite relies on."""


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


def check_objective(
    name: str, *overrides: str, folder: Path, domain: Sequence[str] = ("domain.name=bandit",)
) -> None:
    """Check everything that the suite relies on in an objective, on samples of a domain.

    `name` is the value of `objective.name`; `domain` are the overrides that choose the domain whose
    samples it learns from. Raises as `check_domain` does.
    """
    chosen = next(word.partition("=")[2] for word in domain if word.startswith("domain.name="))
    others = [word for word in domain if not word.startswith("domain.name=")]
    config = config_of(chosen, [*others, f"objective.name={name}", *overrides], folder)
    check_settings(config, folder)
    check_terms(config)
    check_training_moves_the_policy_alone(config)


def config_of(name: str, overrides: Sequence[str], folder: Path) -> Config:
    """Load a configuration of a domain, whose other keys have their defaults."""
    path = folder / "contract.yaml"
    write_text(path, f"domain: {{name: '{name}'}}\n")
    given = [f"results_dir={folder}", *overrides]
    follows = any(word.startswith("reference.update=") for word in given)
    try:
        return load(path, given)
    except Exception:
        if follows:
            raise
        return load(path, [*given, "reference.update=copy"])  # where a frozen one is refused


def build(config: Config) -> Domain:
    """Build a configuration's domain from its seed."""
    torch.manual_seed(config.seed)
    return build_domain(config, cache=Path(config.results_dir))


def first_feedback(domain: Domain) -> Feedback:
    """Return the feedback of the first batch."""
    return domain.feedback(next(iter(domain.train_dataloader())))


def require(condition: bool | Tensor, sentence: str) -> None:
    """Raise BrokenContract with the sentence unless the condition holds."""
    if not bool(condition):
        raise BrokenContract(sentence)


def check_settings(config: Config, folder: Path) -> None:
    """A run's config.yaml gives the same run again."""
    from suite.runs.folder import RunFolder

    run = RunFolder(folder / "contract-run")
    run.create(config)
    again = run.config()
    require(
        again.signature == config.signature,
        "the settings, written to config.yaml and read again, have another signature",
    )
    require("/" not in config.run_name, f"the task or variant holds a slash: {config.run_name}")


def check_feedback(config: Config) -> None:
    """Feedback has the promised shapes, signs and gradients; at the start the KL is 0."""
    domain = build(config)
    feedback = first_feedback(domain)
    contexts, samples = feedback.logp.shape
    check_weights(feedback, config.feedback)
    require(feedback.kl.shape == (contexts,), f"kl must be [B] = [{contexts}]")
    require((feedback.kl >= -1e-6).all(), "kl must not be negative")
    require(
        (feedback.kl_parts is not None) == config.domain.closed_form_kl,
        "kl_parts must be there exactly where the settings declare closed_form_kl",
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


def check_terms(config: Config) -> None:
    """The loss is finite and a mean over contexts; its warning is text or None."""
    domain = build(config)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    feedback = first_feedback(domain)
    terms = objective(feedback, domain.shares)
    require(terms.loss.shape == () and terms.loss.isfinite(), "loss must be one finite number")
    require(
        all(isinstance(term, Tensor) for term in terms._asdict().values()),
        "the terms must be a NamedTuple of tensors",
    )
    half = len(feedback.kl) // 2
    parts = [part_of(feedback, slice(0, half)), part_of(feedback, slice(half, 2 * half))]
    whole = objective(part_of(feedback, slice(0, 2 * half)), domain.shares).loss
    halves = sum(objective(part, domain.shares).loss for part in parts) / 2
    require(
        torch.allclose(whole, torch.as_tensor(halves), rtol=1e-4, atol=1e-6),
        "the loss of a batch must be the mean of the losses of its halves, or accumulation and"
        " several processes change it",
    )
    warning = objective.warning(domain.shares)
    require(warning is None or isinstance(warning, str), "warning must return text or None")


def part_of(feedback: Feedback, rows: slice) -> Feedback:
    """Return the feedback of some of the contexts."""
    parts = feedback.kl_parts
    return feedback._replace(
        **{
            name: value[rows]
            for name, value in feedback._asdict().items()
            if isinstance(value, Tensor)
        },
        kl_parts=None if parts is None else type(parts)(*(part[rows] for part in parts)),
        tokens=None,
    )


def check_training_moves_the_policy_alone(config: Config) -> None:
    """Three steps are finite, move the policy, and leave the reference where it is."""
    domain = build(config)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    before = copy.deepcopy((domain.policy.state_dict(), domain.reference.state_dict()))
    take_steps(domain, objective, 3)
    moved, frozen = domain.policy.state_dict(), domain.reference.state_dict()
    require(not equal(before[0], moved), "three steps must move the policy")
    require(equal(before[1], frozen), "training must not move the reference, which the suite does")


def take_steps(domain: Domain, objective: Objective, count: int) -> None:
    """Train for a few steps."""
    optimizer = torch.optim.Adam(domain.policy.parameters(), lr=1e-2)
    for batch in itertools.islice(domain.train_dataloader(), count):
        loss = objective(domain.feedback(batch), domain.shares).loss
        require(loss.isfinite(), "the loss must be finite")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


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


def equal(one: Any, other: Any) -> bool:
    """Tell whether two states are the same, tensors and all; NaN equals NaN."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    same: bool = one == other or (one != one and other != other)
    return same
