"""A judge: a function of prompts and completions."""


def short(prompts, completions):
    """Return a score for each completion: 1 for a single letter, less for each further one."""
    return [1.0 / max(1, len(completion)) for completion in completions]
