import pytest

from distsae.recipes.embedded_corpus import documents


@pytest.fixture(scope="package")
def corpus():
    """The embedded corpus of the Python that runs the tests; reading it takes seconds."""
    return list(documents())
