"""Makes feature pages from start to finish, together with any number of other processes that run the same command.

1. Each part of the rows is encoded, and what is kept of it is written down (`part_pass.py`).
2. For some features at a time, the results of all parts are put together and written in every format.
3. One process writes what needs all features, such as the list of the site, and says that everything is done.

Processes share this work through the folder (`work_folder.py`), and a killed one is replaced by the others or by
the same command, started again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from distsae.errors import WrongInput
from distsae.model.sae_digest import digest_of
from distsae.model.sae_reading import folder_of, refuse_to_write_there
from distsae.progress import Progress
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.feature_page import FeaturePage
from distsae.reporting.features.inputs import FeatureInputs, open_inputs
from distsae.reporting.features.neuronpedia_files import NeuronpediaFiles
from distsae.reporting.features.page_facts import PageFacts, facts_of, settings_of
from distsae.reporting.features.page_maker import OVERSAMPLED, PageMaker
from distsae.reporting.features.parquet_files import ParquetFiles
from distsae.reporting.features.part_pass import PassSettings, part_result
from distsae.reporting.features.plan import Part
from distsae.reporting.features.saedashboard_files import SAEDashboardFiles
from distsae.reporting.features.site_files import SiteFiles, entry_of
from distsae.reporting.features.work_folder import WorkFolder
from distsae.reporting.report import require_libraries
from distsae.store import UnitContexts

__all__ = ["build_features", "default_out"]


class PageFiles(Protocol):
    """A format of feature pages."""

    def write(self, shard: int, pages: Sequence[FeaturePage]) -> None:
        """Writes the pages of a shard, over what a killed process may have left of them."""

    def finish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Writes what needs all features; `entries` has what `entry_of` says of each."""


def build_features(config: FeaturesConfig) -> Path:
    """Writes the pages and returns their folder, once they are complete.

    Raises:
        WrongInput: SAE, store or model is missing, they do not belong together, or `out` holds something else.
        TornData: a file is damaged.
    """
    if "site" in config.formats:
        require_libraries("distsae features", ("jinja2",))
    out = Path(config.out) if config.out is not None else default_out(config.run)
    for parent in (out, *out.absolute().parents):
        if parent.exists() and not parent.is_dir():
            raise WrongInput(f"`out` (={out}) must be in a folder; got the file {parent}; choose another `out`")
    inputs = open_inputs(config)
    folder = WorkFolder(out, settings_of(config, inputs, digest_of(inputs.sae.state_dict())))
    folder.refuse_other_content()
    if folder.begin():
        return out
    paths = _work_through_parts(config, inputs, folder)
    if not folder.is_finished():
        _work_through_features(config, inputs, folder, paths)
    return out


def default_out(run: str) -> Path:
    """Returns the folder for pages of a run: `features` in the run's folder, or in that of an SAE without a run."""
    folder = folder_of(run, "run")
    refuse_to_write_there(run, "run")
    return Path(run) / "features" if folder != Path(run) else folder / "features"


def _part_name(number: int) -> str:
    return f"part-{number:06d}"


def _shard_name(number: int) -> str:
    return f"shard-{number:06d}"


def _work_through_parts(config: FeaturesConfig, inputs: FeatureInputs, folder: WorkFolder) -> list[Path]:
    """Encodes the parts that nobody has encoded, waits for those of others, and returns the files of all results."""
    parts = {_part_name(part.number): part for part in inputs.parts}
    settings = PassSettings(
        hook=inputs.sae.cfg.hook_name,
        top_contexts=config.top_contexts,
        sampled_contexts=OVERSAMPLED * config.sampled_contexts,
        correlation_contexts=-(-config.correlation_rows // inputs.store.attributes.rows_per_context),
    )
    read: dict[int, UnitContexts] = {}

    def work(name: str) -> dict[str, Any]:
        part = parts[name]
        if part.unit not in read:
            read.clear()
            read[part.unit] = UnitContexts.read(inputs.store, part.unit)
        result = part_result(inputs.sae, inputs.store, read[part.unit], part, settings)
        file = folder.path(f"{name}.safetensors")
        result.save(file)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"sha256": digest, "rows": result.rows, "sample_rows": result.sample_rows}

    with Progress(_contexts(inputs.parts), "encoding", "contexts") as progress:
        _share(folder, list(parts), work, progress, [part.contexts for part in inputs.parts])
    return [folder.path(f"{name}.safetensors") for name in parts]


def _work_through_features(
    config: FeaturesConfig, inputs: FeatureInputs, folder: WorkFolder, paths: Sequence[Path]
) -> None:
    """Writes the pages of the features that nobody has written, waits for those of others, and finishes."""
    names = [_part_name(part.number) for part in inputs.parts]
    try:
        records = [folder.record(name) for name in names]
        for name, path in zip(names, paths, strict=True):
            folder.check_digest(name, path)
        maker = PageMaker(inputs, config, paths)
    except FileNotFoundError:
        if folder.is_finished():  # while this process was about to read, others have finished and cleaned up
            return
        raise
    facts = facts_of(
        config,
        inputs,
        rows=sum(record["rows"] for record in records),
        correlation_rows=sum(record["sample_rows"] for record in records),
    )
    files = _files(config, inputs, folder.out, facts)
    d_sae, size = inputs.sae.cfg.d_sae, config.shard_features
    shards = {_shard_name(number): number for number in range(-(-d_sae // size))}

    def work(name: str) -> dict[str, Any]:
        number = shards[name]
        pages = maker.pages(number * size, min((number + 1) * size, d_sae))
        for written in files:
            written.write(number, pages)
        return {"entries": [entry_of(page, inputs.text) for page in pages]}

    def finish(name: str) -> dict[str, Any]:
        entries = [entry for shard in shards for entry in folder.record(shard)["entries"]]
        for written in files:
            written.finish(entries)
        folder.finish({"facts": facts.to_json()})
        return {}

    with Progress(d_sae, "writing pages", "features") as progress:
        sizes = [min(size, d_sae - number * size) for number in shards.values()]
        _share(folder, list(shards), work, progress, sizes)
    folder.share(["finish"], finish)
    folder.remove_work()  # what other processes were still looking at when the last piece was done


def _share(folder: WorkFolder, names: list[str], work: Any, progress: Progress, sizes: list[int]) -> None:  # noqa: ANN401
    shown = 0

    def on_done(done: int) -> None:
        nonlocal shown
        amount = sum(sizes) * done // len(sizes)
        progress.advance(amount - shown)
        shown = amount

    folder.share(names, work, on_done)


def _files(config: FeaturesConfig, inputs: FeatureInputs, out: Path, facts: PageFacts) -> list[PageFiles]:
    made: dict[str, PageFiles] = {}
    for name in config.formats:
        if name == "site":
            made[name] = SiteFiles(out, inputs.text, facts, config.shard_features)
        elif name == "parquet":
            made[name] = ParquetFiles(out, inputs.text, facts)
        elif name == "neuronpedia":
            made[name] = NeuronpediaFiles(out, inputs.text, facts)
        else:
            made[name] = SAEDashboardFiles(out, inputs.text, facts)
    return list(made.values())


def _contexts(parts: Sequence[Part]) -> int:
    return sum(part.contexts for part in parts)
