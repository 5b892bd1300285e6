#!/bin/sh
# Runs one LAVA job in any CI system: submits it, prints its log, waits for its end, and says what to do about it.
#
#   submit-and-wait.sh [JOB.yaml [TIMEOUT]]           default: job.yaml 1h
#
# It needs lavabus on the PATH, and a server and a user: LAVABUS_URI, LAVABUS_USERNAME and LAVABUS_TOKEN_FILE, or an
# identity of lavacli. The id goes to standard output, everything else to standard error. The exit code is lavabus's own.
# There is no loop here: lavabus itself goes on through lost connections, and never submits a job twice.
set -u

job=${1:-job.yaml}
timeout=${2:-1h}

# In the foreground it would not hear of a signal that only this shell gets, and the job would keep its board.
stopped=
trap 'stopped=yes' HUP INT TERM
lavabus run "$job" --timeout "$timeout" --cancel-on timeout,signal --tests --junit report.xml &
lavabus=$!
[ -n "$stopped" ] || wait "$lavabus"
code=$?
if [ -n "$stopped" ]; then
    # Where the whole process group got the signal, lavabus is cancelling already: a second one would cut that short.
    sleep 2
    kill -TERM "$lavabus" 2>/dev/null
    wait "$lavabus"
    code=$?
fi

case $code in
    0) say="passed" ;;
    10) say="the job is Incomplete: the line above has the cause; it may be the board and not your change" ;;
    11) say="somebody has cancelled the job on LAVA" ;;
    14) say="tests failed: they are listed above and in report.xml" ;;
    15) say="LAVA refuses $job: correct the line that is named above" ;;
    20) say="LAVA cannot be reached; if the job may have been submitted, that is said above: look before you submit again" ;;
    21) say="LAVA does not accept the user or the token: see to LAVABUS_USERNAME and LAVABUS_TOKEN_FILE" ;;
    124) say="not finished within $timeout; whether the job was cancelled is said above" ;;
    130 | 143) say="stopped by a signal; whether the job was cancelled is said above" ;;
    *) say="ended with $code: see \`lavabus --help\`" ;;
esac
echo "$job: $say" >&2
exit "$code"
