"""Commits of the embedded store: one batch in, the outcomes of one out, as a busy router makes them."""

from __future__ import annotations

from urllib.parse import quote

from bench.micro.inputs import WALL, outcome, submits
from bench.micro.stopwatch import Stopwatch
from bench.scenarios.directory import scratch_directory
from mesh.core.commands import AppendBatch, DropBatches, Record, RecordOutcomes
from mesh.settings import Settings
from mesh.store.open import open_store
from mesh.wire.codec import encode_body


def run_store(tasks: int, watch: Stopwatch, level: str) -> None:
    """Each commit accepts one batch of a thousand and settles the one before."""
    with scratch_directory() as directory:
        url = "memory://" if level == "memory" else f"sqlite://{quote(str(directory))}/bench.db?level={level}"
        store = open_store(url, settings=Settings())
        try:
            store.recover()
            before: list[Record] = []
            for submit in submits(tasks):
                raw = encode_body(submit)
                append = AppendBatch(submit.batch, submit, raw, WALL)
                watch.call("commit", store.commit, [append, *before])
                outcomes = [outcome(spec.id, submit.batch) for spec in submit.tasks]
                before = [RecordOutcomes(outcomes), DropBatches([submit.batch])]
            watch.call("commit", store.commit, before)
        finally:
            store.close()
