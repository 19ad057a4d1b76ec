#!/usr/bin/env bash
# Ends what tests/slurm/start.sh FOLDER started, by its pids, and takes its two files out of /etc/slurm:
#   tests/slurm/stop.sh FOLDER
set -euo pipefail
folder=${1:?usage: stop.sh FOLDER}

# Without this the last jobs would outlive their cluster.
scancel --user root >/dev/null 2>&1 || true
for _ in $(seq 50); do
    if [[ -z "$(squeue -h 2>/dev/null)" ]]; then break; fi
    sleep 0.2
done

for name in slurmd slurmctld munged; do
    pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
    # A pid may have passed on to another process since then.
    if [[ "$(cat "/proc/$pid/comm" 2>/dev/null)" == "$name" ]]; then kill "$pid" || true; fi
    rm -f "$folder/run/$name.pid"
done

# With a configuration and no daemon, every start of Snakemake's Slurm plugin would wait 11 seconds for an answer.
for file in slurm.conf gres.conf; do
    if grep -qs "^# Made by tests/slurm/start.sh" "/etc/slurm/$file"; then rm "/etc/slurm/$file"; fi
done
