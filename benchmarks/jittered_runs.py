"""Fill a store with jittered runs of the training problems, for `lrpilot train --imitate`.

    .venv/bin/python benchmarks/jittered_runs.py net jittered.db 8

The last number is that of the stacks.
"""

import sys
from pathlib import Path

from lrpilot.learning.jittered import jittered
from lrpilot.learning.past import PastRuns

kind, path, stacks = sys.argv[1:]
store = PastRuns(Path(path))
for stack in range(int(stacks)):
    new = sum(store.add(jittered(kind, stack)))
    print(f"stack {stack + 1} of {stacks}: {new} new runs", file=sys.stderr)
