#!/bin/bash
# A task that says no more than that it ran, and that it succeeded, with as little as possible:
# thousands of them and their deaths fit into a test. One with a play, and the seed, is an actor.

if [[ $TASK_SEQUENCE == 0 || -v TASK_PARAMETER_ATTEMPTS ]]; then
    exec "${BASH_SOURCE%/*}/actor.py"
fi

trap '' PIPE

note() {
    printf '%s %s %s %s 0 %s %s\n' "$1" "$TASK_UUID" "$TASK_ATTEMPT" $$ \
        "${EPOCHREALTIME/[.,]/}" "$TASK_SEQUENCE" >>"$JOB_PARAMETER_WITNESS"
}

body="{\"success\": true, \"output\": \"$TASK_UUID $TASK_ATTEMPT\"}"
request="PATCH /arvados/v1/job_tasks/$TASK_UUID HTTP/1.1
Host: $ARVADOS_API_HOST
Authorization: Bearer $ARVADOS_API_TOKEN
Connection: close
Content-Length: ${#body}

"
request="${request//$'\n'/$'\r\n'}$body"

# Sets `status` to what was answered; "" when nothing was.
exchange() {
    status=
    {
        printf '%s' "$request" >&3
        read -r _ status _ <&3
    } 2>/dev/null 3<>"/dev/tcp/${ARVADOS_API_HOST/://}"
}

note start
until exchange && [[ $status == 200 || $status == 403 ]] || ((SECONDS > 60)); do
    sleep 0.05
done
if [[ $status == 200 ]]; then
    note said
else
    note refused
fi
