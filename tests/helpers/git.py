"""Git as somebody else would run it, whatever the settings of who runs the tests."""

import os
import subprocess

ALONE = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
AUTHOR = (
    "-c",
    "user.name=Ada",
    "-c",
    "user.email=ada@example.org",
    "-c",
    "init.defaultBranch=main",
)


def git(folder, *words):
    """Run git in a folder, and return what it says."""
    line = ["git", *AUTHOR, *words]
    ended = subprocess.run(
        line, cwd=folder, check=True, capture_output=True, text=True, env=os.environ | ALONE
    )
    return ended.stdout.strip()
