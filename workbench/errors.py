"""What a user is told, and a program need not explain: an error without a traceback."""

from __future__ import annotations


class Mistake(Exception):  # noqa: N818 - named for what it is: the user's, not the program's
    """A user's slip: its text says what was needed, what came and what to do; it is shown alone."""

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook (IPython asks an exception for this method)."""
        return [str(self)]
