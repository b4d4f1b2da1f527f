"""The manifests fit Kubernetes, the image fits the manifests, and what a pod runs works on machines that are two."""

from __future__ import annotations

import copy
import re
import sys

import jsonschema
import pytest
import yaml

from distsae.cli.main import main
from distsae.launching.command import checked_arguments
from tests.clusters.kubernetes_schema import JOB, JOBSET
from tests.clusters.machines import network, why_not
from tests.clusters.two_nodes import environment
from tests.end_to_end.launching import ROOT, launch
from tests.end_to_end.runs import arguments, assert_same_end

FOLDER = ROOT / "cluster_configs" / "kubernetes"
PRODUCE = yaml.safe_load((FOLDER / "produce.yaml").read_text())
TRAIN = yaml.safe_load((FOLDER / "train.yaml").read_text())
NODE = TRAIN["spec"]["replicatedJobs"][0]
WORDS = NODE["template"]["spec"]["template"]["spec"]["containers"][0]["args"]
OPTIONS = dict(word[2:].split("=", 1) for word in WORDS if "=" in word)


def test_the_manifests_have_the_fields_that_kubernetes_knows():
    assert {path.name for path in FOLDER.iterdir()} == {"produce.yaml", "train.yaml"}
    jsonschema.validate(PRODUCE, JOB)
    jsonschema.validate(TRAIN, JOBSET)
    wrong = copy.deepcopy(PRODUCE)
    wrong["spec"]["paralellism"] = 4
    with pytest.raises(jsonschema.ValidationError, match="paralellism"):
        jsonschema.validate(wrong, JOB)


def test_the_whole_schemas_of_kubernetes_agree():
    whole = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": NODE["template"]["spec"]}
    for manifest in (PRODUCE, job):
        whole.validate(manifest, "1.29", strict=True)


def test_the_numbers_of_the_producers_agree():
    spec = PRODUCE["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(variables["WORLD_SIZE"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_numbers_of_the_training_agree():
    spec = NODE["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    gpus, machines = container["resources"]["limits"]["nvidia.com/gpu"], int(OPTIONS["num_machines"])
    assert spec["completions"] == spec["parallelism"] == machines
    assert int(OPTIONS["num_processes"]) == machines * gpus
    assert int(OPTIONS["mesh.data"]) * int(OPTIONS["mesh.feature"]) == machines * gpus
    assert pod["terminationGracePeriodSeconds"] > int(OPTIONS["grace"])
    set_name, job_name = TRAIN["metadata"]["name"], NODE["name"]
    assert OPTIONS["main_process_ip"] == f"{set_name}-{job_name}-0-0.{set_name}"
    codes = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert codes == [2, 3], "the codes after which nothing is started again, as docs/clusters.md says"


def test_the_words_are_what_the_commands_take(capsys):
    command = WORDS[WORDS.index("--") + 1 :]
    assert checked_arguments([word.replace("/opt/distsae", str(ROOT)) for word in command], 0)
    for words in (PRODUCE["spec"]["template"]["spec"]["containers"][0]["args"], WORDS[WORDS.index("train") :]):
        assert main([*words, "--print_config"]) == 0
    assert "d_sae: 1048576" in capsys.readouterr().out


def test_the_image_has_what_the_manifests_name():
    text = (ROOT / "launch" / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert all((ROOT / name).exists() for name in copied)
    (folder,) = re.findall(r"^WORKDIR (.*)$", text, re.MULTILINE)
    inside = OPTIONS["config_file"].removeprefix(f"{folder}/")
    assert inside.split("/")[0] in copied
    assert (ROOT / inside).is_file()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    assert stages == ["base", "cuda", "cpu"]
    assert text.rstrip().endswith("FROM ${VARIANT}")
    assert "://" not in text, "images are named, hosts are not"
    (job,) = PRODUCE["spec"]["template"]["spec"]["containers"]
    assert f"-t {job['image']} " in text


@pytest.mark.heavy
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_what_the_pods_of_the_training_run(tiny_store, tmp_path):
    """Machines with the names of the pods run their words, with other numbers and another training."""
    out, straight = tmp_path / "run", tmp_path / "straight"
    done = launch(arguments(tiny_store, straight, steps=20))
    assert done.returncode == 0, done.stderr
    launcher = [word.replace("/opt/distsae", str(ROOT)) for word in WORDS[: WORDS.index("train")]]
    launcher[launcher.index("--num_processes=16")] = "--num_processes=2"
    main_name = OPTIONS["main_process_ip"]
    with network(tmp_path, main_name, main_name.replace("-0.", "-1."), own_name_on_loopback=False) as joined:
        pods = []
        for index, machine in enumerate(joined.machines):
            words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in launcher]
            command = [sys.executable, "-m", "distsae", *words, *arguments(tiny_store, out, steps=20)]
            pods.append(machine.start(command, tmp_path / f"said-{index}", environment()))
        assert [pod.wait(300) for pod in pods] == [0, 0], (tmp_path / "said-0").read_text()
    assert_same_end(out, straight)
