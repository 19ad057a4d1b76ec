"""The one exception that means "the user's input is wrong", told without a traceback by every script."""


class RkdError(ValueError):
    """Bad input: the message names the file or key, what was found and what was expected."""
