"""A page as a browser shows it, in a notebook: its bytes go into an iframe, and need no port."""

from __future__ import annotations

import html
from dataclasses import dataclass

from workbench.server.launch import Server

STYLE = (
    "width:100%;border:1px solid var(--jp-border-color1, #999);border-radius:4px;color-scheme:light"
)


@dataclass(frozen=True)
class Page:
    """What a browser would show for a path, and the status that it would not show."""

    path: str
    status: int
    kind: str
    text: str
    height: int

    def __str__(self) -> str:
        """Show the source in a terminal."""
        return f"{self.path}: {self.status}, {self.kind}\n{self.text}"

    def _repr_html_(self) -> str:
        """Show the page in a notebook; scripts of the page do not run there."""
        shown = self.text if "html" in self.kind else f"<pre>{html.escape(self.text)}</pre>"
        caption = html.escape(f"{self.path}: {self.status}, {self.kind}")
        frame = f'sandbox="" srcdoc="{html.escape(shown)}" title="{caption}"'
        return (
            f'<div>{caption}</div><iframe {frame} style="{STYLE}" height="{self.height}"></iframe>'
        )


def page(server: Server, path: str = "/", *, height: int = 240) -> Page:
    """Ask a server for a path, and show what comes as a browser would; `height` in pixels.

    Raises NoAnswer, which is shown in a line, if nothing comes that could be shown.
    """
    answer = server.get(path).answer
    return Page(path, answer.status, answer.header("Content-Type") or "", answer.text, height)
