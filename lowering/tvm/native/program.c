/* A program as it runs: a flat plan of kernels, and the threads that share out their tasks.
 *
 * Law: a run allocates nothing, and what it computes does not depend on how many threads there are or on which of them takes
 * a task. A step begins when all tasks of the one before it have ended. A thread that is late finds the tasks of the step
 * that runs now, or none: it never sees anything of a step that has ended.
 *
 * An executor opens a session, runs it from any number of threads, one call after the other, and closes it when none runs.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define LINE 64       /* bytes of a cache line */
#define MOST_POINTERS 24
#define MOST_THREADS 1024
#define STATUS 2      /* the base where a kernel leaves a word other than 0 when it cannot go on */

/* A kernel and its tasks, which may run in any order and at the same time. */
typedef struct {
    void *kernel;           /* void kernel(int32_t task, void *p0, void *p1, ...) */
    int32_t tasks;
    int32_t arity;          /* pointers that the kernel takes */
    int32_t first_argument; /* where they begin among the arguments of the plan */
    int32_t reserved;
} irc_step;

/* A pointer: so many bytes behind a base, of which each run brings its own. */
typedef struct {
    int32_t base;
    int64_t offset;
} irc_argument;

/* The steps that compute so many entries of every value that counts them; those for 0 entries are done once. */
typedef struct {
    int64_t entries;
    int32_t first;
    int32_t end;
} irc_block;

/* What threads of a session share in a run. Whoever takes a task has seen the step it belongs to, and the step stays as it is
 * until that thread has counted the task as ended. */
typedef struct {
    const irc_step *step;
    void *pointers[MOST_POINTERS];
} irc_work;

typedef struct {
    int32_t step_count;
    int32_t threads;
    irc_step *steps;
    irc_argument *arguments;
    pid_t owner; /* the process that has the threads: a fork of it has none */

    pthread_mutex_t turn; /* held by the call that runs */
    pthread_t *workers;
    int32_t worker_count;
    int tried; /* whether workers were started, as far as the system let us */

    irc_work work;
    _Alignas(LINE) _Atomic uint64_t tasks;  /* first not taken << 32 | end of those not taken */
    _Alignas(LINE) _Atomic int32_t pending; /* tasks of the step that have not ended */
    _Alignas(LINE) _Atomic int32_t running; /* whether a run is under way */
    _Atomic int32_t sleepers;               /* workers that wait and have not been called; changed under `bed` */
    pthread_mutex_t bed;
    pthread_cond_t alarm;
    int32_t called; /* workers that were called and still wait; under `bed` */
    int closing;    /* under `bed` */
} irc_session;

EXPORTED irc_session *irc_open(const irc_step *, int32_t, const irc_argument *, int32_t);
EXPORTED int irc_run(irc_session *, char *const *, uint64_t *);
EXPORTED int irc_run_blocks(irc_session *, char **, const int64_t *, int32_t, const irc_block *, int32_t, int64_t, uint64_t *);
EXPORTED void irc_close(irc_session *);

/* Calling a kernel: C asks for a function type with as many parameters as there are arguments. */

