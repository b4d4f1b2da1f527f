"""The drill of two machines: they are lost at random moments, again and again, and nothing shows in what they make.

    python -m tests.benchmarks.two_machines --losses 20
    python -m tests.benchmarks.two_machines --only train --losses 5 --seed 3

The machines are network namespaces joined by a switch (`tests.clusters.machines`; Linux and root), a third one is the
object store. Production: a producer on each machine, over a folder that both see, then over a bucket; whichever machine
is lost comes back and produces on, and the rows of the store are compared with those of an undisturbed one. Training:
one process on each machine; when a machine is lost, the other one must end its launch by itself, then both are started
again; weights, checkpoint and metrics are compared with those of an undisturbed run on one machine, bit for bit.

A machine is lost in one of three ways: it loses power, its cable is pulled, or all of its processes are killed. The
moment is random: every fifth time within seconds of its start, else while it works.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from distsae.checkpoint.names import checkpoints, step_of
from tests.clusters.bucket_machine import bucket_on
from tests.clusters.lost_machines import WAYS, bring_back, lose
from tests.clusters.machines import Machine, Network, network, why_not
from tests.clusters.two_nodes import TwoNodes, environment
from tests.conftest import save_tiny_model, tiny_documents
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import launch
from tests.end_to_end.producers import Job, compare, read_rows, run_distsae
from tests.end_to_end.runs import arguments, assert_same_end

_HANG = 15
_START = 12.0
"""Seconds from the start of a process within which an early loss falls."""

_ROWS = {"context_length": 64, "unit_rows": 4_000, "chunk_rows": 1024}


class Losses:
    """When and how machines are lost, at random.

    Args:
        network: of the machines.
        number: of losses.
        chance: source of the moments, machines and ways.
    """

    def __init__(self, network: Network, number: int, chance: random.Random) -> None:
        self.network = network
        self.chance = chance
        self.left = number
        self.dealt: Counter[str] = Counter()

    @property
    def early(self) -> bool:
        """Whether the next loss is to fall within seconds of a start."""
        return self.left % 5 == 0

    def next(self) -> tuple[Machine, str]:
        """Loses one of the first two machines, and returns which and how."""
        machine, way = self.chance.choice(self.network.machines[:2]), self.chance.choice(WAYS)
        when = "early, " if self.early else ""
        self.left -= 1
        self.dealt[when + way] += 1
        lose(self.network, machine, way)
        return machine, way


def produce(job: Job, out: str, losses: Losses, folder: Path, variables: dict[str, str]) -> None:
    """Keeps a producer at work on each machine until the store is sealed; loses machines while losses are left."""
    machines = losses.network.machines[:2]

    def start(machine: Machine) -> Producer:
        words = [sys.executable, "-m", "distsae", *job.arguments(Path("OUT"))]
        words[words.index("OUT")] = out
        return Producer(machine, words, folder / f"produced-{machine.name}", variables)

    at_work = {machine.name: start(machine) for machine in machines}
    while any(producer.code() is None for producer in at_work.values()):
        if losses.left and any(producer.works or losses.early for producer in at_work.values()):
            time.sleep(losses.chance.uniform(0, _START if losses.early else 1.5))
            machine, way = losses.next()
            if way == "cable":
                time.sleep(losses.chance.uniform(0, 20))
            bring_back(losses.network, machine, way)
            at_work[machine.name].wait()
            at_work[machine.name] = start(machine)
        time.sleep(0.05)
    for producer in at_work.values():
        assert producer.code() == 0, producer.said


class Producer:
    """A producer on one of two machines.

    Args:
        machine: where.
        words: command.
        out: file to which what it says is added.
        variables: of the environment, beside the usual ones.
    """

    def __init__(self, machine: Machine, words: list[str], out: Path, variables: dict[str, str]) -> None:
        self._out = out
        self._before = out.stat().st_size if out.exists() else 0
        self._started = machine.start(words, out, environment(**variables))

    @property
    def said(self) -> str:
        return self._out.read_bytes()[self._before :].decode()

    @property
    def works(self) -> bool:
        """Whether it has units in work or done."""
        return "produce: " in self.said and self.code() is None

    def code(self) -> int | None:
        return self._started.poll()

    def wait(self) -> None:
        self._started.wait(60)


def drill_production(folder: Path, number: int, chance: random.Random, bucket: bool) -> str:
    """Loses machines under producers; returns a row of the table."""
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents(700)))
    job = Job(save_tiny_model(folder / "model"), corpus, _ROWS)
    done = run_distsae(job.arguments(folder / "good"))
    assert done.returncode == 0, done.stderr
    good, rounds, harm = read_rows(folder / "good"), 0, Counter[str]()
    with network(folder, "node1", "node2", "bucket") as joined, bucket_on(joined.machines[2]) as store:
        losses = Losses(joined, number, chance)
        while losses.left:
            rounds += 1
            made = folder / f"made-{rounds}"
            out = f"s3://bucket/{made.name}" if bucket else str(made)
            produce(job, out, losses, folder, store.environment if bucket else {})
            if bucket:
                store.copy(made.name, made)
            harm.update(compare(good, read_rows(made))._asdict())
            harm["sealed otherwise"] += (made / "dataset.json").read_bytes() != (
                folder / "good/dataset.json"
            ).read_bytes()
    where = "bucket" if bucket else "folder"
    found = ", ".join(f"{name} {count}" for name, count in harm.items())
    return f"| producers, {where} | {_words(losses.dealt)} | {rounds} stores of {len(good.key):,} rows: {found} | |"


def drill_training(folder: Path, number: int, chance: random.Random) -> str:
    """Loses machines under a training; returns a row of the table."""
    model, corpus, store = save_tiny_model(folder / "model"), folder / "tiny.jsonl", folder / "store"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents()))
    rows = {"context_length": 32, "max_rows": 9000, "unit_rows": 2000, "chunk_rows": 256}
    done = run_distsae(Job(model, corpus, rows | {"hooks": "[blocks.0.resid_post]"}).arguments(store))
    assert done.returncode == 0, done.stderr
    steps, out = 20 * (number + 1), folder / "run"
    changes = {"steps": steps, "checkpoint.every": 4, "hang_seconds": _HANG, "mesh.data": 1, "mesh.feature": 2}
    straight = launch(arguments(store, folder / "straight", **changes))
    assert straight.returncode == 0, straight.stderr
    hold, waited, resumed = Hold(folder, before=steps - 1), [], 0
    with network(folder, "node1", "node2") as joined:
        losses, start = Losses(joined, number, chance), 0
        while True:
            job = TwoNodes(
                joined.machines,
                folder,
                arguments(store, out, **changes),
                port=29500 + losses.left,
                variables=hold.environment,
            )
            if not losses.left:
                hold.release()
                assert job.codes() == [0, 0], job.all_said
                resumed += "resumed from" in job.said(0)
                break
            early = losses.early
            if early:
                time.sleep(chance.uniform(0, _START))
            else:
                start = _newest(out)
                job.until(lambda past=start: _newest(out) > past)
                time.sleep(chance.uniform(0, 0.5))
            machine, way = losses.next()
            waited.append(_until_ended(job, joined, machine, way, early))
            resumed += "resumed from" in job.said(0)
    assert_same_end(out, folder / "straight")
    ended = f"{median(waited):.0f} s, at most {max(waited):.0f} s"
    return f"| training, 1x2 | {_words(losses.dealt)} | {resumed} resumes, weights equal bit for bit | {ended} |"


def _until_ended(job: TwoNodes, joined: Network, machine: Machine, way: str, early: bool) -> float:
    """Waits until the launch on the other machine has ended by itself; returns seconds."""
    start, other = time.monotonic(), 1 - joined.machines.index(machine)
    code = job.code(other)
    seconds = time.monotonic() - start
    said = job.said(other)
    assert code == 1, said
    assert "distsae: error" in said, said
    bring_back(joined, machine, way)
    job.codes()
    print(f"{machine.name}: {way}{', early' if early else ''}: the other one ended after {seconds:.1f} s", flush=True)
    return seconds


def _newest(out: Path) -> int:
    return max((step_of(path) or 0 for path in checkpoints(out / "checkpoints")), default=0)


def _words(dealt: Counter[str]) -> str:
    return ", ".join(f"{count} {way}" for way, count in sorted(dealt.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=20, help="machines to lose in each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("folder", "bucket", "train"))
    given = parser.parse_args()
    if why_not():
        raise SystemExit(f"two_machines: {why_not()}")
    print("| what ran | machines lost | result | until the rest ended by itself |\n|---|---|---|---|")
    for part in ("folder", "bucket", "train") if given.only is None else (given.only,):
        with tempfile.TemporaryDirectory() as name:
            folder, chance = Path(name), random.Random(f"{part} {given.seed}")
            if part == "train":
                print(drill_training(folder, given.losses, chance), flush=True)
            else:
                print(drill_production(folder, given.losses, chance, bucket=part == "bucket"), flush=True)


if __name__ == "__main__":
    main()
