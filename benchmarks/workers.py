"""Two dask workers of one thread against one, on an image of 64 megapixels.

    python -m benchmarks.workers [--megapixels 64] [--turns 5]

Each turn restores the scene of `benchmarks.scale` by one worker and by two, one after the other; the order changes from
turn to turn. About a quarter of an hour a turn on two cores; turns are kept in the ignored runs/workers.json as they
end, and a later call goes on from there. Writes benchmarks/results/workers.md and .csv.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.scale import side_of, write_scene

KEPT = report.ROOT / "runs" / "workers.json"
COLUMNS = ("turn", "one worker, s", "two workers, s", "times as fast")


def seconds_with(workers: int, source: Path, output: Path) -> float:
    """Of a restoration by so many workers of one thread, from sending the plan to the finished store."""
    from distributed import LocalCluster

    from napari_vae_repair.settings import Settings
    from napari_vae_repair.storing import restore_to_store

    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        steps = restore_to_store(source, {"restored": output}, Settings(), scheduler=cluster.scheduler_address)
        while next(steps).phase != "restore":
            pass
        started = time.perf_counter()
        for _ in steps:
            pass
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    KEPT.parent.mkdir(exist_ok=True)
    turns: list[dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.ome.zarr", Path(folder) / "out.ome.zarr"
        write_scene(source, side_of(options.megapixels))
        while len(turns) < options.turns:
            order = (1, 2) if len(turns) % 2 == 0 else (2, 1)
            seconds = {workers: seconds_with(workers, source, output) for workers in order}
            turns.append({"MP": options.megapixels, "commit": report.commit(), "one": seconds[1], "two": seconds[2]})
            KEPT.write_text(json.dumps(turns))
            print(turns[-1], flush=True)
            save(turns)
    save(turns)


def save(turns: list[dict[str, Any]]) -> None:
    rows = [
        {"turn": number, "one worker, s": round(turn["one"]), "two workers, s": round(turn["two"]),
         "times as fast": round(turn["one"] / turn["two"], 2)}
        for number, turn in enumerate(turns, 1)
    ]  # fmt: skip
    median = statistics.median(turn["one"] / turn["two"] for turn in turns)
    lines = [
        "# Two workers against one",
        "",
        report.provenance("python -m benchmarks.workers", ("torch", "distributed", "zarr"), 1),
        f"{turns[0]['MP']} megapixels, OME-Zarr to OME-Zarr, one pass of the starter; workers are processes of one "
        "thread on this machine. The look at the image through a few windows, some seconds, is the same in both and is "
        "left out.",
        "",
        *report.markdown(rows, COLUMNS),
        "",
        f"Median of {len(turns)}: {median:.2f} times as fast.",
    ]
    report.write("workers", lines, rows, COLUMNS)


if __name__ == "__main__":
    main()
