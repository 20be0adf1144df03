#!/bin/bash
# A program that waits for a gate, and on a node that is spoilt fails at once.

printf 'start %s %s %s 0 %s %s\n' "$TASK_UUID" "$TASK_ATTEMPT" $$ \
    "${EPOCHREALTIME/[.,]/}" "$TASK_SEQUENCE" >>"$JOB_PARAMETER_WITNESS"
if [[ -v SPOILT ]]; then
    exit 1
fi
until [[ -e $JOB_PARAMETER_GATE ]] || ((SECONDS > 200)); do
    sleep 0.1
done
