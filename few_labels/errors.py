"""The one kind of mistake that is its user's to mend."""


class InputError(ValueError):
    """A parameter or a file that cannot be used: what was seen, what is allowed, and where."""


def shorten(text: str, longest: int = 100) -> str:
    """Cut the middle out of a text that is too long for a message of one line."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"
