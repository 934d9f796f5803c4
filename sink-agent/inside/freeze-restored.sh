#!/bin/sh
# Action script of `criu restore`: freezes the restored processes while criu still holds them, before their first instruction.
# Freezing rather than SIGSTOP: no process and no parent of one ever sees a stop. criu itself steps out of the cgroup first.
set -eu
[ "$CRTOOLS_SCRIPT_ACTION" = pre-resume ] || exit 0
cd /run/seamless-sink/cgroup
echo 0 > helper/cgroup.procs
echo "$SEAMLESS_CRIU_PID" > helper/cgroup.procs
echo 1 > "$SEAMLESS_CGROUP/cgroup.freeze"
