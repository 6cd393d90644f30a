/*
 * What every C test uses: checks, the running of tests, waiting with a bound, and calls that keep their texts until the
 * test is over. One program is one test file; it prints `ok <name>` lines and a count, and exits with 1 on any failure.
 */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <flowplug.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAYBE_UNUSED __attribute__((unused))
/* No test waits longer than this for anything that has to come. */
enum { BOUND_SECONDS = 60 };
#define MS ((uint64_t)1000000)

static int check_passed, check_failed;
static _Atomic int check_bad;
static const char *check_plugins; /* the folder of built plugins */

static MAYBE_UNUSED void check_fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  flockfile(stdout);
  printf("  %s:%d: ", file, line);
  vprintf(format, arguments);
  putchar('\n');
  funlockfile(stdout);
  va_end(arguments);
  check_bad = 1;
}

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) check_fail(__FILE__, __LINE__, "not so: %s", #condition); \
  } while (0)

#define CHECK_INT(got, want)                                                                                       \
  do {                                                                                                             \
    long long got_ = (long long)(got), want_ = (long long)(want);                                                  \
    if (got_ != want_) check_fail(__FILE__, __LINE__, "%s is %lld, expected %s (%lld)", #got, got_, #want, want_); \
  } while (0)

#define CHECK_TEXT(got, want)                                                                         \
  do {                                                                                                \
    const char *got_ = (got), *want_ = (want);                                                        \
    if (strcmp(got_, want_) != 0) check_fail(__FILE__, __LINE__, "got %s, expected %s", got_, want_); \
  } while (0)

/* `part` stands in `got`. */
#define CHECK_HAS(got, part)                                                                                       \
  do {                                                                                                             \
    const char *got_ = (got), *part_ = (part);                                                                     \
    if (!strstr(got_, part_)) check_fail(__FILE__, __LINE__, "%s: \"%s\" does not contain %s", #got, got_, part_); \
  } while (0)

/* ---- Texts that live until the test is over, so that no test has to free them ---- */

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept {
  struct kept *next;
  char text[];
} * kept;

static MAYBE_UNUSED char *keep(const char *ptr, size_t len) {
  struct kept *k = malloc(sizeof *k + len + 1);
  if (!k) abort();
  if (len) memcpy(k->text, ptr, len);
  k->text[len] = '\0';
  pthread_mutex_lock(&kept_lock);
  k->next = kept;
  kept = k;
  pthread_mutex_unlock(&kept_lock);
  return k->text;
}

__attribute__((format(printf, 1, 2))) static MAYBE_UNUSED char *format(const char *form, ...) {
  va_list arguments;
  va_start(arguments, form);
  char text[8192];
  int len = vsnprintf(text, sizeof text, form, arguments);
  va_end(arguments);
  if (len < 0 || (size_t)len >= sizeof text) abort();
  return keep(text, (size_t)len);
}

static MAYBE_UNUSED void keep_nothing(void) {
  while (kept) {
    struct kept *k = kept;
    kept = k->next;
    free(k);
  }
}

static MAYBE_UNUSED flowplug_str str(const char *text) { return (flowplug_str){text, text ? strlen(text) : 0}; }
static MAYBE_UNUSED char *keep_str(flowplug_str s) { return keep(s.ptr, s.len); }

/* ---- Running ---- */

static MAYBE_UNUSED void check_done(const char *name, const char *on) {
  printf("%s %s%s%s%s\n", check_bad ? "FAILED" : "ok", name, on ? " (" : "", on ? on : "", on ? ")" : "");
  fflush(stdout);
  if (check_bad)
    check_failed++;
  else
    check_passed++;
  check_bad = 0;
  keep_nothing();
}

#define RUN(test) (test(), check_done(#test, NULL))
#define RUN_ON(test, folder) (test(folder), check_done(#test, folder))

static MAYBE_UNUSED void check_begin(int argc, char **argv) {
  check_plugins = argc > 1 ? argv[1] : getenv("FLOWPLUG_TEST_PLUGINS");
  if (!check_plugins) {
    fprintf(stderr, "usage: %s PLUGINS_DIR (or set FLOWPLUG_TEST_PLUGINS)\n", argv[0]);
    exit(2);
  }
}

static MAYBE_UNUSED int check_end(void) {
  printf("%d passed, %d failed\n", check_passed, check_failed);
  return check_failed ? 1 : 0;
}

/* ---- Time and waiting ---- */

static MAYBE_UNUSED uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* Something that many threads may wait for: a number that only grows. */
typedef struct latch {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int count;
} latch;
#define LATCH_INIT \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

static MAYBE_UNUSED void latch_add(latch *l) {
  pthread_mutex_lock(&l->lock);
  l->count++;
  pthread_cond_broadcast(&l->changed);
  pthread_mutex_unlock(&l->lock);
}

static MAYBE_UNUSED int latch_count(latch *l) {
  pthread_mutex_lock(&l->lock);
  int count = l->count;
  pthread_mutex_unlock(&l->lock);
  return count;
}

/* Waits until it has been added to `count` times; 0, and a failed check, if that does not happen within the bound. */
static MAYBE_UNUSED int latch_wait(latch *l, int count) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += BOUND_SECONDS;
  pthread_mutex_lock(&l->lock);
  int late = 0;
  while (l->count < count && !late) late = pthread_cond_timedwait(&l->changed, &l->lock, &until) != 0;
  int reached = l->count >= count;
  pthread_mutex_unlock(&l->lock);
  if (!reached) check_fail(__FILE__, __LINE__, "waited %d s in vain", BOUND_SECONDS);
  return reached;
}

static MAYBE_UNUSED void latch_reset(latch *l) {
  pthread_mutex_lock(&l->lock);
  l->count = 0;
  pthread_mutex_unlock(&l->lock);
}

#endif
