#!/usr/bin/env bash
# Runs the demo on a machine that has only Python 3.11 or newer: makes .venv in the repository, installs distsae into
# it, and runs `distsae demo`. Arguments are passed to the demo:
#
#   launch/quickstart.sh                        report in demo/report/index.html
#   launch/quickstart.sh --out /tmp/demo --fresh
#
# It may be run again at any time: installed packages and finished stages are not repeated.
set -euo pipefail

# shellcheck source=launch/setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv report

# Without --out, the demo is written to the repository, not to the current folder.
for argument in "$@"; do
    case "$argument" in
    --out | --out=* | --config | --config=* | -h | --help) exec "$VENV_PYTHON" -m distsae demo "$@" ;;
    esac
done
exec "$VENV_PYTHON" -m distsae demo --out "$REPOSITORY/demo" "$@"
