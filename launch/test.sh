#!/usr/bin/env bash
# Runs the tests in the repository's .venv, which it makes if need be. Arguments go to pytest:
#
#   launch/test.sh                         all but the heavy ones
#   launch/test.sh -m heavy                the minutes-long ones
#   launch/test.sh tests/store -k commit
set -euo pipefail

# shellcheck source=launch/setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv test

cd "$REPOSITORY"
exec "$VENV_PYTHON" -m pytest "$@"
