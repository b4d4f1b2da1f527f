#!/usr/bin/env bash
# Runs the tests in the repository's .venv, which it makes if there is none. Arguments are passed to pytest:
#
#   launch/test.sh                         all tests but the heavy ones, two files at a time
#   launch/test.sh -m heavy                the heavy ones, which take minutes each
#   launch/test.sh tests/store -k commit
#   launch/test.sh -n 2 --dist loadfile tests/store
set -euo pipefail

# shellcheck source=launch/setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv test

cd "$REPOSITORY"
if [ $# -eq 0 ]; then
    # The tests of a file stay together: they share runs and stores.
    set -- --numprocesses 2 --dist loadfile --no-loadscope-reorder
    # Threads that have nothing to do sleep instead of spinning, and leave the core to the other file.
    export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
fi
exec "$VENV_PYTHON" -m pytest "$@"
