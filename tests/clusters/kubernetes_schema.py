"""What Kubernetes and JobSet take of the fields that our manifests use, as a JSON schema kept by hand.

Any other field is refused, as `kubectl apply` refuses it. Written after the API of batch/v1 (1.29 and newer) and
JobSet's v1alpha2 (0.9); the whole schemas are in the package kubernetes-validate and in JobSet's repository.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_QUANTITY = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}]}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def _fields(*required: str, **known: object) -> dict[str, Any]:
    """Returns the schema of an object with these fields and no others; all that are named first must be there."""
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


def _list(item: object) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


_RESOURCES = {"type": "object", "additionalProperties": _QUANTITY}
_VARIABLE = _fields(
    "name",
    name=_TEXT,
    value=_TEXT,
    valueFrom=_fields("fieldRef", fieldRef=_fields("fieldPath", fieldPath=_TEXT)),
)
_CONTAINER = _fields(
    "name",
    "image",
    name=_NAME,
    image=_TEXT,
    args=_list(_TEXT),
    env=_list(_VARIABLE),
    resources=_fields(requests=_RESOURCES, limits=_RESOURCES),
    volumeMounts=_list(_fields("name", "mountPath", name=_NAME, mountPath=_TEXT)),
)
_VOLUME = _fields(
    "name",
    name=_NAME,
    persistentVolumeClaim=_fields("claimName", claimName=_NAME),
    emptyDir=_fields(medium={"enum": ["", "Memory"]}, sizeLimit=_QUANTITY),
)
_EXIT_CODES = _fields(
    "operator", "values", containerName=_NAME, operator={"enum": ["In", "NotIn"]}, values=_list({"type": "integer"})
)
_POD_FAILURE = _fields(
    "action",
    action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
    onExitCodes=_EXIT_CODES,
    onPodConditions=_list(_fields("type", "status", type=_TEXT, status={"enum": ["True", "False", "Unknown"]})),
)
_POD = _fields(
    "containers",
    "restartPolicy",
    restartPolicy={"enum": ["Never"]},  # a policy for failed pods allows no other
    terminationGracePeriodSeconds=_NUMBER,
    volumes=_list(_VOLUME),
    containers=_list(_CONTAINER),
)
_JOB = _fields(
    "template",
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    completions=_NUMBER,
    parallelism=_NUMBER,
    backoffLimit=_NUMBER,
    backoffLimitPerIndex=_NUMBER,
    maxFailedIndexes=_NUMBER,
    podFailurePolicy=_fields("rules", rules=_list(_POD_FAILURE)),
    template=_fields("spec", spec=_POD),
)
_OTHER_REASONS = ["FailedIndexes", "PodFailurePolicy"]
_JOBSET_FAILURE = _fields(
    "name",
    "action",
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons=_list(
        {"enum": [f"{limit}Exceeded" for limit in ("BackoffLimit", "Deadline", "MaxFailedIndexes")] + _OTHER_REASONS}
    ),
)
_JOBSET = _fields(
    "replicatedJobs",
    failurePolicy=_fields(maxRestarts=_NUMBER, rules=_list(_JOBSET_FAILURE)),
    network=_fields(enableDNSHostnames={"type": "boolean"}),
    replicatedJobs=_list(
        _fields("name", "template", name=_NAME, replicas=_NUMBER, template=_fields("spec", spec=_JOB))
    ),
)


def _resource(version: str, kind: str, spec: object) -> dict[str, Any]:
    return _fields(
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=_fields("name", name=_NAME),
        spec=spec,
    )


JOB = _resource("batch/v1", "Job", _JOB)
JOBSET = _resource("jobset.x-k8s.io/v1alpha2", "JobSet", _JOBSET)
