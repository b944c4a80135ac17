/* Several threads run sessions of a plan in which each task of a step adds up what all tasks of the step before it have left:
 * a task that runs twice, not at all, or before its step may begin, makes another sum, and a data race for whoever looks. */

#include "program.c"

#include <stdio.h>

enum { CALLERS = 3, STEPS = 12, WIDEST = 16, RUNS = 60 };

typedef struct {
    irc_session *session;
    int64_t cells[(STEPS + 1) * WIDEST];
    int32_t status;
    int wrong;
} caller;

static void add_up(int32_t task, void *before, void *after) {
    const int64_t *in = before;
    int64_t sum = task;
    for (int i = 0; i < WIDEST; i++)
        sum += in[i];
    if (task % 5 == 3)
        sched_yield();
    ((int64_t *)after)[task] += sum % 1000003;
}

static void add_up_slowly(int32_t task, void *before, void *after) {
    usleep(1500); /* longer than workers are patient */
    add_up(task, before, after);
}

static void complain(int32_t task, void *status) {
    if (task == 2)
        *(int32_t *)status = 7;
}

static int tasks_of(int step) { return step % 4 == 3 ? 1 : step % WIDEST + 1; }

static void expect(int64_t *cells) {
    memset(cells, 0, sizeof(int64_t) * (STEPS + 1) * WIDEST);
    for (int step = 0; step < STEPS; step++)
        for (int task = 0; task < tasks_of(step); task++)
            add_up(task, cells + step * WIDEST, cells + (step + 1) * WIDEST);
}

static void *run_often(void *argument) {
    caller *own = argument;
    int64_t mine[(STEPS + 1) * WIDEST];
    expect(mine);
    for (int run = 0; run < RUNS; run++) {
        memset(own->cells, 0, sizeof own->cells);
        char *bases[] = {(char *)own->cells, NULL, (char *)&own->status};
        uint64_t times[STEPS];
        own->wrong += irc_run(own->session, bases, run % 2 ? times : NULL) != 0;
        own->wrong += memcmp(own->cells, mine, sizeof mine) != 0;
        if (run % 7 == 0)
            usleep(300); /* longer than workers spin */
    }
    return NULL;
}

static irc_session *open_sums(int threads) {
    irc_step steps[STEPS];
    irc_argument arguments[2 * STEPS];
    for (int i = 0; i < STEPS; i++) {
        void *kernel = i == 7 ? (void *)add_up_slowly : (void *)add_up;
        steps[i] = (irc_step){kernel, tasks_of(i), 2, 2 * i, 0};
        arguments[2 * i] = (irc_argument){0, (int64_t)sizeof(int64_t) * WIDEST * i};
        arguments[2 * i + 1] = (irc_argument){0, (int64_t)sizeof(int64_t) * WIDEST * (i + 1)};
    }
    return irc_open(steps, STEPS, arguments, threads);
}

static int sums(int threads) {
    static caller callers[CALLERS];
    pthread_t running[CALLERS];
    irc_session *session = open_sums(threads);
    int wrong = session == NULL;
    for (int i = 0; i < CALLERS; i++) {
        callers[i].session = session;
        callers[i].wrong = 0;
        pthread_create(&running[i], NULL, run_often, &callers[i]);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(running[i], NULL);
        wrong += callers[i].wrong;
    }
    irc_close(session);
    return wrong;
}

static int complaints(int threads) {
    int64_t cells[2 * WIDEST] = {0};
    int32_t status = 0;
    char *bases[] = {(char *)cells, NULL, (char *)&status};
    irc_step steps[] = {
        {(void *)complain, 2, 1, 0, 0}, /* it has no task 2 */
        {(void *)complain, 4, 1, 0, 0},
        {(void *)add_up, 4, 2, 1, 0},
    };
    irc_argument arguments[] = {{2, 0}, {0, 0}, {0, sizeof(int64_t) * WIDEST}};
    irc_session *session = irc_open(steps, 3, arguments, threads);
    int wrong = irc_run(session, bases, NULL) != 2; /* the second step */
    wrong += irc_run(session, bases, NULL) != 2;
    wrong += cells[WIDEST + 1] != 0; /* what comes behind it is not run */
    irc_close(session);
    return wrong;
}

static int nonsense(void) {
    irc_step too_many = {(void *)add_up, 1, 25, 0, 0}, none = {(void *)add_up, 1, 0, 0, 0}, nothing = {NULL, 1, 1, 0, 0};
    irc_argument arguments[25] = {{0, 0}};
    return irc_open(&too_many, 1, arguments, 1) || irc_open(&none, 1, arguments, 1) || irc_open(&nothing, 1, arguments, 1);
}

int main(void) {
    int threads[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        int wrong = sums(threads[i]), others = complaints(threads[i]);
        if (wrong || others || nonsense()) {
            printf("with %d threads: %d wrong runs, %d wrong complaints\n", threads[i], wrong, others);
            return 1;
        }
    }
    return 0;
}
