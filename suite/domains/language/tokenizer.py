"""A character tokenizer in the format that every transformers model folder uses."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, END, START = "<pad>", "<end>", "<start>"


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per character, padding prompts on the left."""
    vocabulary = {token: index for index, token in enumerate([PAD, END, START, *alphabet])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()  # characters join without spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        bos_token=START,
        padding_side="left",
    )
