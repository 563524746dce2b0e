"""The variables that a judged program sees: the same whoever runs it, and on whatever machine."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping

from workbench.files import STAGES

UNHEARD = re.compile(  # what a user exports for other programs: it must not change a verdict
    "PYTHON.*|LC_.*|LANG|LANGUAGE|TZ|COLUMNS|LINES|PAGER|(NO|FORCE)_COLOR|CLICOLOR(_FORCE)?"
    "|PY_COLORS|(HTTPS?|FTP|ALL|NO)_PROXY",
    re.IGNORECASE,
)
FIXED = {"LANG": "C.UTF-8", "TZ": "UTC"}
READS = re.compile(  # os.environ alone: a WSGI application has an `environ` of its own
    r"""\b(?:setting\(|os\.getenv\(|os\.environ(?:\.\w+\(|\[))\s*(?:name=)?["'](\w+)["']"""
)


@functools.cache
def settings() -> frozenset[str]:
    """Name every setting that a stage of the course reads from its environment."""
    texts = (file.read_text(encoding="utf-8") for file in STAGES.glob("s[0-9]*.py"))
    return frozenset(name for text in texts for name in READS.findall(text))


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return variables without a stage's settings, Python's, the locale's, proxies' and so on."""
    kept = {
        name: text
        for name, text in variables.items()
        if not UNHEARD.fullmatch(name) and name not in settings()
    }
    return kept | FIXED
