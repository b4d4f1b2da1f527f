import pytest

from distsae.cli.main import main
from distsae.cli.missing_packages import missing_package


@pytest.mark.parametrize(
    ("module", "package", "installed"),
    [
        ("wandb", "wandb", "wandb>=0.20"),
        ("deepspeed.ops", "deepspeed", "deepspeed>=0.18"),
        ("matplotlib.figure", "matplotlib", "matplotlib>=3.9"),
        ("google_crc32c", "google-crc32c", "google-crc32c>=1.7"),
        ("yaml", "pyyaml", "pyyaml>=6.0"),
        ("einops", "einops", "einops"),
    ],
)
def test_the_command_that_installs_it(module, package, installed):
    line = missing_package(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert line == f"the package `{package}` must be installed for this; got none; run `pip install '{installed}'`"


@pytest.mark.parametrize("name", ["distsae.nothing", "distsae", None])
def test_a_module_of_distsae_is_a_bug(name):
    assert missing_package(ModuleNotFoundError("No module", name=name)) is None


def test_a_command_without_its_package_is_one_line(capsys):
    def run(argv):
        raise ModuleNotFoundError("No module named 'obstore'", name="obstore")

    assert main(["store"], run=run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("distsae: error: the package `obstore` must be installed")

    def broken(argv):
        raise ModuleNotFoundError("No module named 'distsae.x'", name="distsae.x")

    with pytest.raises(ModuleNotFoundError):
        main(["store"], run=broken)
