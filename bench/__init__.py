"""Measures what the documents promise; each file one promise. `make bench` runs them all."""

import core  # noqa: F401  # before any import of torch: it sets how compute threads wait
