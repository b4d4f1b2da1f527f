"""Which features are explained, and from whose contexts their non-activating contexts are drawn."""

from __future__ import annotations

import numpy as np

from distsae.errors import WrongInput
from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.examples import OtherContexts
from distsae.reporting.explanations.page_tables import PageTables
from distsae.seeds import numpy_generator

__all__ = ["other_contexts", "selected_features"]

_POOL_FEATURES = 1024
"""Features whose contexts the others are drawn from."""

_POOL_FILES = 16
"""Most Parquet files that they are read from."""


def selected_features(tables: PageTables, config: ExplainConfig) -> list[int]:
    """Returns the features to explain, ascending: those asked for, or random ones that fire, but not too often.

    A larger `max_features` adds to those of a smaller one.

    Raises:
        WrongInput: a feature does not exist, or fires too often, or none is left.
    """
    if config.features:
        for feature in config.features:
            if feature >= len(tables.feature):
                raise WrongInput(
                    f"`features` (={list(config.features)}) must be below the number of features; got {feature} of "
                    f"{len(tables.feature)}; give others"
                )
            if tables.density[feature] > config.max_density:
                raise WrongInput(
                    f"`features` (={list(config.features)}) must have densities up to `max_density` "
                    f"(={config.max_density}); got feature {feature} with {tables.density[feature]:.3g}, which may "
                    "fire in any context; leave it out, or give a larger --max_density"
                )
        return sorted(set(config.features))
    fitting = np.flatnonzero((tables.density > 0) & (tables.density <= config.max_density))
    if not len(fitting):
        raise WrongInput(
            f"`max_density` (={config.max_density}) must leave features to explain; got none that fires so rarely; "
            "give a larger --max_density"
        )
    order = numpy_generator(config.seed, "explanations", "features").permutation(len(fitting))
    return sorted(fitting[order[: config.max_features]].tolist())


def other_contexts(tables: PageTables, config: ExplainConfig) -> OtherContexts:
    """Returns the contexts of random features of the whole SAE, the same whatever features are explained."""
    generator = numpy_generator(config.seed, "explanations", "pool")
    files = generator.permutation(tables.files)[:_POOL_FILES]
    firing = np.flatnonzero(tables.density > 0)
    firing = firing[np.isin(tables.file_of(firing), files)]
    chosen = generator.permutation(firing)[:_POOL_FEATURES]
    return OtherContexts(list(tables.read(chosen.tolist())))
