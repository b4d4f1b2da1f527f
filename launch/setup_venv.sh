# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: makes the repository's .venv with distsae in it. Returns at once if nothing
# has changed since the last time.
#
#   setup_venv EXTRAS     e.g. setup_venv report;  afterwards $VENV_PYTHON is the interpreter to use
#
# Environment variables: PYTHON (interpreter to build .venv from), DISTSAE_VENV (folder to use instead of .venv).

fail() {
    echo "$(basename "$0"): error: $*" >&2
    exit 1
}

# Prints the path of the first Python found that is 3.11 or newer.
find_python() {
    local candidate found=""
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
        found="$found $("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null || true)"
    done
    if [ -n "${found// /}" ]; then
        fail "Python 3.11 or newer is needed; found only$found (give another one with PYTHON=/path/to/python3.11)"
    fi
    fail "Python 3.11 or newer is needed; found none (on Debian or Ubuntu: apt install python3 python3-venv)"
}

# Prints a line that identifies what .venv is made from. If it is unchanged, there is nothing to install.
venv_stamp() {
    "$VENV_PYTHON" - "$REPOSITORY" "$1" <<'PYTHON'
import hashlib, pathlib, platform, sys

root = pathlib.Path(sys.argv[1])
content = b"".join((root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(content).hexdigest(), platform.python_version(), root, sys.argv[2])
PYTHON
}

setup_venv() {
    local extras="$1" base version stamp
    REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    local venv="${DISTSAE_VENV:-$REPOSITORY/.venv}"
    VENV_PYTHON="$venv/bin/python"

    if ! "$VENV_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        base="$(find_python)" || exit 1
        version="$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        if command -v uv >/dev/null 2>&1; then
            echo "making $venv with uv and $base"
            uv venv --quiet --clear --python "$base" "$venv" || fail "uv could not make $venv"
        else
            "$base" -c 'import venv, ensurepip' 2>/dev/null ||
                fail "$base lacks venv or ensurepip (on Debian or Ubuntu: apt install python$version-venv)"
            echo "making $venv with $base"
            "$base" -m venv --clear "$venv" ||
                fail "$base could not make $venv (on Debian or Ubuntu: apt install python$version-venv)"
        fi
    fi

    # One stamp for each set of extras, so that those of the demo and of the tests do not replace each other.
    local stamp_file="$venv/distsae-$extras.stamp"
    stamp="$(venv_stamp "$extras")" || fail "$VENV_PYTHON does not run; remove $venv and try again"
    if [ -f "$stamp_file" ] && [ "$(cat "$stamp_file")" = "$stamp" ]; then
        echo "$venv is up to date"
        return 0
    fi
    echo "installing distsae[$extras] and what it needs into $venv (a few minutes the first time)"
    if command -v uv >/dev/null 2>&1; then
        uv pip install --quiet --python "$VENV_PYTHON" -c "$REPOSITORY/constraints.txt" -e "${REPOSITORY}[$extras]" ||
            fail "uv pip install failed; its message is above"
    else
        "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 || "$VENV_PYTHON" -m ensurepip >/dev/null ||
            fail "$venv has no pip and cannot get one; remove it and try again"
        "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check \
            -c "$REPOSITORY/constraints.txt" -e "${REPOSITORY}[$extras]" ||
            fail "pip install failed; its message is above"
    fi
    echo "$stamp" >"$stamp_file"
}
