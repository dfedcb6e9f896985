"""For tests of processors: `heal` runs one over records in memory and says what became of each.

from streamheal.testing import heal, record
"""

from streamheal.testing.heal import heal
from streamheal.testing.records import record
from streamheal.testing.report import Quarantined, Report

__all__ = ["Quarantined", "Report", "heal", "record"]
