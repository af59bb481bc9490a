"""The coin domain: a Gaussian with one dimension. Shapes: B contexts, K samples each."""

import copy

import torch

from suite.feedback import Feedback, Shares
from suite.feedback.labelling import label_by_sign
from suite.policies.divergences import GaussianKL, gaussian_kl
from suite.policies.gaussian import Gaussian, compare


class Coin:
    """Move the mean of a Gaussian towards what is preferred."""

    dimensions = 1

    def __init__(self, settings, parts):
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.policy = torch.nn.ParameterDict({"mean": torch.zeros(1)})
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.shares = parts.label_noise.shares(Shares(accept=0.5, reject=0.5))
        self.generator = torch.Generator().manual_seed(parts.seed)

    def train_dataloader(self):
        size = (self.settings.contexts, self.settings.samples)
        while True:
            mean = self.reference["mean"]
            score = mean + torch.randn(size, generator=self.generator).to(mean.device)
            yield score, self.label_noise.apply(label_by_sign(score), self.shares)

    def feedback(self, batch):
        score, labels = batch
        policy, reference = normal(self.policy), normal(self.reference)
        compared = compare(policy, reference, score[..., None], self.divergence)
        contexts = len(score)
        return Feedback(
            logp=compared.logp,
            kl=compared.kl.total().expand(contexts),
            accept=labels.accept,
            reject=labels.reject,
            reference_logp=compared.reference_logp,
            score=score,
            kl_parts=GaussianKL(*(part.expand(contexts, 1) for part in compared.kl)),
        )

    @torch.no_grad()
    def evaluate(self):
        start = normal({"mean": torch.zeros_like(self.policy["mean"])})
        kl = gaussian_kl(start, normal(self.policy)).total()
        return {"score": self.policy["mean"].item(), "kl": kl.item()}

    def save(self, folder):
        torch.save(self.policy.state_dict(), folder / "policy.pt")

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


def normal(parameters):
    """Return the distribution whose mean the parameters hold."""
    return Gaussian(parameters["mean"], torch.ones_like(parameters["mean"]))
