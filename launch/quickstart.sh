#!/usr/bin/env bash
# From a machine with Python 3.11 or newer and nothing else to the demo's report: makes .venv in the repository,
# installs distsae into it, and runs `distsae demo`. Arguments go to the demo:
#
#   launch/quickstart.sh                        report in demo/report/index.html
#   launch/quickstart.sh --out /tmp/demo --fresh
#
# It may be run again at any time: what is installed or finished is not done twice.
set -euo pipefail

# shellcheck source=launch/setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv report

# Without --out, the demo goes into the repository and not into whatever folder this was called from.
for argument in "$@"; do
    case "$argument" in
    --out | --out=* | --config | --config=* | -h | --help) exec "$VENV_PYTHON" -m distsae demo "$@" ;;
    esac
done
exec "$VENV_PYTHON" -m distsae demo --out "$REPOSITORY/demo" "$@"
