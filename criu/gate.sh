#!/bin/sh
# CRIU runs this at each stage of a dump or restore. At the last moment before its work takes effect (all is dumped and the
# processes still exist, all is restored and none runs yet) it says so and waits for the verdict: 0 go on, anything else undo.
# The agent holds the FIFO open; if it dies, the end of file is the verdict: undo.
case $CRTOOLS_SCRIPT_ACTION in
post-dump | post-restore) ;;
*) exit 0 ;;
esac
echo reached >"$SEAMLESS_GATE/reached"
read -r verdict <"$SEAMLESS_GATE/verdict"
exit "${verdict:-1}"
