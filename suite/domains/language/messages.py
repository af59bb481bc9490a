"""Text and chat messages of a row, checked before anything is encoded."""

import json
from typing import Any

from suite.domains.language.io import BadRow, Text, abbreviated

PARTS = ("content", "tool_calls", "reasoning_content", "reasoning", "thinking")
ARGUMENTS = ("tools", "chat_template_kwargs")  # fields of a row that its template gets


class Messages(list[dict[str, Any]]):
    """A conversation, with what its template gets beside the messages, such as tools."""

    def __init__(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> None:
        super().__init__(messages)
        self.arguments = arguments


def text_field(row: dict[str, Any], field: str) -> Text:
    """Return a field that holds text or chat messages; raises BadRow."""
    if field not in row:
        raise BadRow(f"{field} is missing")
    value = row[field]
    if isinstance(value, str):
        check_characters(value, field)
        return value
    if not isinstance(value, list) or not value:
        raise BadRow(f"{field} must be text or a list of messages, found {abbreviated(value)}")
    return [message(item, field) for item in value]


def check_characters(text: str, field: str) -> None:
    """Raise BadRow for half a surrogate pair, which no encoding of text can hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow(f"{field} holds {text[error.start]!r}, which is no character") from None


def message(value: Any, field: str) -> dict[str, Any]:
    """Return a message with its content as text; raises BadRow."""
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise BadRow(f"{field} must be text or a list of messages, found {abbreviated(value)}")
    if not any(value.get(part) is not None for part in PARTS):
        raise BadRow(f"{field}: a message must have content, found {abbreviated(value)}")
    content = value.get("content")
    if isinstance(content, list):
        content = "".join(text_part(part, field) for part in content)
    if not isinstance(content, str | None):
        raise BadRow(f"{field}: content must be text, found {abbreviated(content)}")
    for part in PARTS:
        if isinstance(text := content if part == "content" else value.get(part), str):
            check_characters(text, field)
    return value if content is None else {**value, "content": content}


def text_part(part: Any, field: str) -> str:
    """Return the text of a part of a message's content; raises BadRow for images and the like."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type") == "text":
        return str(part["text"])
    raise BadRow(f"{field}: content may hold parts of type text only, found {abbreviated(part)}")


def prompt_field(row: dict[str, Any]) -> Text:
    """Return the prompt of a row, with what its template gets; raises BadRow."""
    prompt = text_field(row, "prompt")
    given = {name: row[name] for name in ARGUMENTS if row.get(name)}
    if not given:
        return prompt
    for name, value in given.items():
        given[name] = decoded(value, name)
    if isinstance(prompt, str):
        raise BadRow(f"{' and '.join(given)} need a prompt of messages, found text")
    tools, more = given.get("tools"), given.get("chat_template_kwargs", {})
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(t, dict) for t in tools)
    ):
        raise BadRow(f"tools must be a list of objects, found {abbreviated(tools)}")
    if not isinstance(more, dict):
        raise BadRow(f"chat_template_kwargs must be an object, found {abbreviated(more)}")
    if reserved := sorted(RESERVED & set(more)):
        raise BadRow(f"chat_template_kwargs must not set {', '.join(reserved)}")
    return Messages(prompt, more | ({} if tools is None else {"tools": tools}))


RESERVED = {
    *("tools", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template"),
    *("conversation", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
    *("return_assistant_tokens_mask", "tokenizer_kwargs", "messages", "sanitize_control_tokens"),
}


def decoded(value: Any, name: str) -> Any:
    """Return a value that a table may hold as text of JSON; raises BadRow."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise BadRow(f"{name} must be JSON, found {abbreviated(value)}") from None


def answer_of(prompt: Text, completion: Text, field: str) -> tuple[Text, Text]:
    """Return prompt and answer, where a completion may be a whole conversation.

    Many rows repeat the prompt's messages in the completion. Raises BadRow where the completion
    holds more than the assistant's answer to this prompt.
    """
    if isinstance(completion, str):
        return prompt, completion
    if isinstance(prompt, str):
        turns = len(completion) - 1
        if turns < 1 or completion[turns - 1].get("content") != prompt:
            raise BadRow(f"{field}: a completion of messages needs a prompt of messages")
        prompt, completion = Messages(completion[:turns], {}), completion[turns:]
    elif [*completion[: len(prompt)]] == [*prompt] and len(completion) > len(prompt):
        completion = completion[len(prompt) :]
    for turn in completion:
        if turn["role"] not in ("assistant", "model"):
            raise BadRow(
                f"{field} must be an answer of the assistant, or the prompt's messages and the"
                f" answer; found a message of the role {turn['role']!r}"
            )
    return prompt, completion
