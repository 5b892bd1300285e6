#!/bin/sh
# Submits job.yaml, waits for its event "flashed …", does something while the job goes on, and waits for its end.
set -u

id=$(lavabus submit "${1:-job.yaml}") || exit

# An event that came before this line counts too. Exit code 12: the job is over and had no such event.
lavabus wait event --job "$id" --message '~^flashed' --timeout 30m || exit

echo "job $id has flashed: now measure its power, start the load from outside, …"

lavabus wait job "$id" --timeout 1h
