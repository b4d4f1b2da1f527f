"""The folder of a run: what training leaves there, and where a run resumes."""

from distsae.training.folder.checkpoints import RunCheckpoints
from distsae.training.folder.resume import ResumePoint, find_resume_point
from distsae.training.folder.run_folder import RunFolder
from distsae.training.folder.tracking import Tracking, start_tracking
from distsae.training.folder.unit_release import UnitRelease

__all__ = [
    "ResumePoint",
    "RunCheckpoints",
    "RunFolder",
    "Tracking",
    "UnitRelease",
    "find_resume_point",
    "start_tracking",
]
