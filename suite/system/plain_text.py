"""Texts of files and errors as a terminal may show them."""

LONGEST = 500  # characters of a text in a table or a sentence


def plain(text: object, limit: int = LONGEST) -> str:
    r"""Return a text as one line of at most `limit` characters.

    Control characters, which could move the cursor or change the title of a terminal, are written
    as escapes such as `\x1b`, and so are bytes that are not UTF-8.
    """
    given = str(text)
    shown = "".join(shown_character(c) for c in given[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def shown_character(character: str) -> str:
    """Return a printable character as it is, white space as a blank, others as an escape."""
    if character.isprintable():
        return character
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f\x85":
        return " "
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
