"""What the commands report in one line: bad input, and a process that died."""

from recbole_hstu.support.secrets import masked


def in_a_line(said: object) -> str:
    """The words of another library, whose messages may have several lines."""
    return " ".join(str(said).split())


class InputError(ValueError):
    """Bad input: configuration, data or files.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    without a traceback and exit with status 2. Secrets in addresses are masked.
    """

    def __init__(self, message: str):
        super().__init__(masked(message))


class UnknownOption(InputError):
    """An option that the model of a configuration does not know; `key` is its name."""

    def __init__(self, key: str, near: str):
        super().__init__(f"unknown option '{key}'; did you mean '{near}'?")
        self.key = key


class ProcessDied(RuntimeError):
    """Another process of the training ended before its work was done; the message says which."""
