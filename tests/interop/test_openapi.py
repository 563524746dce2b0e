"""The description of the to-do API is true: schemathesis invents requests, and finds nothing.

It runs as a command, so that no other test waits for its import, with all its checks and phases:
the description's examples, the edges of each schema, invented requests, and chains of them.
"""

import os
import subprocess
import sys

import pytest

from workbench.course.catalogue import heirs
from workbench.files import STATIC
from workbench.server.launch import launch

SETTINGS = """
request-timeout = 60
suppress-health-check = ["all"]

[generation]
deterministic = true
max-examples = 50

# A tag may be an old one, however well it is spelled: then it is 412.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "412"]

# Those that the server knows. Another, such as QUERY, is 501 (RFC 9110, section 9.1), not 405.
[phases.coverage]
unexpected-methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"]
"""
LIES = {  # what is put in place of the truth, and what schemathesis has to say to it
    ('"201": {', '"200": {'): "Undocumented status code",
    ('"application/problem+json"', '"application/json"'): "Undocumented Content-Type",
    ('"ETag": {"$ref"', '"Age": {"$ref"'): "Missing required response headers",
    ('["id", "title", "done", "version"]', '["id", "due"]'): "Response violates schema",
    ('"maxLength": 200', '"maxLength": 201'): "Schema-valid request rejected",
    ('"maximum": 100,', '"maximum": 99,'): "Schema-violating request accepted",
}


@pytest.fixture(params=heirs("s15"), ids="{0.slug}".format)
def server(request, tmp_path):
    """A stage with a list of its own."""
    with launch(request.param, DATABASE=tmp_path / "todos.db") as running:
        yield running


@pytest.fixture
def explore(server, tmp_path):
    """Run schemathesis against a server; return its exit status, and what it says."""

    def run(description, *options):
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        line = [sys.executable, "-m", "schemathesis.cli", "run", description, *options]
        environment = os.environ | {"NO_PROXY": "*", "PYTHONIOENCODING": "utf-8"}
        how = {"capture_output": True, "text": True, "encoding": "utf-8"}
        ended = subprocess.run(line, cwd=tmp_path, env=environment, **how)
        return ended.returncode, ended.stdout + ended.stderr

    return run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_breaks_the_description(server, explore):
    status, said = explore(f"{server.url}/openapi.json")
    assert status == 0, said
    assert "✅ Stateful" in said, said


@pytest.mark.slow
def test_a_description_that_lies_is_found_out(server, explore, tmp_path):
    description = (STATIC / "openapi.json").read_text(encoding="utf-8")
    for truth, lie in LIES:
        assert truth in description
        description = description.replace(truth, lie)
    (tmp_path / "lies.json").write_text(description, encoding="utf-8")
    options = ["--phases=coverage", "--continue-on-failure", f"--url={server.url}"]
    status, said = explore("lies.json", *options)
    assert status == 1, said
    assert [words for words in LIES.values() if words not in said] == [], said
