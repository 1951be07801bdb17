"""Thousands of changed files through every reader: `python -m stress.fuzz --count 10000 --log FILE`.

A file is made from a number (`--only N` makes one again). It is read in a process of its own kind, which may take ten
seconds and two gigabytes a file: what hangs, what crashes and what fills the memory is seen from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stress.peak import forget_peak, peak_bytes

TIMEOUT_S, START_TIMEOUT_S = 10.0, 120.0
MORE_ADDRESSES = 2 * 2**30  # bytes that a reader may map beyond what its libraries take
MORE_MEMORY = 512 * 2**20  # bytes that it may use beyond that
GOOD = ("read", "refused")
Counts = Counter[tuple[str, str]]
READER = "stress.reading"
KEPT = Path("runs") / "fuzz"


def make_case(folder: Path, number: int, seeds: list[Path]) -> Path:
    """The file of that number, made from one of the seeds in turn."""
    from stress.mutations import mutate

    rng = random.Random(number)
    seed = seeds[number % len(seeds)]
    target = folder / f"case.{seed.name}"
    if target.is_dir():
        shutil.rmtree(target)
    mutate(seed, target, rng)
    return target


def judge(path: Path, reader: str = READER) -> tuple[str, str]:
    """What came of reading a file: "read", "refused" or what is wrong, with the details."""
    import importlib
    import traceback

    before = forget_peak()
    try:
        outcomes = importlib.import_module(reader).read_every_way(path)
    except Exception:  # whatever it is, it is the finding
        return "uncaught", traceback.format_exc(limit=-6)
    for name, error in outcomes.items():
        cause = None if error is None else error.__cause__
        if isinstance(cause, MemoryError):
            return "memory", f"{name} asked for more than there is: {error}"
        if error is not None and len(str(error)) > 5000:
            return "uncaught", f"{name} tells {len(str(error))} characters"
    more = peak_bytes() - before
    if more > MORE_MEMORY and sys.platform == "linux":
        return "memory", f"{more / 2**20:.0f} MiB more than before"
    main = "load_model" if path.suffix == ".safetensors" else "read_image"
    return ("read" if outcomes[main] is None else "refused"), str(outcomes[main] or "")


def work(folder: Path, numbers: range, reader: str) -> None:
    """Judge the files of those numbers, one JSON line before each and one after; runs in a process of its own."""
    import logging
    import resource
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    seeds = sorted((folder / "seeds").iterdir())
    for seed in seeds:  # every library is loaded before the limit is set
        judge(seed, reader)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    inner = folder / f"work-{os.getpid()}"
    inner.mkdir()
    print(json.dumps({"ready": True}), flush=True)
    for number in numbers:
        path = make_case(inner, number, seeds)
        print(json.dumps({"begin": number, "name": path.name}), flush=True)
        started = time.perf_counter()
        outcome, details = judge(path, reader)
        seconds = time.perf_counter() - started
        print(json.dumps({"end": number, "outcome": outcome, "details": details, "seconds": seconds}), flush=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def run(
    count: int, first: int = 0, seconds: float | None = None, reader: str = READER
) -> tuple[Counts, list[dict[str, Any]]]:
    """Judge files first to first + count - 1, or as many as so many seconds allow.

    Returns
    -------
    tuple of Counter and list
        How many files by (kind, outcome), and the faults.
    """
    from stress.seeds import make_seeds

    counts: Counts = Counter()
    faults: list[dict[str, Any]] = []
    ends = None if seconds is None else time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        make_seeds(folder / "seeds")
        number, last = first, first + count
        while number < last and (ends is None or time.monotonic() < ends):
            for found in _watched(folder, range(number, last), ends, reader):
                kind = found["name"].removeprefix("case.")
                counts[kind, found["outcome"]] += 1
                number = found["number"] + 1
                if found["outcome"] not in GOOD:
                    faults.append(found)
                    _keep(folder, found)
    return counts, faults


def _watched(folder: Path, numbers: range, ends: float | None, reader: str) -> Iterator[dict[str, Any]]:
    """Findings of one worker process until it is through, or has failed on a file."""
    command = [sys.executable, "-m", "stress.fuzz", "--worker", str(folder), str(numbers.start), str(numbers.stop)]
    command += [reader]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "worker.err").open("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        lines: queue.Queue[str | None] = queue.Queue()

        def pass_on() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=pass_on, daemon=True).start()
        begun: dict[str, Any] | None = None
        timeout = START_TIMEOUT_S
        try:
            while ends is None or time.monotonic() < ends or begun is not None:
                try:
                    line = lines.get(timeout=timeout)
                except queue.Empty:
                    if begun is None:
                        raise RuntimeError(f"the worker does not start; see {errors.name}") from None
                    yield {"number": begun["begin"], "name": begun["name"], "outcome": "hang", "details": ""}
                    return
                if line is None:
                    if begun is not None:
                        details = f"signal or exit code {process.wait()}"
                        yield {"number": begun["begin"], "name": begun["name"], "outcome": "crash", "details": details}
                    elif process.wait():
                        errors.seek(0)
                        raise RuntimeError(f"the worker failed: {errors.read()[-2000:]}")
                    return
                told = json.loads(line)
                if "begin" in told:
                    begun, timeout = told, TIMEOUT_S
                elif "end" in told:
                    assert begun is not None
                    yield {"number": told["end"], "name": begun["name"], **{k: told[k] for k in told if k != "end"}}
                    begun, timeout = None, START_TIMEOUT_S
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _keep(folder: Path, found: dict[str, Any]) -> None:
    """The file of a fault, for those who mend it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    made = make_case(folder, found["number"], sorted((folder / "seeds").iterdir()))
    target = KEPT / f"{found['number']}-{found['name'].removeprefix('case.')}"
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    made.rename(target)


