"""One static page about one run or several. The drawing libraries are imported only when a page is made."""

from distsae.reporting.config import ReportConfig
from distsae.reporting.notebook import plot
from distsae.reporting.report import report

__all__ = ["ReportConfig", "plot", "report"]
