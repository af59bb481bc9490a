"""Adapters merged into the weights below them."""

import copy
import logging
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

LOSS = 0.01  # part of the change, above which its loss is told


def merged(adapted: Any, what: str, hint: str) -> PreTrainedModel:
    """Return the model of peft's wrapper, with the adapters merged into its weights in place.

    The change that rounding loses is logged with `hint`, where it is more than a hundredth. A head
    that shares its weight with the embedding gets a weight of its own first: the adapter is the
    head's alone.
    """
    untie(adapted.get_base_model())
    loss = rounding_loss(adapted)
    if loss > LOSS:
        logger.warning(
            "%s: merging the adapter into %s loses %.0f %% of its change by rounding; %s",
            *(what, str(adapted.get_base_model().dtype).removeprefix("torch."), 100 * loss, hint),
        )
    model: PreTrainedModel = adapted.merge_and_unload()
    if model.config.get_text_config().tie_word_embeddings and not is_tied(model):
        say_untied(model)
    return model


def untie(model: PreTrainedModel) -> None:
    """Give the head a weight of its own where it or the embedding has an adapter."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = hasattr(head, "base_layer") or hasattr(embedding, "base_layer")
    if adapted and is_tied(model):
        layer: Any = getattr(head, "base_layer", head)
        weight = layer.weight
        layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
        say_untied(model)


def is_tied(model: PreTrainedModel) -> bool:
    """Tell whether head and embedding share their weight."""
    layers: list[Any] = [model.get_output_embeddings(), model.get_input_embeddings()]
    head, embedding = (getattr(layer, "base_layer", layer) for layer in layers)
    return head is not None and head.weight is embedding.weight


def say_untied(model: PreTrainedModel) -> None:
    """Write into the configuration that head and embedding are two weights."""
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.all_tied_weights_keys = {}


@torch.no_grad()
def rounding_loss(adapted: nn.Module) -> float:
    """Return the share of the adapters' change that merging loses, as a relative 2-norm."""
    lost, change = 0.0, 0.0
    for module in adapted.modules():
        layer: Any = module
        if not hasattr(layer, "base_layer") or not hasattr(layer, "get_delta_weight"):
            continue
        weight = layer.base_layer.weight
        if weight.dtype == torch.float32:
            continue
        exact = copy.deepcopy(layer).float()
        exact.merge()
        wanted = exact.base_layer.weight
        change += (wanted - weight.float()).square().sum().item()
        lost += (wanted - wanted.to(weight.dtype).float()).square().sum().item()
    return (lost / change) ** 0.5 if change else 0.0
