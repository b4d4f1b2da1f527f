"""Plans a training on a cluster: meshes, memory, time, exchanges, store, producers and checkpoints."""

from distsae.planning.cluster.config import PlanConfig
from distsae.planning.cluster.plan import ClusterPlan, cluster_plan
from distsae.planning.cluster.plan_json import as_json
from distsae.planning.cluster.plan_table import plan_lines

__all__ = ["ClusterPlan", "PlanConfig", "as_json", "cluster_plan", "plan_lines"]
