"""O3: what no rule can tell is measured. Candidates race on this machine, and who wins has the right answers."""

from .tune import tune

__all__ = ["tune"]
