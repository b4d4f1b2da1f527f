"""SAEs on the Hugging Face Hub: fetched into its cache, and put into a repository.

A name on the Hub is `user/repository`, or `user/repository/folder` for one SAE of several. Only the files that make an
SAE are fetched. Without a network, or with HF_HUB_OFFLINE=1, what was fetched earlier is read from the cache.
HF_ENDPOINT names another server, and HF_TOKEN or a login says who asks.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from distsae.errors import CannotContinue, WrongInput
from distsae.model.formats.catalogue import files_of_formats

__all__ = ["fetched", "is_hub_name", "make_repository", "parts_of_name", "push", "require_repository"]

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_NAME = re.compile(rf"({_PART}/{_PART})((?:/{_PART})*)")


def is_hub_name(text: str) -> bool:
    """Returns whether a text can be the name of an SAE on the Hub; a relative path may look the same."""
    return _NAME.fullmatch(text) is not None


def require_repository(name: str) -> None:
    """Checks that a text is the name of a repository.

    Raises:
        WrongInput: it is not.
    """
    if _REPOSITORY.fullmatch(name) is None:
        raise WrongInput(f"`repo` (={name}) must be the name of a repository; got another text; use user/name")


def parts_of_name(name: str) -> tuple[str, str]:
    """Returns repository and folder of the name of an SAE on the Hub; the folder is empty for the repository's top."""
    found = _NAME.fullmatch(name)
    assert found is not None
    return found[1], found[2].removeprefix("/")


def fetched(repo: str, inside: str, subject: str) -> Path:
    """Returns the folder of an SAE of the Hub in the cache, after fetching its files if they are not there.

    Args:
        repo: the repository, `user/name`.
        inside: folder in it; empty for its top.
        subject: what the user gave, for the error.

    Raises:
        WrongInput: there is no such repository, or no answer and nothing in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    patterns = [f"{inside}/{file}" if inside else file for file in files_of_formats()]
    disable_progress_bars()
    try:
        folder = Path(snapshot_download(repo, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        raise WrongInput(
            f"{subject} must be a folder, or an SAE on the Hugging Face Hub; got no such folder, and of the Hub: "
            f"{reason}; check the name and the network"
        ) from error
    return folder / inside


def make_repository(repo: str, *, private: bool = False) -> None:
    """Makes a repository, unless there is one of that name; so a user without the right to write is told at once.

    Args:
        repo: the repository, `user/name`.
        private: whether it is private, if it is made.

    Raises:
        WrongInput: `repo` is no name of a repository, or the server refuses this user.
        CannotContinue: the server does not answer.
    """
    from huggingface_hub import HfApi

    require_repository(repo)
    with _named_errors(repo):
        HfApi().create_repo(repo, private=private, exist_ok=True)


def push(folder: Path, repo: str, path_in_repo: str | None = None) -> str:
    """Puts all files of a folder into a repository, in one commit, and returns the address of the commit.

    Args:
        folder: folder of an SAE.
        repo: the repository, `user/name`.
        path_in_repo: folder in the repository; None for its top.

    Raises:
        WrongInput: the server refuses this user.
        CannotContinue: the server does not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    place = "" if path_in_repo is None else f"{path_in_repo}/"
    # One commit for all, so that nobody finds weights without their config; `upload_folder` may make several.
    files = [CommitOperationAdd(f"{place}{path.name}", path) for path in sorted(folder.iterdir()) if path.is_file()]
    with _named_errors(repo):
        commit = HfApi().create_commit(repo, files, commit_message="An SAE, exported by distsae")
        return str(commit.commit_url)


@contextlib.contextmanager
def _named_errors(repo: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, OfflineModeIsEnabled) or status in (400, 401, 403, 404, 409):
            raise WrongInput(
                f"`repo` (={repo}) must be a repository that you may write to; got: {reason}; log in with "
                "hf auth login, or set HF_TOKEN"
            ) from error
        raise CannotContinue(f"{repo} could not be written ({reason}); start the same command again later") from error
