"""The one exception that means: the input is wrong, and here is what would be right."""


class InputError(ValueError):
    """Bad input from a user: a file, a field or a value.

    The message is one sentence that names what is wrong and the way out. The command line prints it without a
    traceback and exits with code 2; in Python it is an ordinary `ValueError`.
    """
