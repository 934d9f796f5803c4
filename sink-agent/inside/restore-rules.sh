#!/bin/sh
# Puts rules into the packet filter of a sink's network. Usage: restore-rules.sh RULES-OF-IPV4 RULES-OF-IPV6 [--noflush: all else in there stays]
set -eu
printf %s "$1" | iptables-restore --wait ${3:+"$3"}
printf %s "$2" | ip6tables-restore --wait ${3:+"$3"}
