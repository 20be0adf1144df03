/* The floor: run a command N times with K in flight, by posix_spawn and waitpid, and nothing else.
   usage: floor N K program [argument...]; prints the seconds it took. */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: floor N K program [argument...]\n");
        return 2;
    }
    long wanted = atol(argv[1]), in_flight = atol(argv[2]), started = 0, ended = 0, failed = 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (ended < wanted) {
        while (started < wanted && started - ended < in_flight) {
            pid_t pid;
            int error = posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ);
            if (error) {
                fprintf(stderr, "%s: %s\n", argv[3], strerror(error));
                return 1;
            }
            started++;
        }
        int status;
        if (waitpid(-1, &status, 0) > 0) {
            ended++;
            failed += status != 0;
        } else if (errno != EINTR) {
            return 1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.6f\n", (end.tv_sec - begin.tv_sec) + (end.tv_nsec - begin.tv_nsec) / 1e9);
    return failed ? 3 : 0;
}
