"""The exceptions that the command line turns into one plain sentence."""


class UserError(Exception):
    """One plain sentence that names the place and the mend; the command line prints it and exits with code 2."""


class Interrupted(Exception):
    """The user asked to stop and the work so far is saved; the command line says so and exits with code 130."""
