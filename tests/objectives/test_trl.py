"""Losses that TRL has too are those of its trainers, called on random log-probabilities."""

from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, TokenFeedback
from suite.objectives.dpo import dpo
from suite.objectives.free_pairs import orpo, simpo
from suite.objectives.groups import nca
from suite.objectives.pairs import cdpo, exo_pref, ipo, robust_dpo, rpo
from suite.objectives.singles import apo_zero, bco, kto
from tests.objectives.tabular import Loss

pytest.importorskip("trl")

BETA, EPSILON = 0.3, 0.1
BEST = "best_worst"
LENGTHS = (3, 5)  # of the preferred and the other completion, after a prompt of one token
NO_SHIFT = torch.zeros(())


class Sequences(NamedTuple):
    """Log-probabilities of tokens, 0 where there are none."""

    logp: Tensor  # [N, T]
    reference_logp: Tensor  # [N, T]
    mask: Tensor  # [N, T] which tokens belong to a completion


def sequences(seed: int, lengths: tuple[int, ...]) -> Sequences:
    """Return random log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    logp, reference_logp = (-torch.rand(shape, generator=generator) * 2 * mask for _ in range(2))
    return Sequences(logp.requires_grad_(), reference_logp, mask.long())


def feedback_of(found: Sequences, accept: Tensor) -> Feedback:
    """Return the same samples as feedback, with labels [B, K]."""
    owner, position = found.mask.nonzero(as_tuple=True)
    tokens = TokenFeedback(
        found.logp[owner, position], found.reference_logp[owner, position], owner
    )
    logp, reference = (x.sum(1).view(accept.shape) for x in found[:2])
    kl = torch.zeros(len(accept))
    return Feedback(logp, kl, accept, 1 - accept, reference, score=accept, tokens=tokens)


def trainer(found: Sequences, **settings: Any) -> tuple[MagicMock, MagicMock, dict[str, Tensor]]:
    """Return a trainer without a model, the model's stand-in, and a batch."""
    one = torch.zeros(len(found.mask), 1, dtype=torch.long)
    mask = torch.cat([one, found.mask], 1)
    inputs = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
    zero = torch.zeros_like(found.logp)
    model = MagicMock(
        return_value=SimpleNamespace(
            log_probs=found.logp, entropy=zero, mean_logits=zero, is_top1=zero.bool()
        )
    )
    settings = {
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "aux_loss_enabled": False,
    } | settings
    stand_in = MagicMock(beta=BETA, use_weighting=False, _total_train_tokens=0, _tp_size=1)
    stand_in.configure_mock(**settings)
    stand_in.accelerator = SimpleNamespace(
        device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    return stand_in, model, inputs


def trl_dpo(found: Sequences, kinds: tuple[str, ...], weights: tuple[float, ...]) -> Tensor:
    """Return the loss of TRL's DPOTrainer for one pair."""
    from trl import DPOTrainer

    stand_in, model, inputs = trainer(
        found,
        f_divergence_type="reverse_kl",
        loss_types=list(kinds),
        loss_weights=list(weights),
        label_smoothing=EPSILON,
    )
    chosen, rejected = found.reference_logp.sum(1, keepdim=True)
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    loss: Tensor = DPOTrainer._compute_loss(stand_in, model, inputs, False)
    return loss


SINGLE = 2.0  # our means are over the samples of a pair, TRL's sums
PAIR_LOSSES: dict[str, tuple[tuple[str, ...], tuple[float, ...], Loss]] = {
    "dpo": (("sigmoid",), (1,), lambda f: dpo(f, beta=BETA).loss),
    # Of one pair nothing is sorted, and AOT is cDPO.
    "cdpo": (("aot",), (1,), lambda f: cdpo(f, pairs=BEST, beta=BETA, epsilon=EPSILON).loss),
    "robust_dpo": (
        *(("robust",), (1,)),
        lambda f: robust_dpo(f, pairs=BEST, beta=BETA, epsilon=EPSILON).loss,
    ),
    "ipo": (("ipo",), (1,), lambda f: ipo(f, pairs=BEST, tau=BETA, per_token=True).loss),
    "exo_pref": (
        *(("exo_pair",), (1,)),
        lambda f: exo_pref(f, pairs=BEST, beta=BETA, epsilon=EPSILON).loss,
    ),
    "rpo": (
        *(("sigmoid", "sft"), (1, 0.2 * BETA)),
        lambda f: rpo(f, pairs=BEST, beta=BETA, eta=0.2, per_token=True).loss,
    ),
    "apo_zero": (("apo_zero",), (1,), lambda f: SINGLE * apo_zero(f, beta=BETA).loss),
    "bco": (("bco_pair",), (1,), lambda f: SINGLE * bco(f, beta=BETA, shift=NO_SHIFT).loss),
    # Which takes all weight for the preferred sample.
    "nca": (
        *(("nca_pair",), (1,)),
        lambda f: nca(f, reward="score", beta=BETA, temperature=1e-3).loss,
    ),
}


def assert_agreement(ours: Tensor, theirs: Tensor, found: Sequences) -> None:
    """Assert that values, and gradients for the tokens, agree to 1e-5."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    slope, expected = (
        found.mask * torch.autograd.grad(x, found.logp, retain_graph=True)[0]
        for x in (ours, theirs)
    )
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_losses_of_pairs_are_those_of_trls_dpo_trainer(name: str, seed: int) -> None:
    kinds, weights, ours = PAIR_LOSSES[name]
    found = sequences(seed, LENGTHS)
    feedback = feedback_of(found, torch.tensor([[1.0, 0.0]]))
    assert_agreement(ours(feedback), trl_dpo(found, kinds, weights), found)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_losses_of_single_samples_are_those_of_trls_kto_trainer(name: str, seed: int) -> None:
    from trl import KTOTrainer

    found = sequences(seed, (3, 5, 1, 4, 2))
    label = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    gap = torch.tensor([0.1, 0.4, 0.2, -0.3, 0.6])  # of mismatched completions
    stand_in, model, inputs = trainer(
        found,
        **{"loss_type": name, "calculate_KL": name == "kto"},
        desirable_weight=1.3,
        undesirable_weight=0.7 if name == "kto" else 1.3,
    )
    stand_in._compute_kl_logps.return_value = gap
    inputs |= {"label": label.bool(), "ref_logps": found.reference_logp.sum(1)}
    inputs |= {"ref_KL_logps": torch.zeros(5)}
    theirs = KTOTrainer._compute_loss(stand_in, model, inputs, False)
    feedback = feedback_of(found, label[:, None])._replace(reverse_kl=gap.mean().expand(5))
    if name == "kto":
        ours = kto(feedback, beta=BETA, desirable=1.3, undesirable=0.7).loss
    else:
        ours = 1.3 * apo_zero(feedback, beta=BETA).loss
    assert_agreement(ours, theirs, found)


@pytest.mark.parametrize("seed", range(3))
def test_simpo_and_orpo_are_those_of_trls_trainers(seed: int) -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    found = sequences(seed, LENGTHS)
    feedback = feedback_of(found, torch.tensor([[1.0, 0.0]]))
    better, worse = (found.logp.sum(1) / torch.tensor(LENGTHS)).split(1)
    stand_in, _, _ = trainer(
        found, alpha=0.0, loss_type="simpo", simpo_gamma=0.5, label_smoothing=0.0
    )
    theirs = CPOTrainer.cpo_loss(stand_in, better, worse)[0].mean()
    assert_agreement(simpo(feedback, pairs=BEST, beta=BETA, gamma=0.5).loss, theirs, found)
    # TRL adds the likelihood of the preferred completion in its trainer.
    odds = ORPOTrainer.odds_ratio_loss(stand_in, better, worse)[0].mean()
    assert_agreement(orpo(feedback, pairs=BEST, weight=BETA).loss, -better.mean() - odds, found)
