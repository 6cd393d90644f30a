/*
 * The account that the example host gives: a line for each step, with its time, and below it what the plugin asked.
 */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <time.h>

#include "services.h"

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* A duration as people read it, and the columns it takes: µ is two bytes and one column. */
static int duration(double seconds, char out[32]) {
  if (seconds < 1e-3) return snprintf(out, 32, "%.0f µs", seconds * 1e6) - 1;
  if (seconds < 1) return snprintf(out, 32, "%.1f ms", seconds * 1e3);
  return snprintf(out, 32, "%.1f s", seconds);
}

/* One line of the account: what was done, how long it took, what came back; and below it what the plugin asked. */
static void tell(app *a, const char *step, double since, const char *what) {
  char took[32];
  int columns = duration(now() - since, took);
  printf("   %-8s %s%*s%s\n", step, took, columns < 9 ? 9 - columns : 1, "", what);
  pthread_mutex_lock(&a->lock);
  if (a->trace.len) printf("              host: %s\n", a->trace.ptr);
  clear(&a->trace);
  pthread_mutex_unlock(&a->lock);
}

static void surprise(app *a, const char *what) {
  printf("   UNEXPECTED: %s\n", what);
  a->surprises++;
}

/* Tells of a step that failed, and ends its error. A failure that was not asked for is a surprise. */
static void tell_error(app *a, const char *step, double since, flowplug_error *error, int expected) {
  flowplug_str own = flowplug_error_plugin_message(error), ours = flowplug_error_message(error);
  flowplug_str shown = own.len ? own : ours;
  text line = {NULL, 0};
  const char *name = flowplug_status_name(flowplug_error_status(error));
  append(&line, name, strlen(name));
  append(&line, ": ", 2);
  append(&line, shown.ptr, shown.len);
  tell(a, step, since, line.ptr);
  if (!expected) surprise(a, "this should have worked");
  clear(&line);
  flowplug_error_free(error);
}

#endif
