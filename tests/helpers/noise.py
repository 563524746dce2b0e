"""Variables that a user exports for other programs, and a stage that ends if it sees one."""

NOISE = {
    "COLUMNS": "40",
    "LC_ALL": "C",
    "MAX_BODY": "10",
    "PAGER": "less",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "error",
    "TZ": "America/New_York",
    "WORKERS": "2",
    "http_proxy": "http://127.0.0.1:1",
}


def ends_in_noise(source):
    """Have a stage end at once if it sees one of these variables as it was exported."""
    seen = f"sorted(os.environ.items() & {NOISE!r}.items())"
    return f"import os\nassert not {seen}, {seen}\n{source}"
