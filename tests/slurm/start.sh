#!/usr/bin/env bash
# Starts a Slurm of one node with two CPUs and two pretended GPUs on 127.0.0.1, for the tests:
#   tests/slurm/start.sh FOLDER        state, logs and pids go to FOLDER; root, slurm-wlm and munge are needed
#   tests/slurm/start.sh FOLDER slurmd starts the node's daemon again, after it was killed
# tests/slurm/stop.sh FOLDER ends it. A Slurm that is configured on this machine is left alone: nothing starts beside it.
set -euo pipefail
folder=${1:?usage: start.sh FOLDER [slurmd]}
mark="# Made by tests/slurm/start.sh"
# Only here do commands inside a job look for it: Snakemake's Slurm plugin drops SLURM_CONF there.
etc=/etc/slurm

# Waits up to 30 seconds for a command to succeed.
await() {
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "error: not ready after 30 s: $*; see $folder/log" >&2
    exit 1
}

node_is() { [[ "$(sinfo -h -o %T)" == "$1" ]]; }

# Runs a daemon beside this script and keeps its pid, for stop.sh.
background() {
    local name=$1
    shift
    setsid "$@" >"$folder/log/$name.out" 2>&1 </dev/null &
    echo $! >"$folder/run/$name.pid"
}

start_node() {
    background slurmd slurmd -D -N localhost
    await node_is idle
}

if [[ ${2:-} == slurmd ]]; then
    start_node
    exit
fi

if [[ -e $etc/slurm.conf ]] && ! grep -q "^$mark" "$etc/slurm.conf"; then
    echo "error: $etc/slurm.conf is there: a Slurm of this machine, beside which no other can run" >&2
    exit 1
fi
mkdir -p "$etc" "$folder"/{state,spool,log,run}
# All or nothing: half a cluster would block every later start.
trap 'if [[ $? != 0 ]]; then "$(dirname "$0")/stop.sh" "$folder"; fi' EXIT

# Memory and CPUs are what the file says, also on a smaller machine (config_overrides). A dead node is noticed after
# 10 seconds, and its jobs, put back into the queue, wait until their old credentials have expired, 120 seconds by default.
cat >"$etc/slurm.conf" <<CONF
$mark; tests/slurm/stop.sh removes it.
ClusterName=rkd
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/completed.txt
ReturnToService=2
MinJobAge=86400
SlurmdTimeout=10
KillWait=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.own.pid
SlurmdPidFile=$folder/run/slurmd.own.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
CONF
# A GPU needs a device of its own; any character device will do.
cat >"$etc/gres.conf" <<CONF
$mark
Name=gpu File=/dev/null
Name=gpu File=/dev/zero
CONF

if ! munge -n >/dev/null 2>&1; then
    install -d -o munge -g munge -m 755 /run/munge
    background munged munged -F --force
    await munge -n
fi
background slurmctld slurmctld -D -c
await sh -c 'scontrol ping | grep -q UP'
start_node
