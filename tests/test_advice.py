"""Advice in errors works: every option, key and command that an error names exists where that error is raised."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distsae.cli.checkpoint import CheckpointInfoConfig, ListConfig, VerifyConfig
from distsae.cli.key_values import key_types
from distsae.cli.main import COMMANDS, main
from distsae.cli.store import MergeConfig, PathConfig, StoreInfoConfig
from distsae.cli.store_import import StoreImportConfig
from distsae.cli.train_arguments import TrainArguments
from distsae.evaluation.config import EvaluateConfig
from distsae.export import ExportConfig, ImportConfig
from distsae.launching import SuperviseConfig
from distsae.planning.cluster import PlanConfig
from distsae.producer import ProduceConfig
from distsae.recipes import DemoConfig
from distsae.recipes.check import CheckConfig
from distsae.recipes.stream import StreamConfig
from distsae.recipes.study import StudyConfig
from distsae.recipes.study.config import GridConfig
from distsae.reporting import ReportConfig
from distsae.reporting.explanations import ExplainConfig
from distsae.reporting.features import FeaturesConfig

ROOT = Path(__file__).parents[1]
CONFIGS = {
    "produce": (ProduceConfig,),
    "train": (TrainArguments,),
    "evaluate": (EvaluateConfig,),
    "export": (ExportConfig,),
    "import": (ImportConfig,),
    "study": (StudyConfig, GridConfig),
    "stream": (StreamConfig,),
    "supervise": (SuperviseConfig,),
    "check": (CheckConfig,),
    "plan": (PlanConfig,),
    "demo": (DemoConfig,),
    "features": (FeaturesConfig,),
    "explain": (ExplainConfig,),
    "report": (ReportConfig,),
    "store": (StoreInfoConfig, PathConfig, MergeConfig, StoreImportConfig),
    "checkpoint": (ListConfig, CheckpointInfoConfig, VerifyConfig),
}
ACTIONS = {"store": "info status verify measure collect merge import", "checkpoint": "list info verify"}

RAISED_IN = {
    "activation_files": "store",
    "batches": "train",
    "checkpoint": "train checkpoint",
    "cli/train.py": "train",
    "cli/checkpoint.py": "checkpoint",
    "evaluation": "evaluate",
    "export/config.py": "export",
    "export/export.py": "export",
    "export/importing.py": "import",
    "language_model": "produce evaluate features",
    "losses": "train",
    "model/formats": "export",
    "planning/cluster": "plan",
    "planning": "train",
    "producer": "produce",
    "reporting/explanations": "explain",
    "reporting/features": "features",
    "recipes/check": "check",
    "recipes/demo.py": "demo",
    "recipes/demo_stages.py": "demo",
    "recipes/stream": "stream",
    "recipes/study": "study",
    "text": "produce evaluate",
    "training": "train",
    "launching": "supervise",
}
"""Commands in which the errors of a package or file are raised; an option must exist in each of them."""

RAISED_IN_ONE = {
    "language_model/model_shape.py": "plan",
    "language_model/stored_activations.py": "produce evaluate",
    "store/shared_text.py": "store",
    "cli/store_import.py": "store",
    "store/own_store.py": "store",
    "store/rounding.py": "produce store",
    "store/row_source.py": "store",
    "text/bad_records.py": "produce",  # only a producer gives a choice
    "text/contexts.py": "produce",  # a store's contexts have what they need: evaluation packs text as they were packed
}
ANYWHERE = "train produce evaluate study"
"""Where options of errors of the lower floors must exist: in one of these commands at least."""

OF_OTHERS = {
    "--config_file", "--num_processes", "--num_machines", "--machine_rank", "--main_process_ip", "--main_process_port",
    "--help",
}  # fmt: skip
"""Options of accelerate, and those of every command."""

OF_PYTHON = {"x", "save"}
"""Names of arguments and functions in errors that only a caller in Python can meet."""


def _words(node: ast.expr) -> str:
    """Returns the literal text of an expression; a value that is put in leaves `{}`."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "{}"
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_words, node.values))
    if isinstance(node, ast.BinOp):
        return _words(node.left) + _words(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_words(node.body)} {_words(node.orelse)}"
    return "{}"


