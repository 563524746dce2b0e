"""What these tests share: a browser, and folders of their own."""

from helpers.chromium import chromium, expect  # noqa: F401 - fixtures
