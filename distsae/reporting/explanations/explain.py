"""Explains features from start to finish, and goes on where an earlier command was stopped.

Threads send requests, each about one feature at a time. The main thread alone writes results, so that whatever stops
the work, the file of results is whole.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from distsae.errors import WrongInput
from distsae.exit_codes import STOPPED
from distsae.progress import Progress, say
from distsae.reporting.explanations.chat_endpoint import ChatEndpoint
from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.examples import FEWEST_CONTEXTS, FeatureExamples, OtherContexts, examples_of
from distsae.reporting.explanations.feature_job import explain_feature, prompts_of
from distsae.reporting.explanations.firing_check import FiringCheck, Firings, open_check
from distsae.reporting.explanations.outlay import as_text, outlay_of
from distsae.reporting.explanations.page_tables import PageTables, pages_folder
from distsae.reporting.explanations.prompts import PROMPTS_VERSION
from distsae.reporting.explanations.result_folder import FeatureResult, ResultFolder
from distsae.reporting.explanations.selection import other_contexts, selected_features
from distsae.reporting.explanations.site_names import name_in_site
from distsae.reporting.explanations.summary import summary_of
from distsae.signals import listening, stop_signals

__all__ = ["ExplainPlan", "explain", "plan_of"]

Done = queue.SimpleQueue[FeatureResult | BaseException | signal.Signals]
"""Where threads put results, and signals arrive."""

_TOO_FEW = f"fewer than {FEWEST_CONTEXTS} contexts on their pages"
_NONE_LEFT = f"{_TOO_FEW}, or no context of others in which they do not fire"


@dataclass(frozen=True, kw_only=True)
class ExplainPlan:
    """What a command is about to do.

    Args:
        config: the config.
        pages: folder of the pages.
        tables: the pages' Parquet files.
        features: numbers of the features, ascending.
        others: contexts that non-activating ones are drawn from.
        check: SAE and store on which these are looked at first; None without a store.
    """

    config: ExplainConfig
    pages: Path
    tables: PageTables
    features: tuple[int, ...]
    others: OtherContexts
    check: FiringCheck | None

    @property
    def out(self) -> Path:
        """Folder of the results."""
        return Path(self.config.out) if self.config.out is not None else self.pages / "explanations"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what a result is, as JSON values."""
        return {"pages": self.tables.digest, "prompts": PROMPTS_VERSION, **self.config.deciding()}

    def examples(self, features: tuple[int, ...]) -> Iterator[FeatureExamples | None]:
        """Yields what is sent about features; None for one that has too few contexts."""
        firings = self.firings(features)
        for own in self.tables.read(features):
            yield examples_of(own, self.others, self.config, firings)

    def firings(self, features: tuple[int, ...]) -> Firings | None:
        """Returns where features fire in the contexts that may become non-activating ones; None without a store."""
        if self.check is None or not features:
            return None
        most = self.others.looked_at(self.config.scored_contexts)
        return self.check.firings(
            {
                own.feature: {w.context_id for w in islice(self.others.candidates(own, self.config.seed), most)}
                for own in self.tables.read(features)
            }
        )

    def dry_run(self) -> str:
        """Returns what would be sent: a line, and a prompt of each kind in full."""
        found = [examples for examples in self.examples(self.features) if examples is not None]
        line = outlay_of(found, self.config).line(self.config)
        if not found:
            return line
        prompts = list(prompts_of(found[0], self.config))
        first_fuzzing = 1 + -(-len(found[0].detection) // self.config.examples_per_request)
        shown = "\n\n".join(as_text(prompts[place]) for place in (0, 1, first_fuzzing))
        return f"{line}\n\n{shown}"


def plan_of(config: ExplainConfig) -> ExplainPlan:
    """Reads the pages and returns what is to be done. Nothing is sent or written.

    Raises:
        WrongInput: there are no pages, or not of these features, or `out` holds something else.
        TornData: a file is damaged.
    """
    pages = pages_folder(config.run)
    tables = PageTables(pages)
    features = tuple(selected_features(tables, config))
    plan = ExplainPlan(
        config=config,
        pages=pages,
        tables=tables,
        features=features,
        others=other_contexts(tables, config),
        check=open_check(config, pages, tables),
    )
    if not config.dry_run:
        ResultFolder(plan.out, plan.settings).refuse_other_content()
    return plan


def explain(plan: ExplainPlan, pause: float = 1.0) -> dict[str, Any]:
    """Explains the features that are not explained yet, and returns the summary.

    Args:
        plan: what to do.
        pause: seconds before a request is tried for the second time.

    Raises:
        WrongInput: the key is missing, or another process works in the folder.
        EndpointFailed: the endpoint cannot be used.
        SystemExit: SIGTERM or another signal stopped the work.
        KeyboardInterrupt: Ctrl-C did.
    """
    config = plan.config
    key = _key(config)
    with ResultFolder(plan.out, plan.settings) as folder:
        known = set(folder.results)
        pending = tuple(feature for feature in plan.features if feature not in known)
        wanted = [examples for examples in plan.examples(pending) if examples is not None]
        reason = _TOO_FEW if plan.check is None else _NONE_LEFT
        left_out = {reason: len(pending) - len(wanted)} if len(wanted) < len(pending) else {}
        if wanted:
            say(outlay_of(wanted, config).line(config))
            body = {"model": config.model, "temperature": config.temperature, "max_tokens": config.max_tokens}
            with ChatEndpoint(
                config.url,
                {name: value for name, value in body.items() if value is not None},
                key=key,
                timeout=config.timeout,
                retries=config.retries,
                connections=config.concurrency,
                pause=pause,
            ) as endpoint:
                _work(wanted, config, endpoint, folder, len(plan.features) - sum(left_out.values()))
        summary = summary_of(folder.results.values(), left_out, plan.settings, config.seed)
        folder.write_summary(summary)
        name_in_site(plan.pages, folder.results.values())
    return summary


def _key(config: ExplainConfig) -> str | None:
    if config.key_env is None:
        return None
    key = os.environ.get(config.key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise WrongInput(
            f"`key_env` (={config.key_env}) must name an environment variable with an API key; got "
            f"{'none' if not key else 'one with characters that no key has'}; set it, or leave --key_env out"
        )
    return key


def _work(
    wanted: list[FeatureExamples], config: ExplainConfig, endpoint: ChatEndpoint, folder: ResultFolder, total: int
) -> None:
    todo: queue.SimpleQueue[FeatureExamples] = queue.SimpleQueue()
    done: Done = queue.SimpleQueue()
    for examples in wanted:
        todo.put(examples)

    def work() -> None:
        try:
            while True:
                done.put(explain_feature(todo.get_nowait(), endpoint.ask, config))
        except queue.Empty:
            return
        except BaseException as error:  # handed to the main thread, which raises it
            done.put(error)

    unparsed = 0
    with (
        Progress(total, "explaining", "features", done=total - len(wanted)) as progress,
        listening(stop_signals(), done.put),
    ):
        for _ in range(min(config.concurrency, len(wanted))):
            # Daemons: a stopped command does not wait for requests that are on their way.
            threading.Thread(target=work, name="explanations", daemon=True).start()
        for _ in wanted:
            result = done.get()
            if not isinstance(result, FeatureResult):
                endpoint.stop()
                _keep_the_rest(done, folder)
            if isinstance(result, signal.Signals):
                say(f"stopped by {result.name}: what is done is kept in {folder.out}; the same command goes on")
                raise KeyboardInterrupt if result is signal.SIGINT else SystemExit(STOPPED)
            if isinstance(result, BaseException):
                raise result
            folder.append(result)
            unparsed += result.detection.unparsed + result.fuzzing.unparsed
            progress.advance(1, unparsed=unparsed, tried_again=endpoint.tried_again)


def _keep_the_rest(done: Done, folder: ResultFolder) -> None:
    """Writes the results that were ready when the work was stopped."""
    while not done.empty():
        result = done.get()
        if isinstance(result, FeatureResult):
            folder.append(result)
