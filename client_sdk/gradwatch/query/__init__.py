"""Reading runs in Python: pandas or polars DataFrames and Plotly figures, over HTTP or directly from a database.

::

    from gradwatch import query

    runs = query.connect()  # the local server, or its database where none runs
    run = runs.run(runs.runs()["id"][0])
    run.norms("blocks.*.weight", start=1_000)
    run.figure()

Nothing here is imported by the rest of gradwatch; pandas, polars and Plotly are imported when they are asked for.
"""

from __future__ import annotations

from .reading import Runs, StoredRun, connect
from .source import Buckets, Histogram, HttpSource, Source, Values

__all__ = ["Buckets", "Histogram", "HttpSource", "Runs", "Source", "StoredRun", "Values", "connect"]
