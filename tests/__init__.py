"""All tests: unit (core), ui (Qt), e2e (the real program in subprocesses)."""

import core  # noqa: F401  # before any import of torch: it sets how compute threads wait
