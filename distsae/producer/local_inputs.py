"""Refuses settings that only mean something for a Hugging Face repository, where model or corpus is a local path."""

from __future__ import annotations

from distsae.errors import WrongInput
from distsae.producer.config import ProduceConfig
from distsae.text.local_path import local_path
from distsae.text.unused_settings import refuse_unused_settings

__all__ = ["refuse_unused"]


def refuse_unused(config: ProduceConfig) -> None:
    """Refuses a revision, split, subset or text field that nothing would read, since the path is a local one.

    Raises:
        WrongInput: such a setting is given; or the model or corpus is a path where nothing is.
    """
    if config.revision is not None and (model := local_path(config.model, "model")) is not None:
        raise WrongInput(
            f"`revision` (={config.revision}) must belong to a Hugging Face model; got the local `model` (={model}); "
            "leave it out, or give the name of a model"
        )
    refuse_unused_settings(config.corpus, text_field=config.text_field, split=config.split, subset=config.subset)
