"""That the runtime can still be broken in each of the ways that `make mutants-simulation` knows."""

from __future__ import annotations

import ast

import pytest

from tests.simulation.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_what_a_mutant_changes_is_still_there(mutant: Mutant) -> None:
    """Code moves on. One that is not found, or that Python does not read, would show nothing of the worlds."""
    ast.parse(mutant.of((ROOT / "streamheal" / mutant.file).read_text()))
