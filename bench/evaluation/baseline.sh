#!/usr/bin/env bash
# The paper's way back, one step after the other: plain `criu dump`, `tar` + `lzop`, `scp`, unpack, `criu restore`, `ovs-ofctl` for the flows.
# With `floor` instead of `baseline`: dump, a copy through memory, restore, with nothing in between: what no pipeline can beat.
#
#   baseline.sh baseline|floor PLAN     PLAN is a folder that baseline.ts writes:
#     trees                 a line per process tree: its folder's name
#     TREE.dump, TREE.restore   argv of criu, separated by NUL; TREE.inherit   a line per descriptor: NUMBER PATH
#     flows-hv, flows-sink  flows of the VM's state "awake"
#     settings              variables, see below
# Prints a line per step: NAME SECONDS-SINCE-THE-EPOCH, when it has ended.
set -euo pipefail
mode=$1 plan=$2
# processes, vm_cgroup: cgroups · images, inside: where images are, here and in the VM as seen from here · cookie · hv, sink: OpenFlow
# sockets · buffer: socket of the packet buffer · scp, target: how scp gets to the VM · enter_vm · highest: PID
. "$plan/settings"
mapfile -t trees <"$plan/trees"

step() { printf '%s %s\n' "$1" "$EPOCHREALTIME"; }
# A freeze by the filter, and its end: from here on nobody else touches the processes.
wait_for_trigger() {
  until grep -q 'frozen 1' "$processes/cgroup.events"; do sleep 0.002; done
  local pid
  for pid in $(cat "$processes"/*/cgroup.procs); do
    while grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$pid/status"; do sleep 0.001; done
  done
}
freeze_trees() {
  for tree in "${trees[@]}"; do
    mkdir -p "$images/$tree"
    echo 1 >"$processes/$tree/cgroup.freeze"
    until grep -q 'frozen 1' "$processes/$tree/cgroup.events"; do sleep 0.001; done
  done
  echo 0 >"$processes/cgroup.freeze"
}
dump() {
  local argv
  mapfile -d '' -t argv <"$plan/$1.dump"
  "${argv[@]}"
}
restore() {
  local argv number path
  mapfile -d '' -t argv <"$plan/$1.restore"
  while read -r number path; do eval "exec $number<>\"\$path\""; done <"$plan/$1.inherit"
  "${argv[@]}"
}
each() { for tree in "${trees[@]}"; do "$1" "$tree"; done; }
at_once() {
  local pids=() pid
  for tree in "${trees[@]}"; do
    "$1" "$tree" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}
flip() {
  local bridge
  for bridge in hv sink; do
    ovs-ofctl -O OpenFlow14 del-flows "unix:${!bridge}" "cookie=$cookie/-1"
    ovs-ofctl -O OpenFlow14 add-flows "unix:${!bridge}" "$plan/flows-$bridge"
  done
}
# CRIU's own processes must not take the PIDs that it restores.
keep_pids_free() { "${enter_vm[@]}" sh -c 'echo "$1" >/proc/sys/kernel/ns_last_pid' sh "$highest"; }

mkdir -p "$inside"
step waiting
wait_for_trigger
step trigger
echo 0 >"$vm_cgroup/cgroup.freeze"
step resume
flip
step flip
freeze_trees
if [ "$mode" = floor ]; then
  step begin
  at_once dump
  step dump
  cp -r "$images/." "$inside/"
  step transfer
  keep_pids_free
  step ready
  at_once restore
  step restore
else
  step begin
  each dump
  step dump
  tar -C "$images" -cf - . | lzop -c >"$images.tar.lzo"
  step pack
  "${scp[@]}" "$images.tar.lzo" "$target:$inside.tar.lzo"
  step scp
  lzop -dc "$inside.tar.lzo" | tar -C "$inside" -xf -
  step unpack
  keep_pids_free
  step ready
  each restore
  step restore
fi
printf 'release\n' | socat -t 2 - "UNIX:$buffer" >/dev/null
step release
