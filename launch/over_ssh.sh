#!/usr/bin/env bash
# Runs one training on several machines that have ssh and no scheduler:
#
#   HOSTS="gpu1 gpu2" launch/over_ssh.sh --store /shared/stores/gpt2 --out /shared/runs/mc --sae.d_sae 1048576 \
#       --mesh.data 2 --mesh.feature 8
#   HOSTS="me@gpu1 me@gpu2" SSH="ssh -p 2222" launch/over_ssh.sh --config train.yaml --mesh.data 2 --mesh.feature 8
#
# ssh must log in to every host without asking. This folder, the Python in DISTSAE_PYTHON, the store and the run folder
# must have the same paths on all of them. mesh.data * mesh.feature must equal hosts * GPUS_PER_NODE. The first host is
# the main one: the others must find it by the name given here, or by MAIN_ADDRESS.
#
# Events (docs/clusters.md, "Machines without a scheduler"):
#   - a process crashes, or a host is lost: the others end, at the latest WAIT (120) seconds later; then all of them are
#     started again on another port after PAUSE (10) seconds, at most RESTARTS (3) times;
#   - Ctrl-C, SIGTERM, SIGUSR1 or a closed terminal: all hosts stop after a checkpoint, and the code is 75;
#   - this script is killed, or its connection breaks: the same, since each host watches its connection;
#   - wrong input (2) or a diverged training (3): ends with that code.
set -euo pipefail

: "${HOSTS:?names of the machines must be given: HOSTS=\"gpu1 gpu2\"}"
: "${SSH:=ssh -o BatchMode=yes -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o ConnectTimeout=30}"
: "${DISTSAE_REPOSITORY:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${DISTSAE_PYTHON:=$DISTSAE_REPOSITORY/.venv/bin/python}"
: "${CLUSTER_CONFIG:=$DISTSAE_REPOSITORY/cluster_configs/multinode.yaml}"
: "${GPUS_PER_NODE:=8}"
: "${MAIN_PORT:=29500}"
: "${RESTARTS:=3}"
: "${PAUSE:=10}"
: "${GRACE:=240}"       # seconds to stop after a signal
: "${WAIT:=120}"        # seconds for the other hosts to end after the first one that failed
: "${SEND:=OMP_NUM_THREADS ACCELERATE_USE_CPU GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME NCCL_DEBUG HF_HOME HF_HUB_OFFLINE}"

read -r -a hosts <<<"$HOSTS"
read -r -a ssh_words <<<"$SSH"
: "${MAIN_ADDRESS:=${hosts[0]##*@}}"

# What a host runs. It is told to stop by a line on its standard input, which also ends when the connection does.
# shellcheck disable=SC2016  # the variables are those of the host
on_host='
"$@" </dev/null &
training=$!
{
    read -r word || word=stop
    if [ "$word" = kill ]; then kill -KILL "$training"; else kill -TERM "$training"; fi
} <&3 2>/dev/null &
listener=$!
code=0
wait "$training" || code=$?
kill "$listener" 2>/dev/null
exit "$code"
'

pipes="$(mktemp -d)"
trap 'rm -rf "$pipes"' EXIT
asked="" lines=() started=()

# Says a word to all hosts; those that have ended do not hear it.
tell() {
    local line
    for line in "${lines[@]}"; do echo "$1" >&"$line"; done
}
stop() {
    if [ -z "$asked" ]; then echo "over_ssh: $1: asking all hosts to stop" >&2; fi
    asked="$1"
    tell stop
}
for signal in USR1 TERM INT HUP; do
    # shellcheck disable=SC2064  # the name is that of now
    trap "stop $signal" "$signal"
done

start_all() {
    local rank host line port=$((MAIN_PORT + $1)) name
    shift
    lines=() started=()
    for rank in "${!hosts[@]}"; do
        host="${hosts[$rank]}"
        local command=(env)
        for name in $SEND; do
            if [ -n "${!name+set}" ]; then command+=("$name=${!name}"); fi
        done
        command+=("$DISTSAE_PYTHON" -m distsae supervise --restarts 0 --grace "$GRACE" -- --config_file "$CLUSTER_CONFIG"
            --num_machines "${#hosts[@]}" --num_processes $((${#hosts[@]} * GPUS_PER_NODE)) --machine_rank "$rank"
            --main_process_ip "$MAIN_ADDRESS" --main_process_port "$port" -m distsae train "$@")
        mkfifo "$pipes/$port-$rank"
        exec {line}<>"$pipes/$port-$rank"
        lines+=("$line")
        # In a session of its own, so that a Ctrl-C reaches this script alone. Only this script may hold the writing ends:
        # then a host hears of it when this script is killed.
        (
            for line in "${lines[@]}"; do exec {line}>&-; done
            exec setsid "${ssh_words[@]}" "$host" \
                "cd $(printf %q "$PWD") && exec bash -c $(printf %q "$on_host") bash $(printf '%q ' "${command[@]}") 3<&0"
        ) <"$pipes/$port-$rank" &
        started+=($!)
    done
}

# Waits for all hosts and sets `code`: 2 or 3 if one has it, else the first failure's, 75 if one stopped as asked.
wait_for_all() {
    local rank host first="" ended=() deadline="" left="${#hosts[@]}" told="" now status
    code=0
    while [ "$left" -gt 0 ]; do
        for rank in "${!started[@]}"; do
            if [ -n "${ended[$rank]:-}" ] || kill -0 "${started[$rank]}" 2>/dev/null; then continue; fi
            status=0
            wait "${started[$rank]}" || status=$?
            ended[rank]="$status" left=$((left - 1)) host="${hosts[$rank]}"
            if [ "$status" -eq 255 ]; then echo "over_ssh: the connection to $host is lost, or was not made" >&2; fi
            if [ "$status" -ne 0 ]; then
                : "${first:=$status}" "${deadline:=$((SECONDS + WAIT))}"
                case "$status" in
                2 | 3) code="$status" ;;
                75) if [ "$code" -ne 2 ] && [ "$code" -ne 3 ]; then code=75; fi ;;
                esac
            fi
        done
        now="$SECONDS"
        if [ "$left" -gt 0 ] && [ -n "$deadline" ] && [ -z "$told" ] && [ "$now" -ge "$deadline" ] && [ -z "$asked" ]; then
            echo "over_ssh: $left of ${#hosts[@]} hosts have not ended $WAIT s after the first one: killing them" >&2
            told=yes
            tell kill
        fi
        if [ "$left" -gt 0 ]; then sleep 0.5 || true; fi
    done
    if [ "$code" -eq 0 ] && [ -n "$first" ]; then code="$first"; fi
    for line in "${lines[@]}"; do exec {line}>&-; done
}

try=0
while :; do
    start_all "$try" "$@"
    if [ -n "$asked" ]; then tell stop; fi # the signal came while they were being started
    wait_for_all
    case "$code" in
    0 | 2 | 3) exit "$code" ;; # done; wrong input or diverged, which another try would not change
    esac
    if [ -n "$asked" ]; then
        echo "over_ssh: stopped; the same command goes on from the newest checkpoint" >&2
        exit 75
    fi
    if [ "$try" -ge "$RESTARTS" ]; then
        echo "over_ssh: try $((try + 1)) of $((RESTARTS + 1)) ended with $code: given up" >&2
        exit "$code"
    fi
    echo "over_ssh: try $((try + 1)) of $((RESTARTS + 1)) ended with $code: starting again in $PAUSE s" >&2
    try=$((try + 1))
    sleep "$PAUSE" &
    wait $! || true # a signal ends the pause early
    if [ -n "$asked" ]; then exit 75; fi
done
