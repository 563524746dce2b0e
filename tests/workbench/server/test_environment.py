"""The variables that a judged program has: every setting of every stage is left out."""

import ast

import pytest

from workbench.course.catalogue import lessons
from workbench.server.environment import READS, environment, settings


def keys(tree):
    """The syntax of each key by which a stage reads its environment."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("setting"), [key, *_]):
                yield key
            case ast.Call(ast.Attribute(ast.Attribute(attr="environ")), [key, *_]):
                yield key
            case ast.Call(ast.Attribute(attr="getenv"), [key, *_]):
                yield key
            case ast.Subscript(ast.Attribute(attr="environ"), key):
                yield key


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_every_setting_of_a_stage_is_known(known):
    tree = ast.parse(known.path.read_text(encoding="utf-8"))
    found = {key.value for key in keys(tree) if isinstance(key, ast.Constant)}
    assert {"HOST", "PORT"} <= found <= settings()
    assert not environment(dict.fromkeys(found, "1")).keys() & found


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_every_setting_is_read_by_its_name(known):
    """But in the body of `setting`, which has it from who calls."""
    tree = ast.parse(known.path.read_text(encoding="utf-8"))
    others = [ast.unparse(key) for key in keys(tree) if not isinstance(key, ast.Constant)]
    assert others in ([], ["name"])
    words = [getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree)]
    reads = sum(words.count(word) for word in ("environ", "getenv", "setting"))
    assert len(list(keys(tree))) == reads, "a way to read the environment that `keys` does not know"


@pytest.mark.parametrize(
    "source",
    [
        'os.environ.get("NAME") or "x"',
        "os.environ['NAME']",
        'os.getenv("NAME", "x")',
        'setting(\n    "NAME", 4)',
        'number = setting(name="NAME", default=4)',
    ],
)
def test_a_setting_is_found_however_it_is_read(source):
    assert READS.findall(source) == ["NAME"]


def test_what_is_exported_for_others_is_left_out_and_the_rest_stays():
    exported = ["LC_ALL", "LC_CTYPE", "COLUMNS", "PAGER", "PYTHONUNBUFFERED", "http_proxy"]
    exported += ["NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "no_proxy", "WORKERS"]
    kept = {"PATH": "/bin", "HOME": "/home/ada", "COLOR": "red"}
    found = environment(dict.fromkeys(exported, "1") | {"TZ": "Asia/Tokyo", "LANG": "de_DE"} | kept)
    assert found == kept | {"LANG": "C.UTF-8", "TZ": "UTC"}
