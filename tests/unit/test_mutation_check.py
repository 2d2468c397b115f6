"""The mutation check itself: what it samples, how it names a change, and that an unlisted survivor is a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.check import (
    Survivor,
    function_of,
    known_survivors,
    module_of,
    sample,
    survivor_of,
    unexpected,
)

MUTANTS = [f"a.b.x_f__mutmut_{n}" for n in range(50)] + [f"c.xǁCǁg__mutmut_{n}" for n in range(3)]
DIFF = """--- signscope/norms.py
+++ signscope/norms.py
@@ -1,5 +1,5 @@
 def f(a):
-    return a <= 1
+    return a < 1
"""


def test_each_module_gives_as_many_mutants_and_the_seed_chooses_them() -> None:
    chosen = sample(MUTANTS, 10, seed=1)
    assert [module_of(name) for name in chosen] == ["a.b"] * 10 + ["c"] * 3
    assert chosen == sample(reversed(MUTANTS), 10, seed=1)
    assert chosen != sample(MUTANTS, 10, seed=2)


def test_what_only_runs_at_import_is_not_sampled() -> None:
    names = ["signscope.schema.x__field__mutmut_1", "signscope.schema.x_pack__mutmut_1"]
    assert sample(names, 10, seed=0) == names[1:]


def test_a_survivor_is_known_by_its_change_and_not_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    path.write_text(
        '[[survivor]]\nfunction = "signscope.norms.f"\nwas = "return a <= 1"\n'
        'became = "return a < 1"\nreason = "both are one"\n'
    )
    change = survivor_of("signscope.norms.x_f__mutmut_7", DIFF)
    other = Survivor("signscope.norms.f", "return a <= 1", "return a > 1")
    assert unexpected({"n_1": change, "n_2": other}, known_survivors(path)) == [("n_2", other)]


def test_a_mutant_is_named_by_its_function() -> None:
    assert function_of("a.b.x__close__mutmut_12") == "a.b._close"
    assert function_of("a.b.xǁReaderǁ_close__mutmut_1") == "a.b.Reader._close"


def test_a_survivor_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    path.write_text('[[survivor]]\nfunction = "m"\nwas = "a"\nbecame = "b"\nreason = " "\n')
    with pytest.raises(ValueError, match="without a reason"):
        known_survivors(path)


def test_the_reasons_that_are_kept_can_be_read() -> None:
    assert all(survivor.was != survivor.became for survivor in known_survivors())
