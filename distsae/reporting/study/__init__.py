"""Table and page of a study. The drawing libraries are imported only by `page` and `figures`."""

from distsae.reporting.study.results import CellResult, MemberResult, RateResult, State, StudyResult
from distsae.reporting.study.tables import as_json, as_markdown

__all__ = ["CellResult", "MemberResult", "RateResult", "State", "StudyResult", "as_json", "as_markdown"]
