"""The one kind of mistake that is its user's to mend."""


class InputError(ValueError):
    """A parameter or a file that cannot be used: what was seen, what is allowed, and where."""