#define T1 void *
#define T2 T1, void *
#define T3 T2, void *
#define T4 T3, void *
#define T5 T4, void *
#define T6 T5, void *
#define T7 T6, void *
#define T8 T7, void *
#define T9 T8, void *
#define T10 T9, void *
#define T11 T10, void *
#define T12 T11, void *
#define T13 T12, void *
#define T14 T13, void *
#define T15 T14, void *
#define T16 T15, void *
#define T17 T16, void *
#define T18 T17, void *
#define T19 T18, void *
#define T20 T19, void *
#define T21 T20, void *
#define T22 T21, void *
#define T23 T22, void *
#define T24 T23, void *
#define A1 p[0]
#define A2 A1, p[1]
#define A3 A2, p[2]
#define A4 A3, p[3]
#define A5 A4, p[4]
#define A6 A5, p[5]
#define A7 A6, p[6]
#define A8 A7, p[7]
#define A9 A8, p[8]
#define A10 A9, p[9]
#define A11 A10, p[10]
#define A12 A11, p[11]
#define A13 A12, p[12]
#define A14 A13, p[13]
#define A15 A14, p[14]
#define A16 A15, p[15]
#define A17 A16, p[16]
#define A18 A17, p[17]
#define A19 A18, p[18]
#define A20 A19, p[19]
#define A21 A20, p[20]
#define A22 A21, p[21]
#define A23 A22, p[22]
#define A24 A23, p[23]
#define CASE(n)                                                   \
    case n:                                                       \
        ((void (*)(int32_t, T##n))step->kernel)(task, A##n);      \
        return;

static void call(const irc_step *step, int32_t task, void *const *p) {
    switch (step->arity) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
        CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
        CASE(17) CASE(18) CASE(19) CASE(20) CASE(21) CASE(22) CASE(23) CASE(24)
    }
}

static void find_pointers(const irc_session *session, const irc_step *step, char *const *bases, void **pointers) {
    const irc_argument *argument = session->arguments + step->first_argument;
    for (int32_t i = 0; i < step->arity; i++)
        pointers[i] = bases[argument[i].base] + argument[i].offset;
}

static void run_alone(const irc_step *step, void *const *pointers) {
    for (int32_t task = 0; task < step->tasks; task++)
        call(step, task, pointers);
}

/* Waiting */

enum {
    SPIN = 50000,        /* nanoseconds of looking for work without giving way */
    PATIENCE = 1000000,  /* nanoseconds after which a worker sleeps even though a run is under way */
    LOOKS = 64           /* between two looks at the clock */
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int none_left(uint64_t tasks) { return (uint32_t)(tasks >> 32) >= (uint32_t)tasks; }

/* Sharing out tasks */

/* A task that nobody has taken, or -1. The caller takes them from the front and workers from the back, so that with two
 * threads each finds in its cache what it made in the step before. */
static int32_t take(irc_session *session, int from_the_front) {
    uint64_t seen = atomic_load_explicit(&session->tasks, memory_order_relaxed);
    while (!none_left(seen)) {
        uint64_t rest = from_the_front ? seen + ((uint64_t)1 << 32) : seen - 1;
        if (atomic_compare_exchange_weak_explicit(&session->tasks, &seen, rest, memory_order_acquire, memory_order_relaxed))
            return (int32_t)(from_the_front ? seen >> 32 : rest & 0xffffffffu);
    }
    return -1;
}

/* Run tasks of the step until none is left to take. */
static void work_off(irc_session *session, int from_the_front) {
    int32_t ended = 0;
    for (int32_t task; (task = take(session, from_the_front)) >= 0; ended++)
        call(session->work.step, task, session->work.pointers);
    if (ended)
        atomic_fetch_sub_explicit(&session->pending, ended, memory_order_acq_rel);
}

/* Whether there are tasks, having looked for them as long as that is decent. */
static int look_for_tasks(irc_session *session) {
    uint64_t begin = now();
    for (;;) {
        for (int look = 0; look < LOOKS; look++) {
            if (!none_left(atomic_load_explicit(&session->tasks, memory_order_relaxed)))
                return 1;
            pause_briefly();
        }
        uint64_t waited = now() - begin;
        if (waited > (atomic_load_explicit(&session->running, memory_order_relaxed) ? PATIENCE : SPIN))
            return 0;
        if (waited > SPIN)
            sched_yield();
    }
}

/* Sleep until called; whether there is anything left to do at all. The count of sleepers goes up before the tasks are looked
 * at again, and the caller looks at it after it has put tasks there: one of the two sees the other. */
static int sleep_until_called(irc_session *session) {
    pthread_mutex_lock(&session->bed);
    atomic_fetch_add(&session->sleepers, 1);
    if (!none_left(atomic_load(&session->tasks)) && !session->closing) {
        atomic_fetch_sub(&session->sleepers, 1);
        pthread_mutex_unlock(&session->bed);
        return 1;
    }
    while (session->called == 0 && !session->closing)
        pthread_cond_wait(&session->alarm, &session->bed);
    if (session->called)
        session->called--;
    int going_on = !session->closing;
    pthread_mutex_unlock(&session->bed);
    return going_on;
}

static void *serve(void *argument) {
    irc_session *session = argument;
    do
        work_off(session, 0);
    while (look_for_tasks(session) || sleep_until_called(session));
    return NULL;
}

static void call_workers(irc_session *session, int32_t wanted) {
    pthread_mutex_lock(&session->bed);
    int32_t asleep = atomic_load(&session->sleepers);
    int32_t called = wanted < asleep ? wanted : asleep;
    atomic_fetch_sub(&session->sleepers, called);
    session->called += called;
    pthread_mutex_unlock(&session->bed);
    while (called-- > 0)
        pthread_cond_signal(&session->alarm);
}

/* Signals are for the threads of the program that loaded us, except those that a kernel itself would cause. */
static void block_signals(sigset_t *before) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

/* Start the threads beside the caller's; where the system refuses one, there are fewer. */
static void start_workers(irc_session *session) {
    session->tried = 1;
    session->workers = calloc((size_t)session->threads, sizeof *session->workers);
    if (!session->workers)
        return;
    sigset_t before;
    block_signals(&before); /* a thread begins with the mask of the one that starts it */
    while (session->worker_count < session->threads - 1) {
        if (pthread_create(&session->workers[session->worker_count], NULL, serve, session))
            break;
        session->worker_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_together(irc_session *session, const irc_step *step, char *const *bases) {
    if (!session->tried)
        start_workers(session);
    session->work.step = step;
    find_pointers(session, step, bases, session->work.pointers);
    atomic_store_explicit(&session->pending, step->tasks, memory_order_relaxed);
    atomic_store(&session->tasks, (uint64_t)step->tasks);
    if (atomic_load(&session->sleepers))
        call_workers(session, step->tasks - 1);
    work_off(session, 1);
    for (int looks = 0; atomic_load_explicit(&session->pending, memory_order_acquire); looks++) {
        if (looks < LOOKS * LOOKS)
            pause_briefly();
        else
            sched_yield(); /* whoever has taken the rest may wait for this core */
    }
}

/* Running a plan */

static int run_steps(irc_session *session, int32_t first, int32_t end, char *const *bases, uint64_t *nanoseconds, int alone) {
    const volatile int32_t *status = (const volatile int32_t *)bases[STATUS];
    uint64_t begin = nanoseconds ? now() : 0;
    for (int32_t i = first; i < end; i++) {
        const irc_step *step = &session->steps[i];
        if (alone || step->tasks <= 1) {
            void *pointers[MOST_POINTERS];
            find_pointers(session, step, bases, pointers);
            run_alone(step, pointers);
        } else {
            run_together(session, step, bases);
        }
        if (nanoseconds) {
            uint64_t ended = now();
            nanoseconds[i] += ended - begin;
            begin = ended;
        }
        if (*status)
            return i + 1;
    }
    return 0;
}

/* Begin a run: whether nobody but the caller works. In a fork there is nobody else, and whoever held the mutex is not there to
 * give it back. */
static int begin_run(irc_session *session, char *const *bases, uint64_t *nanoseconds) {
    *(int32_t *)bases[STATUS] = 0;
    if (nanoseconds)
        memset(nanoseconds, 0, (size_t)session->step_count * sizeof *nanoseconds);
    if (session->threads <= 1 || getpid() != session->owner)
        return 1;
    pthread_mutex_lock(&session->turn);
    atomic_store_explicit(&session->running, 1, memory_order_relaxed);
    return 0;
}

static void end_run(irc_session *session, int alone) {
    if (alone)
        return;
    atomic_store_explicit(&session->running, 0, memory_order_relaxed);
    pthread_mutex_unlock(&session->turn);
}

/* Run the plan on these bases: 0 is the arena, 1 the constants, 2 a word of status, then inputs and outputs. 0, or the number
 * of the step, counted from 1, in which a kernel left something else in the word of status; steps behind it are not run.
 * `nanoseconds` is NULL or has room for what each step takes, all its turns together. */
int irc_run(irc_session *session, char *const *bases, uint64_t *nanoseconds) {
    int alone = begin_run(session, bases, nanoseconds);
    int failed = run_steps(session, 0, session->step_count, bases, nanoseconds, alone);
    end_run(session, alone);
    return failed;
}

/* As irc_run, with the steps of each block as often as so many entries are left; the blocks are in order, the last one is for
 * one entry. Behind each block the bases, of which there are `base_count`, move on by its entries, `strides` bytes for each. */
int irc_run_blocks(irc_session *session, char **bases, const int64_t *strides, int32_t base_count, const irc_block *blocks,
                   int32_t block_count, int64_t entries, uint64_t *nanoseconds) {
    int alone = begin_run(session, bases, nanoseconds), failed = 0;
    for (const irc_block *block = blocks; block < blocks + block_count && !failed; block++) {
        int64_t times = block->entries ? entries / block->entries : 1;
        entries -= times * block->entries;
        while (times-- > 0 && !failed) {
            failed = run_steps(session, block->first, block->end, bases, nanoseconds, alone);
            for (int32_t i = 0; i < base_count; i++)
                bases[i] += strides[i] * block->entries;
        }
    }
    end_run(session, alone);
    return failed;
}

static int is_sound(const irc_step *steps, int32_t step_count) {
    for (int32_t i = 0; i < step_count; i++)
        if (!steps[i].kernel || steps[i].tasks < 0 || steps[i].arity < 1 || steps[i].arity > MOST_POINTERS ||
            steps[i].first_argument < 0)
            return 0;
    return 1;
}

/* A session of a plan, which is copied, on so many threads, the caller's among them; NULL where a step makes no sense or there
 * is no memory. Threads start when they are first needed. */
irc_session *irc_open(const irc_step *steps, int32_t step_count, const irc_argument *arguments, int32_t threads) {
    if (step_count < 0 || !is_sound(steps, step_count))
        return NULL;
    size_t argument_count = 0;
    for (int32_t i = 0; i < step_count; i++) {
        size_t end = (size_t)steps[i].first_argument + (size_t)steps[i].arity;
        argument_count = end > argument_count ? end : argument_count;
    }
    irc_session *session = aligned_alloc(LINE, sizeof *session);
    if (!session)
        return NULL;
    memset(session, 0, sizeof *session);
    session->steps = malloc(((size_t)step_count + 1) * sizeof *steps);
    session->arguments = malloc((argument_count + 1) * sizeof *arguments);
    if (!session->steps || !session->arguments) {
        free(session->steps);
        free(session->arguments);
        free(session);
        return NULL;
    }
    if (step_count)
        memcpy(session->steps, steps, (size_t)step_count * sizeof *steps);
    if (argument_count)
        memcpy(session->arguments, arguments, argument_count * sizeof *arguments);
    session->step_count = step_count;
    session->threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    session->owner = getpid();
    pthread_mutex_init(&session->turn, NULL);
    pthread_mutex_init(&session->bed, NULL);
    pthread_cond_init(&session->alarm, NULL);
    return session;
}

/* End the threads and free the session, in which nothing may be running. */
void irc_close(irc_session *session) {
    if (!session)
        return;
    if (getpid() == session->owner) {
        pthread_mutex_lock(&session->bed);
        session->closing = 1;
        pthread_mutex_unlock(&session->bed);
        pthread_cond_broadcast(&session->alarm);
        for (int32_t i = 0; i < session->worker_count; i++)
            pthread_join(session->workers[i], NULL);
        pthread_mutex_destroy(&session->turn);
        pthread_mutex_destroy(&session->bed);
        pthread_cond_destroy(&session->alarm);
    }
    free(session->workers);
    free(session->steps);
    free(session->arguments);
    free(session);
}
