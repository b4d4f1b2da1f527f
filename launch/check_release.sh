#!/usr/bin/env bash
# Builds wheel and sdist, looks at what is in them, installs the wheel into a new environment, and runs it there: the
# commands' help, a small demo (text to report), and some tests of the sdist against the installed package.
#
#   launch/check_release.sh                      with the dependencies of constraints.txt
#   launch/check_release.sh --lowest             with the lowest versions that pyproject.toml allows
#   PYTHON=python3.13 launch/check_release.sh    with another Python
#   launch/check_release.sh --demo               the whole demo instead of the small one
#   launch/check_release.sh --only_build         builds and looks, and installs nothing
#
# Environment variables: PYTHON (python3), FOLDER (a new one, which is removed at the end), TESTS (files of tests/ to
# run, in one word). It takes some ten minutes, and 3 to 8 GB, by the torch that pip finds.
set -euo pipefail

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-python3}"
TESTS="${TESTS:-tests/allocation/test_mutual_selector.py tests/store/test_store.py tests/store/test_cross_reading.py \
tests/checkpoint/test_saving.py tests/model/test_sae_saving.py tests/end_to_end/test_older_versions.py}"
DEMO=(--max_rows 20000 --d_sae 256 --k 8 --steps 30 --batch_tokens 1024)
versions=tested
only_build=false
for argument in "$@"; do
    case "$argument" in
    --lowest) versions=lowest ;;
    --demo) DEMO=() ;;
    --only_build) only_build=true ;;
    *)
        echo "check_release.sh: error: unknown argument $argument; use --lowest, --demo or --only_build" >&2
        exit 2
        ;;
    esac
done

if [ -z "${FOLDER:-}" ]; then
    FOLDER="$(mktemp -d)"
    trap 'rm -rf "$FOLDER"' EXIT
fi
mkdir -p "$FOLDER"
FOLDER="$(cd "$FOLDER" && pwd)"

echo "== build"
"$PYTHON" -m venv --clear "$FOLDER/build"
"$FOLDER/build/bin/python" -m pip install --quiet --disable-pip-version-check build
rm -rf "$FOLDER/dist"
"$FOLDER/build/bin/python" -m build --outdir "$FOLDER/dist" "$REPOSITORY" >"$FOLDER/build.log" 2>&1 ||
    { tail -n 20 "$FOLDER/build.log" >&2; exit 1; }

echo "== contents"
"$PYTHON" - "$REPOSITORY" "$FOLDER/dist" <<'PYTHON'
import pathlib, subprocess, sys, tarfile, zipfile

root, dist = map(pathlib.Path, sys.argv[1:])
tracked = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
tracked = [name for name in tracked if (root / name).is_file()]
(wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
in_sdist = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
wanted = {name for name in tracked if name.startswith("distsae/")}
faults = [f"the wheel lacks {name}" for name in sorted(wanted - in_wheel)]
faults += [f"the wheel has {name}" for name in sorted(in_wheel - wanted)]
faults += [f"the sdist lacks {name}" for name in sorted(set(tracked) - in_sdist)]
print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, {len(in_wheel)} files")
print(f"{sdist.name}: {sdist.stat().st_size:,} bytes, {len(in_sdist)} files")
sys.exit("\n".join(faults) or 0)
PYTHON
if "$only_build"; then exit 0; fi

echo "== install, dependencies: $versions"
constraints="$REPOSITORY/constraints.txt"
if [ "$versions" = lowest ]; then
    constraints="$FOLDER/lowest.txt"
    "$PYTHON" - "$REPOSITORY/pyproject.toml" >"$constraints" <<'PYTHON'
import re, sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
needed = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
for name, version in (match.groups() for line in needed if (match := re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line))):
    print(f"{name}=={version}")
PYTHON
fi
"$PYTHON" -m venv --clear "$FOLDER/venv"
wheel="$(echo "$FOLDER"/dist/*.whl)"
"$FOLDER/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" \
    "distsae[report] @ file://$wheel" pytest pytest-timeout hypothesis tensorstore
"$FOLDER/venv/bin/python" --version
"$FOLDER/venv/bin/python" -m pip list --disable-pip-version-check --format freeze >"$FOLDER/installed.txt"

echo "== run"
mkdir -p "$FOLDER/empty"
cd "$FOLDER/empty"
export PATH="$FOLDER/venv/bin:$PATH" HF_HUB_OFFLINE=1
unset PYTHONPATH
distsae --version
distsae --help >help.txt
distsae train --help >train_help.txt
distsae demo --out demo "${DEMO[@]}" >demo.log 2>&1 || { tail -n 20 demo.log >&2; exit 1; }
tail -n 12 demo.log

echo "== tests of the sdist, with the installed package"
mkdir -p "$FOLDER/source"
tar -xzf "$FOLDER"/dist/*.tar.gz -C "$FOLDER/source" --strip-components 1
mv "$FOLDER/source/distsae" "$FOLDER/source/distsae.away" # so that the installed package is what is tested
cd "$FOLDER/source"
# shellcheck disable=SC2086  # TESTS is a list of files
python -m pytest -q -p no:cacheprovider $TESTS
echo "check_release.sh: all of it passed, with Python $(python -c 'import platform; print(platform.python_version())') and the $versions dependencies"
