"""Messages as text, through the chat template of a tokenizer."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.io import BadRow, Text, abbreviated
from suite.domains.language.messages import Messages

DATE = re.compile(r"strftime_now\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")
PROBES = "Q\u00b7", "7#"  # two answers that share no character
CHECKED_PARTS = ("tool_calls", "reasoning_content", "reasoning", "thinking")


class Rendered(NamedTuple):
    """A conversation as text, cut before the answer."""

    prompt: str
    answer: str
    differs: bool  # whether the template opens this answer otherwise than it asks for one


def freeze_date(tokenizer: PreTrainedTokenizerBase, moment: datetime | None) -> None:
    """Let chat templates of this tokenizer write the date of `moment` in place of today's.

    The template that the tokenizer is saved with stays as it is.
    """
    tokenizer.template_moment = moment  # type: ignore[attr-defined]


def moment_of(tokenizer: PreTrainedTokenizerBase) -> datetime | None:
    """Return the moment that templates take for now; None for the clock's."""
    moment: datetime | None = getattr(tokenizer, "template_moment", None)
    return moment


def render(
    messages: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
    *,
    arguments: dict[str, Any] | None = None,
    prompts_answer: bool = False,
) -> str:
    """Return messages as the text of the chat template.

    Raises ConfigError without a template, and BadRow where the template refuses the messages.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{where}: holds messages, but the tokenizer of domain.model has no chat template; use"
            " a model with one, or prompts and completions as text"
        )
    more = dict(arguments or {})
    try:
        template = tokenizer.get_chat_template(None, more.get("tools"))
        if (moment := moment_of(tokenizer)) is not None:
            template = DATE.sub(lambda m: repr(moment.strftime(m[1] or m[2] or "")), template)
        text = tokenizer.apply_chat_template(
            list(messages),
            chat_template=template,
            add_generation_prompt=prompts_answer,
            tokenize=False,
            **more,
        )
    except Exception as error:  # of the template, which is a program of its own
        raise BadRow(f"the chat template refuses the messages: {error}") from None
    return str(text)


def arguments_of(prompt: Text) -> dict[str, Any]:
    """Return what the template gets beside the messages of a prompt."""
    return prompt.arguments if isinstance(prompt, Messages) else {}


def render_prompt(
    prompt: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, where: str
) -> str:
    """Return a prompt as text that asks for an answer; raises BadRow, also for ignored parts."""
    arguments = arguments_of(prompt)
    text = render(prompt, tokenizer, where, arguments=arguments, prompts_answer=True)
    for name in arguments:
        rest = {other: value for other, value in arguments.items() if other != name}
        if render(prompt, tokenizer, where, arguments=rest, prompts_answer=True) == text:
            raise BadRow(f"the chat template ignores {name}, so that the model would not see it")
    for part in ("content", "tool_calls"):
        refuse_ignored(prompt, part, text, tokenizer, where, arguments, prompts_answer=True)
    return text


def refuse_ignored(
    messages: list[dict[str, Any]],
    part: str,
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    where: str,
    arguments: dict[str, Any],
    *,
    prompts_answer: bool,
) -> None:
    """Raise BadRow where the template renders the same text without a part of a message."""
    for number, turn in enumerate(messages):
        if not turn.get(part) or (part == "content" and holds(text, turn[part])):
            continue
        without = list(messages)
        without[number] = {**turn, part: "" if part == "content" else None}
        without[number].setdefault("content", "")
        try:
            other = render(
                *(without, tokenizer, where), arguments=arguments, prompts_answer=prompts_answer
            )
        except BadRow:
            continue  # the template needs the part
        if other == text:
            raise BadRow(
                f"the chat template ignores {part} of message {number + 1} (role"
                f" {turn['role']}), so that the model would not see {abbreviated(turn[part])}"
            )


def render_answer(
    prompt: list[dict[str, Any]],
    answer: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
) -> Rendered:
    """Return prompt and answer as text; the answer is all that the template writes of it.

    A template may open the answers of a conversation otherwise than it asks for one, as those do
    that ask for reasoning. The answer then begins where the template first writes what depends on
    it. Raises BadRow where the text of the answer is not all there.
    """
    arguments = arguments_of(prompt)
    asked = render_prompt(prompt, tokenizer, where)
    whole = render([*prompt, *answer], tokenizer, where, arguments=arguments)
    opened = asked
    if differs := not whole.startswith(asked):
        probes = [
            render([*prompt, {"role": "assistant", "content": text}], tokenizer, where,
                   arguments=arguments)
            for text in PROBES
        ]  # fmt: skip
        opened = probes[0][: shared_start(*probes)]
        if not opened or not whole.startswith(opened):
            raise BadRow(
                "the chat template writes another prompt before the answer than it asks with:"
                f" {ending(asked)} against {ending(whole)}"
            )
    rest = whole[len(opened) :]
    after = whole[shared_start(asked, whole) :]
    check_answer(answer, rest, asked, opened, after)
    for part in CHECKED_PARTS:
        refuse_ignored(
            *([*prompt, *answer] if any(t.get(part) for t in answer) else [], part, whole),
            *(tokenizer, where, arguments),
            prompts_answer=False,
        )
    return Rendered(opened, rest, differs)


def check_answer(
    answer: list[dict[str, Any]], rest: str, asked: str, opened: str, after: str
) -> None:
    """Raise BadRow where text of the answer is neither trained nor a part of what asks for it."""
    # What asks for an answer may hold the answer's own opening, such as a tag of reasoning.
    last_line = asked[asked.rstrip().rfind("<") :] if opened == asked and "<" in asked else ""
    for turn in answer:
        content = turn.get("content") or ""
        if not holds(rest, content) and not holds(last_line + rest, content):
            raise BadRow(
                f"the chat template changes the answer: {abbreviated(content)} is written as"
                f" {abbreviated(after)}"
            )


def holds(text: str, part: str) -> bool:
    """Return whether text holds a part, where templates may trim and add white space."""
    return part.strip() in text or "".join(part.split()) in "".join(text.split())


def ending(text: str) -> str:
    """Return the last characters of a text, for a message."""
    return repr(text if len(text) <= 60 else f"…{text[-60:]}")


def shared_start(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return how many items two sequences have in common at their start."""
    pairs = enumerate(zip(first, second, strict=False))
    shorter = min(len(first), len(second))
    return next((i for i, (one, other) in pairs if one != other), shorter)
