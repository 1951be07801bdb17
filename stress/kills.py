"""Runs killed at random moments: `python -m stress.kills --kills 200 --log FILE`.

The process that starts them has loaded all libraries and forks, so that a run costs no start of Python; some are
started cold. After each kill every file under an output's name must be complete, with the bytes of an undisturbed run,
and the inputs must be as they were. A run that is taken up again until it is through must end with those bytes too.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stress.runs import RUNS, Run, of_bytes

SHARES = {"one file": 0.3, "batch": 0.3, "store": 0.25, "training": 0.15}  # of all kills
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOP_WITHIN_S = 30.0  # after SIGTERM or SIGINT
UNDISTURBED_WITHIN_S = 300.0
COLD_EVERY = 10
COLD = """
import sys
from pathlib import Path
from stress.runs import RUNS
sys.exit(next(run for run in RUNS if run.name == sys.argv[1]).start(Path(sys.argv[2])))
"""
PARTS_OF_A_RUN = (1.0, 0.7, 0.5)  # how long it is let run, at most, before each kill: what is done is not done again


@dataclass
class Tally:
    """What was done and found."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    leftovers: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)


def warm_up() -> None:
    """Load all that a run needs, and start no thread: what is forked has one thread alone."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    import napari_vae_repair.batch
    import napari_vae_repair.batch.one
    import napari_vae_repair.cli
    import napari_vae_repair.file_training
    import napari_vae_repair.pipeline
    import napari_vae_repair.storing  # noqa: F401


def started(run: Run, folder: Path, *, cold: bool) -> subprocess.Popen[bytes] | int:
    """The process of a run; a forked one as its number."""
    log = folder.parent / f"{folder.name}.err"
    if cold:
        with log.open("ab") as stream:
            return subprocess.Popen([sys.executable, "-c", COLD, run.name, str(folder)], stdout=stream, stderr=stream)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        code = run.start(folder)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(process: subprocess.Popen[bytes] | int, within_s: float) -> int | None:
    """Its exit code, below 0 for a signal; None if it still runs after so long."""
    until = time.monotonic() + within_s
    while True:
        if isinstance(process, int):
            number, status = os.waitpid(process, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if number else None
        else:
            code = process.poll()
        if code is not None or time.monotonic() > until:
            return code
        time.sleep(0.002)


def send(process: subprocess.Popen[bytes] | int, number: int) -> None:
    os.kill(process if isinstance(process, int) else process.pid, number)


def undisturbed(run: Run, folder: Path) -> tuple[dict[str, str], float]:
    """The digest of each output of a run that nobody kills, and how many seconds it took."""
    folder.mkdir()
    run.prepare(folder)
    began = time.monotonic()
    code = ended(started(run, folder, cold=False), UNDISTURBED_WITHIN_S)
    if code != 0:
        raise RuntimeError(
            f"{run.name} ended with {code}: {(folder.parent / f'{folder.name}.err').read_text()[-3000:]}"
        )
    return {name: digest(run, folder / name) for name in run.outputs}, time.monotonic() - began


def told_by(folder: Path) -> str:
    """The end of what the runs in a folder wrote on stderr."""
    return (folder.parent / f"{folder.name}.err").read_text()[-2000:]


def digest(run: Run, path: Path) -> str:
    return (run.digest or of_bytes)(path)


def inputs_of(folder: Path, run: Run) -> dict[str, str]:
    """Digests of all that was there before."""
    inside = [*folder.glob("in*")]
    return {path.name: of_bytes(path) for path in inside}


def check(run: Run, folder: Path, expected: dict[str, str], inputs: dict[str, str]) -> tuple[int, list[str]]:
    """How many outputs are there, and what is wrong with them."""
    faults, there = [], 0
    if inputs_of(folder, run) != inputs:
        faults.append("an input has changed")
    for name, wanted in expected.items():
        path = folder / name
        if not path.exists():
            continue
        there += 1
        try:
            if digest(run, path) != wanted:
                faults.append(f"{name} differs from that of an undisturbed run")
        except Exception as error:
            faults.append(f"{name} cannot be read: {error}")
    for name in run.tables:
        if (folder / name).exists():
            try:
                text = (folder / name).read_text()
                json.loads(text) if name.endswith(".json") else list(csv.reader(text.splitlines(), strict=True))
            except ValueError as error:
                faults.append(f"{name} is half-written: {error}")
    known = {*run.outputs, *run.tables}
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part.endswith((".checkpoint", ".lock")) for part in inside.parts)
        of_store = any(name in {str(inside), *map(str, inside.parents)} for name in known)
        if path.is_file() and not hidden and not of_store and not inside.parts[0].startswith("in"):
            faults.append(f"{inside} is no output")
    return there, faults


def leftovers(folder: Path) -> int:
    """Half-written files under hidden names."""
    return sum(1 for path in folder.rglob(".*.part"))


def kill_one(run: Run, root: Path, expected: dict[str, str], seconds: float, rng: random.Random, tally: Tally) -> None:
    """A folder whose run is killed a few times and then taken up to its end."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    run.prepare(folder)
    inputs = inputs_of(folder, run)
    for part in PARTS_OF_A_RUN:
        cold = sum(tally.kills.values()) % COLD_EVERY == COLD_EVERY - 1
        # every other one in the last third, where files are written
        moment = part * rng.uniform(rng.choice((0.0, 0.67)) * seconds, seconds) + rng.uniform(0, 3) * cold
        chosen = rng.choice(SIGNALS)
        of_worker = run.name == "batch" and rng.random() < 0.25
        process = started(run, folder, cold=cold)
        code = ended(process, moment)
        if code is not None:  # it was through before
            tally.phases["through before"] += 1
            break
        if of_worker:
            code = _without_a_worker(process)
        else:
            send(process, chosen)
            code = ended(process, STOP_WITHIN_S)
        if code is None:
            tally.faults.append(f"{run.name} goes on {STOP_WITHIN_S} s after {chosen.name}")
            send(process, signal.SIGKILL)
            ended(process, STOP_WITHIN_S)
        there, faults = check(run, folder, expected, inputs)
        sent = "a worker's SIGKILL" if of_worker else chosen.name
        what = f"{run.name}{' (cold)' if cold else ''}, {sent} after {moment:.2f} of {seconds:.2f} s"
        tally.kills[run.name, sent] += 1
        tally.phases[f"{there} of {len(expected)} outputs there"] += 1
        tally.faults += [f"{what}: {fault}" for fault in faults]
        whole = "; ".join(faults) or "all whole"
        tally.say(f"{sum(tally.kills.values()):4} {what}: {there} of {len(expected)} outputs, {whole}")
    began = time.monotonic()
    code = ended(started(run, folder, cold=False), UNDISTURBED_WITHIN_S)
    tally.slowest = max(tally.slowest, time.monotonic() - began)
    there, faults = check(run, folder, expected, inputs)
    if code != 0:
        faults.append(f"exit code {code}: {told_by(folder)}")
    if there < len(expected):
        faults.append(f"only {there} of {len(expected)} outputs")
    tally.finished += 1
    tally.leftovers += leftovers(folder)
    tally.faults += [f"{run.name}, taken up to its end: {fault}" for fault in faults]


