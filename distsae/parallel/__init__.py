"""The device mesh and its collectives."""

from distsae.parallel.group import GroupCollective
from distsae.parallel.mesh import Mesh, MeshConfig, build_mesh

__all__ = ["GroupCollective", "Mesh", "MeshConfig", "build_mesh"]
