#!/usr/bin/env bash
# A real Slurm with two nodes on this machine, for tests: slurm_cluster.sh install | start FOLDER | stop FOLDER
# Debian or Ubuntu, as root. Everything but the packages and munge's socket lies in FOLDER; SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail

start() {
    local folder; folder="$(realpath "$1")"
    mkdir -p "$folder"/{state,spool-n1,spool-n2}
    if ! munge -n >/dev/null 2>&1; then
        install -d -o munge -g munge -m 755 /run/munge
        setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
        touch "$folder/started_munge"
    fi
    local host; host="$(hostname)"
    cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=15
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -i
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 60); do
        if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then return; fi
        sleep 1
    done
    echo "the nodes do not become idle: see the logs in $folder" >&2
    return 1
}

stop() {
    local folder; folder="$(realpath "$1")"
    local pid
    for pid in "$folder"/slurmd-n1.pid "$folder"/slurmd-n2.pid "$folder"/slurmctld.pid; do
        if [ -s "$pid" ]; then kill "$(cat "$pid")" || true; fi
    done
    if [ -e "$folder/started_munge" ] && [ -s /run/munge/munged.pid ]; then kill "$(cat /run/munge/munged.pid)"; fi
}

case "${1:-}" in
    install) apt-get install -y --no-install-recommends slurm-wlm munge ;;
    start) start "$2" ;;
    stop) stop "$2" ;;
    *) sed -n 2,3p "$0"; exit 2 ;;
esac
