"""The suite itself: every sentence has three hints, and every stage has faults that one catches."""

import ast
import functools

import pytest

from workbench.course.catalogue import lessons
from workbench.course.mutants import mutants
from workbench.files import SUITE
from workbench.practice.hints import hints


@functools.cache
def sentences():
    """The name of every test that is said of stages, as its decorators tell."""
    return {
        node.name
        for path in SUITE.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any("since(" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def test_every_sentence_has_three_hints_and_every_hint_a_sentence():
    assert sorted(hints()) == sorted(sentences())
    for name, texts in hints().items():
        assert len(set(texts)) == len(texts) == 3, f"needed three different hints: {name}"
        assert all(isinstance(text, str) and text.strip() for text in texts), name


def test_every_stage_has_saboteurs():
    assert {mutant.stage for mutant in mutants()} == {known.slug for known in lessons()}
    assert len(mutants()) >= 30


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_saboteur_fits_its_stage_and_names_a_sentence(mutant):
    compile(mutant.source(), mutant.name, "exec")
    assert mutant.caught_by in sentences()
    assert mutant.name.isidentifier()