def _without_a_worker(process: subprocess.Popen[bytes] | int) -> int | None:
    """Kill one of its workers, if there is one by now; it must go on, tell that a file failed, and end by itself."""
    import psutil

    parent = psutil.Process(process if isinstance(process, int) else process.pid)
    children = [child for child in parent.children() if any("batch.worker" in word for word in child.cmdline())]
    if children:
        children[0].kill()
    code = ended(process, UNDISTURBED_WITHIN_S)
    return code if code in (0, 1) else None


def kill_runs(kills: int, seed: int = 0, seconds: float | None = None, only: str | None = None) -> Tally:
    """Kill runs of all kinds until so many kills are done, or so many seconds are over."""
    warm_up()
    rng, tally = random.Random(seed), Tally()
    ends = None if seconds is None else time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        root = Path(name)
        runs = [run for run in RUNS if only in (None, run.name)]
        known = {run.name: undisturbed(run, root / run.name) for run in runs}
        for run in runs:
            again, _ = undisturbed(run, root / f"{run.name} again")
            if again != known[run.name][0]:
                tally.faults.append(f"{run.name}: two undisturbed runs differ")
            tally.say(f"{run.name}: {known[run.name][1]:.2f} s undisturbed")
        while sum(tally.kills.values()) < kills and (ends is None or time.monotonic() < ends):
            of_run = Counter({run: 0 for run, _ in tally.kills})
            for (kind, _), count in tally.kills.items():
                of_run[kind] += count
            # whichever is furthest behind its share
            run = min(runs, key=lambda each: of_run[each.name] / SHARES[each.name])
            kill_one(run, root, *known[run.name], rng, tally)
    return tally


def summary(tally: Tally) -> str:
    total = sum(tally.kills.values())
    lines = [f"{total} kills, {tally.finished} runs taken up to their end, {len(tally.faults)} lost or half-written"]
    for name in SHARES:
        by_signal = {each: count for (run, each), count in sorted(tally.kills.items()) if run == name}
        lines.append(f"  {name:9} {sum(by_signal.values()):4}  {', '.join(f'{k} {v}' for k, v in by_signal.items())}")
    lines.append(f"  the slowest run that was taken up to its end took {tally.slowest:.1f} s")
    found = ", ".join(f"{count} x {phase}" for phase, count in sorted(tally.phases.items()))
    lines += [
        f"  at the kill: {found}",
        f"  hidden half-written files left at the end: {tally.leftovers}",
        *tally.faults,
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--only", choices=list(SHARES), help="one kind of run")
    parser.add_argument("--log", type=Path, help="write a line for each kill, and the counts")
    args = parser.parse_args(argv)
    tally = kill_runs(args.kills, args.seed, args.seconds, args.only)
    done, told = sum(tally.kills.values()), summary(tally)
    if done < args.kills:
        told += f"\nNOT ENOUGH: {done} of {args.kills} kills in {args.seconds:.0f} s"
    print(told)
    if args.log is not None:
        head = f"python -m stress.kills --kills {args.kills} --seed {args.seed}"
        args.log.write_text("\n".join([head, *tally.lines, "", told]) + "\n", encoding="utf-8")
    return 1 if tally.faults or done < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
