import json
import math

import pyarrow.parquet as pq

from distsae.reporting.features.activation_histogram import EDGES
from distsae.reporting.features.parquet_files import SCHEMA, ParquetFiles
from tests.reporting.features.samples import FACTS, HOSTILE, Words, page


def test_a_row_a_feature(tmp_path):
    files = ParquetFiles(tmp_path, Words(HOSTILE), FACTS)
    files.write(0, [page(0), page(1, count=0)])
    files.write(1, [page(2, bins=((0, 1), (321, 2)))])
    files.finish([])
    paths = sorted((tmp_path / "parquet").iterdir())
    assert [path.name for path in paths] == ["features-000000.parquet", "features-000001.parquet"]
    table = pq.read_table(tmp_path / "parquet")
    assert table.schema.equals(SCHEMA)
    assert json.loads(pq.read_schema(paths[0]).metadata[b"distsae"])["hook"] == FACTS.hook
    rows = table.to_pylist()
    assert [row["feature"] for row in rows] == [0, 1, 2]
    assert (rows[0]["count"], rows[0]["density"], rows[0]["mean_activation"]) == (3, 0.03, 1.5)
    assert (rows[0]["top_contexts"][0]["tokens"], rows[0]["top_contexts"][0]["position"]) == (
        [HOSTILE[token] for token in (0, 1, 3, 4)],
        3,
    )
    assert rows[0]["histogram"][0] == {"low": EDGES[160], "high": EDGES[161], "count": 2}
    assert rows[0]["nearest"] == [{"feature": 1, "cosine": 0.75}, {"feature": 2, "cosine": 0.5}]
    assert rows[0]["correlated"] == [{"feature": 3, "correlation": 0.25, "rows": 4}]
    assert rows[0]["suppressed"] == [{"token_id": 1, "token": HOSTILE[1], "effect": -2.0}]
    assert (rows[1]["max_activation"], rows[1]["top_contexts"], rows[1]["histogram"]) == (0.0, [], [])
    assert (rows[2]["histogram"][0]["low"], rows[2]["histogram"][1]["high"]) == (0.0, math.inf)
