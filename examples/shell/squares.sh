#!/bin/sh
# Squares of the numbers 1 to count, one task each, in sh and curl.
#   jobtasks run squares.sh -p count=5 -c output=all
set -eu

tasks="$JOBTASKS_URL/arvados/v1/job_tasks"

call() { # METHOD ADDRESS JSON
    curl --fail --silent --show-error --output /dev/null \
        --retry 20 --retry-connrefused --retry-max-time 300 \
        --request "$1" --data "$3" \
        --header "Authorization: Bearer $ARVADOS_API_TOKEN" \
        --header "Content-Type: application/json" "$2"
}

if [ "$TASK_SEQUENCE" = 0 ]; then
    list=$(seq "${JOB_PARAMETER_COUNT:-5}" | sed 's/.*/{"parameters":{"n":&}}/' | paste -sd, -)
    call POST "$tasks" "{\"job_tasks\":[$list]}"
    call PATCH "$tasks/$TASK_UUID" '{"success":true}'
else
    n=$TASK_PARAMETER_N
    call PATCH "$tasks/$TASK_UUID" "{\"success\":true,\"output\":\"$n squared is $((n * n))\"}"
fi
