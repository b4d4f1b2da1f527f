"""Work that any number of processes share through a folder: each takes what nobody else does, and keeps what it did.

Processes need not know of each other. They may run under a launcher, or be started by hand on any machine that has the
folder. A piece of work is done once its record is there, which is published in one step; a process that is killed
leaves only its claim, which others take over (`distsae.store.Claims`). Whatever the number of processes, pieces and
their results are the same.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distsae.durable import sync
from distsae.errors import TornData, WrongInput
from distsae.store import Claims
from distsae.store.json_files import publish_json, read_json, replace_json

__all__ = ["MANIFEST", "WorkFolder"]

MANIFEST = "features.json"
"""Written last: it says what the folder holds, and that all of it is there."""

_WORK = "unfinished"
_SETTINGS = "settings.json"


class WorkFolder:
    """The folder that pages are written to, and in it, until they are finished, the folder of unfinished work.

    Args:
        out: the folder.
        settings: everything that decides what is in it, as JSON values.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out = out
        self.work = out / _WORK
        self._settings = settings

    def refuse_other_content(self) -> None:
        """Checks that the folder is new, empty, or of a command with the same settings. Nothing is made yet.

        Raises:
            WrongInput: it is not.
        """
        out = self.out
        if out.exists() and not out.is_dir():
            raise WrongInput(f"`out` (={out}) must be a folder; got a file; choose another `out`")
        found = self._found()
        if found is None:
            if out.is_dir() and any(path.name != _WORK for path in out.iterdir()):
                raise WrongInput(
                    f"`out` (={out}) must be a new folder, or one of feature pages; got one with other files, which "
                    "would be mixed with them; choose another `out`"
                )
            return
        differing = [name for name in self._settings if found.get(name) != self._settings[name]]
        if differing:
            name = differing[0]
            raise WrongInput(
                f"`out` (={out}) must be a new folder, or hold pages of the same settings; got pages with {name} "
                f"{found.get(name)}, not {self._settings[name]}; choose another `out`, or remove that folder"
            )

    def begin(self) -> bool:
        """Makes the folder unless it is there, and says what it is for; returns whether everything is done already."""
        if self.is_finished():
            self.remove_work()  # of a process that was killed after it had finished
            return True
        (self.work / "claims").mkdir(parents=True, exist_ok=True)
        publish_json(self.work / _SETTINGS, {"settings": self._settings})
        self.refuse_other_content()  # another process may have been faster, with other settings
        return False

    def is_finished(self) -> bool:
        """Returns whether everything is done."""
        return (self.out / MANIFEST).is_file()

    def path(self, name: str) -> Path:
        """Returns the path of a file of unfinished work."""
        return self.work / name

    def is_done(self, name: str) -> bool:
        """Returns whether a piece of work is done."""
        return (self.work / f"{name}.json").is_file() or self.is_finished()

    def record(self, name: str) -> dict[str, Any]:
        """Returns the record of a piece of work that is done.

        Raises:
            TornData: it is damaged; the text names it.
        """
        return read_json(self.work / f"{name}.json")

    def share(
        self,
        names: Sequence[str],
        work: Callable[[str], dict[str, Any]],
        on_done: Callable[[int], None] = lambda done: None,
        wait_seconds: float = 0.3,
    ) -> None:
        """Does pieces of work together with other processes, and returns when all of them are done.

        Args:
            names: names of the pieces, the same in every process.
            work: function that does one piece and returns its record.
            on_done: function that is called with the number of pieces that all processes together have done.
            wait_seconds: seconds between looks at what others do.
        """
        with Claims(self.work / "claims") as claims:
            while pending := [name for name in names if not self.is_done(name)]:
                on_done(len(names) - len(pending))
                mine = next((name for name in pending if self._take(claims, name)), None)
                if mine is None:
                    time.sleep(wait_seconds)
                    continue
                try:
                    if not self.is_done(mine):
                        done = work(mine)
                        if not self.is_finished():  # the last piece removes the folder of unfinished work
                            replace_json(self.work / f"{mine}.json", done)
                finally:
                    claims.release(mine)
        on_done(len(names))

    def _take(self, claims: Claims, name: str) -> bool:
        try:
            return claims.take(name)
        except FileNotFoundError:
            if self.is_finished():  # another process has just removed the folder of unfinished work
                return False
            raise

    def finish(self, facts: dict[str, Any]) -> None:
        """Says that everything is done, and removes the unfinished work."""
        sync(self.out)
        publish_json(self.out / MANIFEST, {"settings": self._settings, **facts})
        self.remove_work()

    def remove_work(self) -> None:
        """Removes the unfinished work, as far as there is any."""
        shutil.rmtree(self.work, ignore_errors=True)

    def check_digest(self, name: str, file: Path) -> None:
        """Compares a file with the `sha256` in the record of the piece of work that wrote it.

        Raises:
            TornData: it is not what was written.
        """
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != self.record(name).get("sha256"):
            raise TornData(
                f"{file} is damaged: its digest is not the one in its record; remove {self.work}, and run again"
            )

    def _found(self) -> dict[str, Any] | None:
        """Returns the settings of what is in the folder; None if there is nothing."""
        for path in (self.out / MANIFEST, self.work / _SETTINGS):
            if path.is_file():
                found = read_json(path).get("settings")
                return found if isinstance(found, dict) else {}
        return None
