"""The one exception of this package."""


class ConversionError(ValueError):
    """A conversion that cannot go on: bad options, missing or damaged files, a failed download.

    The message is one line that says what is wrong, where, and what to do; the command prints it
    without a traceback and exits with status 2.
    """
