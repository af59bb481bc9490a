"""What the bandits share: one policy without contexts, its reference, and a random stream."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Policy = TypeVar("Policy", bound=nn.Module)


class Search(Generic[Policy]):
    """Search with one distribution, the same for every context."""

    policy: Policy
    reference: Policy
    initial_policy: Policy
    generator: torch.Generator

    def start_from(self, policy: Policy) -> None:
        """Begin with a policy, whose copy is the reference."""
        self.policy = policy
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.initial_policy = copy.deepcopy(policy).requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream of the batches."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the random stream."""
        self.generator.set_state(state["generator"])
