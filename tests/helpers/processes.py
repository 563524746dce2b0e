"""What has become of a process."""

import psutil


def alive(process):
    """Whether a process, or one of that number, is there and has not ended."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
