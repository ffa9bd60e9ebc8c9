"""The errors that a user can put right; the command line prints each as one line."""


class JclError(Exception):
    """An error whose message says, in one line, what is wrong, where, and what to do."""

    exit_code = 1


class UsageError(JclError):
    """A setting, or a combination of settings, that cannot be used (exit code 2)."""

    exit_code = 2


class DataError(JclError):
    """A file, folder, store or run that cannot be used as it is (exit code 3)."""

    exit_code = 3


class Interrupted(JclError):
    """Stopped by a signal after the state was saved (exit code 130)."""

    exit_code = 130


def foreign_code(file: object, what: str, name: str) -> UsageError:
    """The error to raise where a file names a network or method that is not one of jcl's, and nobody allowed it.

    Args:
        file: what names it.
        what: `network` or `method`.
        name: `package.module:Class`.
    """
    return UsageError(
        f"{file}: names the {what} {name!r:.80}, which would import code that is not jcl's; give --trust-code "
        "(trust_code=True in Python) if you trust whoever made the file and that module"
    )
