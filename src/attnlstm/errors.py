"""The one exception whose message a user sees without a traceback."""


class UserError(Exception):
    """Something the user can fix: the message names the thing and the fix, in one line.

    Entry points print the message to standard error and exit with code 2. Every other exception
    is a bug of ours and keeps its traceback.
    """