def table(counts: Counts) -> str:
    """Counts of each kind of file, with their sums."""
    outcomes = [*GOOD, *sorted({outcome for _, outcome in counts} - set(GOOD))]
    kinds = sorted({kind for kind, _ in counts})
    width = max(map(len, [*kinds, "all"]), default=4)
    lines = [f"{'kind':{width}}" + "".join(f"{outcome:>10}" for outcome in outcomes)]
    for kind in kinds:
        lines.append(f"{kind:{width}}" + "".join(f"{counts[kind, outcome]:>10}" for outcome in outcomes))
    sums = [sum(counts[kind, outcome] for kind in kinds) for outcome in outcomes]
    return "\n".join([*lines, f"{'all':{width}}" + "".join(f"{each:>10}" for each in sums)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--log", type=Path, help="write the counts and the faults there")
    parser.add_argument("--only", type=int, help="judge the file of that number, here")
    parser.add_argument("--worker", nargs=4, metavar=("FOLDER", "FROM", "TO", "READER"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        work(Path(args.worker[0]), range(int(args.worker[1]), int(args.worker[2])), args.worker[3])
        return 0
    if args.only is not None:
        from stress.seeds import make_seeds

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "seeds").mkdir()
            make_seeds(folder / "seeds")
            print(*judge(make_case(folder, args.only, sorted((folder / "seeds").iterdir()))), sep="\n")
        return 0
    started = time.perf_counter()
    counts, faults = run(args.count, args.first, args.seconds)
    done = sum(counts.values())
    lines = [
        f"python -m stress.fuzz --count {args.count} --first {args.first}",
        f"{done} files in {time.perf_counter() - started:.0f} s, {len(faults)} faults "
        f"(hang over {TIMEOUT_S:.0f} s, crash, uncaught exception, memory)",
        "",
        table(counts),
        *(f"\n{fault['number']} {fault['name']}: {fault['outcome']}\n{fault['details']}" for fault in faults),
    ]
    if done < args.count:
        lines.append(f"\nNOT ENOUGH: {done} of {args.count} files in {args.seconds:.0f} s")
    print("\n".join(lines))
    if args.log is not None:
        args.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if faults or done < args.count else 0


if __name__ == "__main__":
    sys.exit(main())
