#!/bin/sh
# Puts rules into the packet filter of a sink's network; all else in there stays. Usage: restore-rules.sh RULES-OF-IPV4 RULES-OF-IPV6
set -eu
printf %s "$1" | iptables-restore --wait --noflush
printf %s "$2" | ip6tables-restore --wait --noflush
