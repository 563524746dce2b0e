"""A server's page, live in a notebook: an iframe that fetches from the server, wherever that is.

A kernel doesn't know from where its notebook is looked at, but the notebook's own page does. So a
script there finds the way: below the address of JupyterLab, of a hub or of Binder where these have
jupyter-server-proxy, else to this machine. VS Code allows no such frame; a link of it will do.
"""

from __future__ import annotations

import html
import json
import sys
import uuid
from dataclasses import dataclass
from string import Template

from workbench.measure.page import STYLE
from workbench.server.launch import Server

SHOWN = Template("""\
<div id="$name"><a href="$url" target="_blank" rel="noopener">$url</a>
<iframe hidden title="$title" style="$style" height="$height"></iframe></div>
<script>
(async () => {
  const [link, frame] = document.getElementById("$name").children;
  const config = document.getElementById("jupyter-config-data");
  if (!config) return;
  const { baseUrl } = JSON.parse(config.textContent);
  const asked = await fetch(baseUrl + "server-proxy/servers-info");
  if (asked.ok) link.href = baseUrl + "proxy/$port" + $path;
  link.textContent = frame.src = link.href;
  frame.hidden = false;
})();
</script>
""")


@dataclass(frozen=True)
class Window:
    """A server's page as it is now, to be used; `height` in pixels."""

    server: Server
    path: str
    height: int

    def __str__(self) -> str:
        """Say where it is, for a browser on this machine."""
        return f"{self.server.url}{self.path}"

    __repr__ = __str__

    def _ipython_display_(self) -> None:
        """Show the page in a notebook; in Colab, by Colab's own way to a port."""
        if "google.colab" in sys.modules:
            from google.colab import output  # type: ignore[import-not-found]

            port, height = self.server.port, str(self.height)
            output.serve_kernel_port_as_iframe(port, path=self.path, height=height)
            return
        from IPython.display import display

        display({"text/plain": str(self), "text/html": self._html()}, raw=True)  # type: ignore[no-untyped-call]

    def _html(self) -> str:
        """Write a link, and a frame that stays hidden until a script has found what to show."""
        return SHOWN.substitute(
            name=f"window-{uuid.uuid4().hex}",
            url=html.escape(str(self)),
            title=html.escape(f"{self.server.title}: {self.path}"),
            style=STYLE,
            height=self.height,
            port=self.server.port,
            path=json.dumps(self.path).replace("<", r"\u003c"),
        )


def browse(server: Server, path: str = "/", *, height: int = 360) -> Window:
    """Show a page of a running server to be used: its links, forms and scripts work."""
    return Window(server, path, height)
