"""Refuses settings that only mean something for a Hugging Face repository, where model or corpus is a local path."""

from __future__ import annotations

from distsae.errors import WrongInput
from distsae.producer.config import ProduceConfig
from distsae.text.corpus import corpus_files
from distsae.text.local_path import local_path

__all__ = ["refuse_unused"]

_DEFAULTS = {name: getattr(ProduceConfig, name) for name in ("split", "subset", "text_field")}
_PLAIN_TEXT = (".txt", ".txt.gz", ".txt.zst")


def refuse_unused(config: ProduceConfig) -> None:
    """Refuses a revision, split, subset or text field that nothing would read, since the path is a local one.

    A local folder may have splits if `save_to_disk` wrote it.

    Raises:
        WrongInput: such a setting is given; or the model or corpus is a path where nothing is.
    """
    if config.revision is not None and (model := local_path(config.model, "model")) is not None:
        raise WrongInput(
            f"`revision` (={config.revision}) must belong to a Hugging Face model; got the local `model` (={model}); "
            "leave it out, or give the name of a model"
        )
    corpus = local_path(config.corpus, "corpus")
    given = [name for name, default in _DEFAULTS.items() if getattr(config, name) != default]
    if corpus is None or not given:
        return
    files = corpus_files(corpus, config.split)
    has_splits = any((folder / "dataset_dict.json").is_file() for file in files for folder in file.parents)
    plain = all(file.name.endswith(_PLAIN_TEXT) for file in files)
    unused = {"subset": True, "split": not has_splits, "text_field": plain}
    for name in given:
        if unused[name]:
            kind = "records with fields" if name == "text_field" else "a Hugging Face data set"
            raise WrongInput(
                f"`{name}` (={getattr(config, name)}) must belong to {kind}; got the local `corpus` (={corpus}), which "
                f"has none; leave it out"
            )
