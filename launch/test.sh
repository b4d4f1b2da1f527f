#!/usr/bin/env bash
# Runs the tests in the repository's .venv, which it makes if there is none. Arguments are passed to pytest:
#
#   launch/test.sh                         all tests but the heavy ones
#   launch/test.sh -m heavy                the heavy ones, which take minutes each
#   launch/test.sh tests/store -k commit
set -euo pipefail

# shellcheck source=launch/setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv test

cd "$REPOSITORY"
exec "$VENV_PYTHON" -m pytest "$@"
