"""`distsae stream`: starts the producers, starts the training as soon as there is a store, and ends both together."""

from __future__ import annotations

import shlex
import signal
import time
from pathlib import Path

import yaml

from distsae.durable import replace
from distsae.exit_codes import DONE, INTERRUPTED, STOPPED
from distsae.progress import say
from distsae.recipes.from_keys import FromKeys
from distsae.recipes.stream.config import StreamConfig
from distsae.recipes.stream.launched import StreamLaunch
from distsae.recipes.stream.plan import StreamPart, StreamPlan, planned
from distsae.signals import listening, stop_signals
from distsae.standard_streams import show

__all__ = ["run_stream"]

_POLL = 0.2


def run_stream(config: StreamConfig, from_keys: FromKeys) -> int:
    """Runs producers and training side by side until the training is done.

    Each of them is started again after a crash. If the producers fail for good, the training saves a checkpoint and
    stops; once the training has ended, the producers are stopped. The same command goes on after a stop or a kill, with
    the weights of an undisturbed run.

    Args:
        config: keys of the stream.
        from_keys: function that builds the configs of the two commands.

    Returns:
        The exit code of the training, or that of the producers if they failed.

    Raises:
        WrongInput: a command would refuse its keys, or they do not fit together; nothing was started.
    """
    plan = planned(config, from_keys)
    for part in (plan.produce, plan.train):
        _write(part)
        if config.dry_run:
            words = [f"{name}={value}" for name, value in part.environment.items()]
            show(shlex.join([*words, *part.command(config.restarts, config.grace)]))
    return DONE if config.dry_run else _Stream(config, plan).run()


def _write(part: StreamPart) -> None:
    """Writes the config file of a part, which its command takes by itself as well."""
    part.file.parent.mkdir(parents=True, exist_ok=True)
    replace(part.file, yaml.safe_dump(dict(part.config), sort_keys=False).encode())


class _Stream:
    def __init__(self, config: StreamConfig, plan: StreamPlan) -> None:
        self._config = config
        self._plan = plan
        self._log = config.log
        self._running: list[StreamLaunch] = []
        self._asked: signal.Signals | None = None  # first signal that asked to stop, or a later Ctrl-C

    def run(self) -> int:
        with listening(stop_signals(), self._on_signal):
            say(f"producers write to {self._log}")
            producers = self._started(self._plan.produce, self._log)
            if not self._store_opens(producers):
                return self._ended_early(producers)
            training = self._started(self._plan.train)
            while training.code() is None:
                if producers.code() not in (None, DONE) and self._asked is None:
                    say(f"the producers ended with {producers.code()}: the training saves a checkpoint and stops")
                    training.send(signal.SIGTERM)
                    training.wait()
                    return self._ended_early(producers)
                time.sleep(_POLL)
            producers.send(signal.SIGTERM)  # those of a bounded store wait for a reader, for ever
            producers.wait()
            return training.wait()

    def _started(self, part: StreamPart, log: Path | None = None) -> StreamLaunch:
        launched = StreamLaunch(part, self._config.restarts, self._config.grace, log)
        self._running.append(launched)
        if self._asked is not None:  # by a signal that came before it was in the list
            launched.send(self._asked)
        return launched

    def _store_opens(self, producers: StreamLaunch) -> bool:
        """Waits for the store to be readable while it shows what the producers write; False if they end before."""
        shown = producers.written_before
        while True:
            ended = producers.code() is not None
            opens = (self._plan.store / "dataset.json").is_file()
            shown = self._show_log_from(shown)
            if opens or ended:
                return opens and not (ended and producers.code() != DONE)
            time.sleep(_POLL)

    def _show_log_from(self, position: int) -> int:
        """Shows the whole lines of the producers' log behind `position`, and returns the position behind them."""
        with self._log.open("rb") as log:
            log.seek(position)
            lines, newline, _ = log.read().rpartition(b"\n")
        for line in lines.decode(errors="replace").splitlines():
            say(line)
        return position + len(lines) + len(newline)

    def _ended_early(self, producers: StreamLaunch) -> int:
        """Returns the exit code of a stream whose producers ended before the training did."""
        code = producers.wait()
        if self._asked is not None:
            return INTERRUPTED if self._asked is signal.SIGINT else STOPPED
        lines = self._log.read_bytes()[producers.written_before :].decode(errors="replace").splitlines()
        for line in lines[-3:]:
            say(line)
        return code

    def _on_signal(self, number: signal.Signals) -> None:
        if self._asked is None or number is signal.SIGINT:
            self._asked = number
        for launched in list(self._running):
            launched.send(signal.SIGINT if number is signal.SIGINT else signal.SIGTERM)
