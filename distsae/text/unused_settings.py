"""Refuses settings of a corpus that only mean something elsewhere, where it is a local path: they would be ignored."""

from __future__ import annotations

from distsae.errors import WrongInput
from distsae.text.corpus import corpus_files
from distsae.text.local_path import local_path

__all__ = ["refuse_unused_settings"]

_PLAIN_TEXT = (".txt", ".txt.gz", ".txt.zst")


def refuse_unused_settings(
    corpus: str, *, text_field: str = "text", split: str = "train", subset: str | None = None
) -> None:
    """Refuses a split, subset or text field that nothing would read, since the corpus is a local path.

    A local folder may have splits if `save_to_disk` wrote it. Arguments are those of `open_corpus`.

    Raises:
        WrongInput: such a setting is given; or there is nothing to read at the path.
    """
    path = local_path(corpus, "corpus")
    if path is None or (text_field, split, subset) == ("text", "train", None):
        return
    files = corpus_files(path, split)
    has_splits = any((folder / "dataset_dict.json").is_file() for file in files for folder in file.parents)
    unused = {
        "subset": (subset, subset is not None, "a Hugging Face data set"),
        "split": (split, split != "train" and not has_splits, "a data set with splits"),
        "text_field": (
            text_field,
            text_field != "text" and all(file.name.endswith(_PLAIN_TEXT) for file in files),
            "records with fields",
        ),
    }
    for name, (value, is_unused, kind) in unused.items():
        if is_unused:
            raise WrongInput(
                f"`{name}` (={value}) must belong to {kind}; got the local `corpus` (={path}), which has none; leave "
                "it out"
            )