def _messages() -> Iterator[tuple[str, int, str]]:
    """Yields file, line and text of every message, and of the parts of messages that are put together elsewhere."""
    for path in sorted((ROOT / "distsae").rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docstrings | inside:
                text = _words(node)
                if "\n" in text:  # examples, which have a test of their own
                    continue
                if re.search(r"; (use|set|give|run|add|leave|choose|start|produce)\b|; got |\bmust\b", text) or (
                    " --" in text and " " in text.strip()
                ):
                    yield str(path.relative_to(ROOT / "distsae")), node.lineno, text


def _commands_of(file: str) -> list[str]:
    if file in RAISED_IN_ONE:
        return RAISED_IN_ONE[file].split()
    found = [commands for prefix, commands in RAISED_IN.items() if file == prefix or file.startswith(f"{prefix}/")]
    return found[0].split() if found else []


def _keys(command: str) -> set[str]:
    return {key for config in CONFIGS[command] for key in key_types(config)}


def _has(command: str, option: str) -> bool:
    name = option.removeprefix("--")
    return name in _keys(command) or (name.startswith("no_") and name.removeprefix("no_") in _keys(command))


MESSAGES = [message for message in _messages() if not message[0].startswith(("recipes/embedded", "recipes/train"))]


def test_messages_are_found():
    files = {file for file, _, _ in MESSAGES}
    assert len(MESSAGES) > 300
    assert {"store/rounding.py", "text/text_field.py", "training/config.py", "launching/launcher.py"} <= files
    assert any("--no_prepend_bos" in text for _, _, text in MESSAGES)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_configs_here_are_those_of_the_commands(command):
    source = (ROOT / "distsae" / "cli" / f"{command}.py").read_text()
    assert all(config.__name__ in source for config in CONFIGS[command] if config is not GridConfig)
    named = ACTIONS.get(command, "").split()
    assert all(f'"{action}": Action(' in source for action in named)


def test_every_option_that_is_named_exists_where_it_is_named():
    wrong = []
    for file, line, text in MESSAGES:
        if file.startswith("cli/") and file not in RAISED_IN:
            continue  # these are of any command, and put in the option that was given
        for command, words in re.findall(r"`distsae ([a-z]+) ([^`]*)`", text):  # a whole command has its own options
            wrong += [
                f"{file}:{line}: {option} in {command}: {text}"
                for option in re.findall(r"(?<![\w-])--[a-z][\w.]*", re.split(r"(?:^| )-- ", words)[0])
                if not _has(command, option)
            ]
        for option in re.findall(r"(?<![\w-])--[a-z][\w.]*", re.sub(r"`distsae [^`]*`", "", text)):
            commands = _commands_of(file)
            known = [_has(command, option) for command in commands or ANYWHERE.split()]
            if option not in OF_OTHERS and not (all(known) if commands else any(known)):
                wrong.append(f"{file}:{line}: {option} in {commands or ANYWHERE}: {text}")
    assert wrong == []


def test_every_command_that_is_named_exists():
    wrong = []
    for file, line, text in MESSAGES:
        for command, action in re.findall(r"`(?:python -m )?distsae ([a-z]+)(?: ([a-z]+))?", text):
            if command not in COMMANDS or (action and command in ACTIONS and action not in ACTIONS[command].split()):
                wrong.append(f"{file}:{line}: {command} {action}")
    assert wrong == []


def test_every_key_that_is_advised_exists():
    """Keys in backticks behind the last `; `, where an error says what to do."""
    everywhere = {key for command in CONFIGS for key in _keys(command)} | {"options", "peer", "name", "lr"}
    groups = {key.rpartition(".")[0] for key in everywhere}
    wrong = []
    for file, line, text in MESSAGES:
        advice = text.rpartition("; ")[2] if "; " in text else ""
        for key in re.findall(r"`([a-z][\w.]*)`", advice):
            if key not in everywhere | groups | OF_PYTHON:
                wrong.append(f"{file}:{line}: {key}: {text}")
    assert wrong == []


def test_every_file_that_is_named_exists():
    wrong = []
    for file, line, text in MESSAGES:
        for path in re.findall(r"\b(?:cluster_configs|launch|docs)/[\w.]+", text):
            if not (ROOT / path).is_file():
                wrong.append(f"{file}:{line}: {path}")
    assert wrong == []


def test_every_example_of_a_command_can_be_parsed(monkeypatch, tmp_path):
    """The advice of `--help`: each option in the examples is one of that command."""
    for command in COMMANDS:
        examples = importlib.import_module(f"distsae.cli.{command}").EXAMPLES
        for line in examples.replace("\\\n", " ").splitlines():
            match = re.search(r"distsae ([a-z]+)(.*)", line)
            if match is None or match[1] not in COMMANDS:
                continue
            for option in re.findall(r"(?<![\w-])--[a-z][\w.]*", match[2]):
                named = "train" if match[1] == "supervise" and "distsae train" in match[2] else match[1]
                known = _has(named, option) or _has(match[1], option) or option in OF_OTHERS | {"--config"}
                assert known or _has(named, option.partition(".")[0]), f"{command}: {option} in {line}"
            assert main([match[1], "--help"]) == 0
