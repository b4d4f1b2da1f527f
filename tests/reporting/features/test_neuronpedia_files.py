import gzip
import json

from distsae.reporting.features.neuronpedia_files import NeuronpediaFiles
from tests.reporting.features.samples import FACTS, HOSTILE, Words, page, tree


def _lines(path):
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line) for line in text.splitlines()]


def _written(folder):
    files = NeuronpediaFiles(folder, Words(HOSTILE), FACTS)
    files.write(0, [page(0, count=0), page(1)])
    files.write(1, [page(2)])
    files.finish([])
    return folder / "neuronpedia" / "tiny" / "0-run-1-x"


def test_the_layout(tmp_path):
    source = _written(tmp_path)
    assert sorted(tree(tmp_path / "neuronpedia")) == sorted(
        f"tiny/0-run-1-x/{name}"
        for name in (
            *(f"{kind}/batch-{n}.jsonl.gz" for kind in ("features", "activations") for n in range(2)),
            *(f"{kind}.jsonl" for kind in ("release", "model", "sourceset", "source")),
        )
    )
    (described,) = _lines(source / "source.jsonl")
    assert (described["id"], described["modelId"], described["setName"]) == ("0-run-1-x", "tiny", "run-1-x")
    assert (described["num_prompts"], described["num_tokens_in_prompt"]) == (5, 8)
    assert _lines(source / "sourceset.jsonl")[0]["name"] == _lines(source / "release.jsonl")[0]["name"] == "run-1-x"
    assert _lines(source / "model.jsonl")[0]["id"] == "tiny"


def test_features_and_activations(tmp_path):
    source = _written(tmp_path)
    features = _lines(source / "features" / "batch-0.jsonl.gz")
    assert [(one["index"], one["layer"], one["maxActApprox"]) for one in features] == [
        ("0", "0-run-1-x", 0.0),
        ("1", "0-run-1-x", 4.123),
    ]
    assert (features[1]["topkCosSimIndices"], features[1]["topkCosSimValues"]) == ([1, 2], [0.75, 0.5])
    activations = _lines(source / "activations" / "batch-0.jsonl.gz")
    assert {one["index"] for one in activations} == {"1"}
    assert len({one["id"] for one in activations}) == len(activations) == 4
    first = activations[0]
    assert (first["maxValue"], first["maxValueTokenIndex"], first["minValue"]) == (4.123, 2, 0.0)
    assert first["tokens"] == [HOSTILE[token] for token in (0, 1, 3, 4)]


def test_the_same_pages_give_the_same_bytes(tmp_path):
    _written(tmp_path / "a"), _written(tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
