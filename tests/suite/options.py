"""Which implementation is judged: what `--stages` and `--command` ask for, or one clear error."""

import shlex
import shutil
from pathlib import Path

import pytest

from workbench.course.catalogue import lessons

STAGES_NEEDS = "--stages needs a fork's folder, or the folder of its stages"
COMMAND_NEEDS = "--command needs a line that starts a program, such as 'cargo run --bin {stage}'"
OR_NONE = "give one, or leave the option out to judge the course's own stages"


def settle(options) -> None:
    """Write the folder of the stages in full into pytest's options. Raises UsageError."""
    if options.stages is not None and options.command is not None:
        raise pytest.UsageError("needed --stages or --command, and got both: leave one out")
    if options.stages is not None:
        options.stages = str(folder_of_stages(options.stages))
    if options.command is not None:
        check_command(options.command)


def folder_of_stages(text: str) -> Path:
    """Find the stages in a folder, or in its own folder `stages`. Raises UsageError."""
    if not text.strip():
        raise pytest.UsageError(f"{STAGES_NEEDS}, and got nothing: {OR_NONE}")
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise pytest.UsageError(f"{STAGES_NEEDS}, and there is no folder {folder}")
    for place in (folder, folder / "stages"):
        if any((place / known.path.name).is_file() for known in lessons()):
            return place
    names = f"such as {lessons()[0].path.name}, neither there nor in a folder stages"
    raise pytest.UsageError(
        f"{STAGES_NEEDS}, and {folder} has no file {names}: is it another folder?"
    )


def check_command(line: str) -> None:
    """Raise UsageError unless the first word of a command can be started."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise pytest.UsageError(f"{COMMAND_NEEDS}, and got {line!r}: {error}") from None
    if not words:
        raise pytest.UsageError(f"{COMMAND_NEEDS}, and got nothing: {OR_NONE}")
    if "{stage}" not in words[0] and not shutil.which(words[0]):
        raise pytest.UsageError(
            f"{COMMAND_NEEDS}, and there is no program {words[0]}: install it, or give its path"
        )


def command_of(line: str, stage: str) -> tuple[str, ...]:
    """Split a command into words, with a stage's name for `{stage}`; other braces stay as typed."""
    return tuple(word.replace("{stage}", stage) for word in shlex.split(line))
