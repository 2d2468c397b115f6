"""Do the tests notice when a module that holds a promise of SignScope is changed?

mutmut makes thousands of small changes to the modules that pyproject.toml names; this takes a sample of them,
the same number from each module, chosen by a seed, and runs the tests that touch each. A change that no test
notices must stand in survivors.toml with the reason why that is no fault; any other fails the check. One JSON
line says how many were tried, noticed and not. ``make mutants`` and ``make soak`` run it.

mutmut needs os.fork: on Windows this runs in WSL only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SURVIVORS = Path(__file__).with_name("survivors.toml")
MUTANTS = REPOSITORY / "mutants"
LOG = MUTANTS / "check.log"
NO_MUTANT = "none"
"""mutmut makes all mutants and times all tests before it looks for the named ones, and ends when there are none."""

MUTMUT = str(Path(sys.executable).with_name("mutmut"))

AT_IMPORT = re.compile(
    r"signscope\.(schema\.x(__fields?|ǁRecordTableǁ__init__)|reader\.x__one_of)__mutmut_"
)
"""Functions that only run while their module is imported: mutmut chooses a mutant after that, so none is ever run."""

NOT_RUN, SURVIVED, NO_TESTS = (
    None,
    0,
    33,
)  # exit codes in mutmut's .meta files; all others are noticed


@dataclass(frozen=True)
class Survivor:
    """A change that no test notices. ``was`` and ``became`` are lines of source, without indentation."""

    function: str  # dotted, as in "signscope.reader.LedgerReader.verify"
    was: str
    became: str


def known_survivors(path: Path = SURVIVORS) -> dict[Survivor, str]:
    """Give the reasons of the survivors that are no fault; raises ValueError for one without a reason."""
    found: dict[Survivor, str] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", []):
        reason = entry.pop("reason", "").strip()
        if not reason:
            raise ValueError(f"a survivor without a reason: {entry}")
        found[Survivor(**entry)] = reason
    return found


def verdicts() -> dict[str, int | None]:
    """Give what mutmut has found about every mutant there is: its exit code, None where it was not run."""
    found: dict[str, int | None] = {}
    for path in sorted(MUTANTS.rglob("*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def module_of(mutant: str) -> str:
    """Give the module of a mutant: ``signscope.norms`` for ``signscope.norms.x_f__mutmut_3``."""
    return mutant.rpartition(".")[0]


def sample(mutants: Iterable[str], each: int, seed: int) -> list[str]:
    """Choose ``each`` mutants of every module, all of a module that has fewer."""
    by_module: dict[str, list[str]] = {}
    for name in sorted(name for name in mutants if not AT_IMPORT.match(name)):
        by_module.setdefault(module_of(name), []).append(name)
    chance = random.Random(seed)
    return [
        name
        for _module, names in sorted(by_module.items())
        for name in sorted(chance.sample(names, min(each, len(names))))
    ]


def function_of(mutant: str) -> str:
    """Give the function that a mutant changes: ``a.b.f`` for ``a.b.x_f__mutmut_3``, ``a.b.C.f`` for ``a.b.xǁCǁf__...``."""
    name = mutant.rpartition("__mutmut_")[0].removeprefix(f"{module_of(mutant)}.")
    return ".".join([module_of(mutant), *name.removeprefix("x_").removeprefix("xǁ").split("ǁ")])


def survivor_of(mutant: str, diff: str) -> Survivor:
    """Read the change that a mutant is out of mutmut's unified diff."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was = [line[1:].strip() for line in lines if line.startswith("-")]
    became = [line[1:].strip() for line in lines if line.startswith("+")]
    return Survivor(function_of(mutant), " ".join(was), " ".join(became))


def run_mutmut(arguments: Sequence[str], limit_s: float) -> int:
    """Run mutmut for at most ``limit_s`` seconds and give its status; what it has found by then is kept."""
    command = [MUTMUT, "run", *arguments]
    MUTANTS.mkdir(exist_ok=True)
    with LOG.open("w", encoding="utf-8") as output:
        running = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = running.wait(max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            code = 0
        finally:  # its workers outlive it otherwise, also when this is interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    return code


def refuse(why: str) -> SystemExit:
    """Give the end of a check that could not be made, with what mutmut said."""
    print(LOG.read_text(encoding="utf-8")[-4000:], file=sys.stderr)
    return SystemExit(f"{why}; the output of mutmut is in {LOG}")


def diff_of(mutant: str) -> str:
    """Ask mutmut for the change that a mutant is."""
    shown = subprocess.run(
        [MUTMUT, "show", mutant],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def unexpected(
    survivors: Mapping[str, Survivor], known: Mapping[Survivor, str]
) -> list[tuple[str, Survivor]]:
    """Give the survivors that no reason is known for, by the mutant's name."""
    return [(name, found) for name, found in sorted(survivors.items()) if found not in known]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 1 when a change was not noticed that should have been."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=30, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="chooses the mutants")
    parser.add_argument("--minutes", type=float, default=60, help="limit; later ones are not run")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    known = known_survivors()
    end_s = time.monotonic() + 60 * options.minutes
    children = ["--max-children", str(options.children)]
    run_mutmut([*children, NO_MUTANT], end_s - time.monotonic())
    if not (MUTANTS / "mutmut-stats.json").exists():
        raise refuse("The tests fail without any change, or were not done in time")
    chosen = sample(verdicts(), options.each, options.seed)
    if run_mutmut([*children, *chosen], end_s - time.monotonic()):
        raise refuse("The changes could not be tried")
    found = verdicts()
    codes = {name: found[name] for name in chosen}
    survivors = {
        name: survivor_of(name, diff_of(name))
        for name, code in codes.items()
        if code in (SURVIVED, NO_TESTS)
    }
    faults = unexpected(survivors, known)
    for name, change in faults:
        print(f"Not noticed: {name}\n  was     {change.was}\n  became  {change.became}")
    tried = Counter(module_of(name) for name, code in codes.items() if code is not NOT_RUN)
    figures = {
        "mutants": len(found),
        "tried": tried.total(),
        "noticed": tried.total() - len(survivors),
        "survived_with_reason": len(survivors) - len(faults),
        "survived": len(faults),
        "seed": options.seed,
        "tried_by_module": dict(tried),
    }
    print(json.dumps(figures))
    if faults:
        entries = json.dumps([asdict(change) for _name, change in faults], indent=1)
        (MUTANTS / "unexpected.json").write_text(entries, encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
