"""What these tests share: a browser."""

from helpers.chromium import chromium, expect  # noqa: F401 - fixtures
