/*
 * A host that runs a folder of plugins and follows it while it is edited.
 *
 *   folder FOLDER [CONFIG]      CONFIG: more of the plugins section, YAML or JSON, as in docs/manager.md
 *
 * It prints a line for each event, and reads a line for each thing to do, until there are no more:
 *
 *   call IDENTITY FUNCTION [PARAMS]
 *   reload IDENTITY
 *   list
 *   metrics
 */
#include <flowplug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flowplug_str text(const char *from) { return (flowplug_str){from, from ? strlen(from) : 0}; }

/* Prints what came of something, and frees it. The error is read here, not where the arguments are: those have no order. */
static int told(flowplug_status status, flowplug_bytes *result, flowplug_error **made) {
  flowplug_error *error = *made;
  if (status == FLOWPLUG_OK) {
    printf("= %.*s\n", result ? (int)result->len : 2, result ? (const char *)result->ptr : "ok");
    if (result) flowplug_bytes_free(result);
  } else {
    flowplug_str message = flowplug_error_message(error);
    printf("! %s: %.*s\n", flowplug_status_name(status), (int)message.len, message.ptr);
    flowplug_error_free(error);
    *made = NULL;
  }
  fflush(stdout);
  return status != FLOWPLUG_OK;
}

/* Events come from any thread, several at once; stdio has a lock of its own. */
static void on_event(void *data, flowplug_str json) {
  (void)data;
  printf("- %.*s\n", (int)json.len, json.ptr);
  fflush(stdout);
}

/* The next word of a line; the rest of the line if it is the last that is wanted. */
static char *word(char **line, int last) {
  char *found = *line + strspn(*line, " ");
  char *end = found + (last ? strlen(found) : strcspn(found, " "));
  *line = *end ? end + 1 : end;
  *end = '\0';
  return found;
}

static void obey(flowplug_manager *manager, char *line) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  const char *what = word(&line, 0), *identity = "", *function = "", *params = "";
  if (strcmp(what, "call") == 0) {
    identity = word(&line, 0);
    function = word(&line, 0);
    params = word(&line, 1);
    told(flowplug_manager_call(manager, text(identity), text(function), text(params), NULL, &out, &error), &out, &error);
  } else if (strcmp(what, "reload") == 0) {
    told(flowplug_manager_reload(manager, text(word(&line, 1)), NULL, text(""), NULL, &error), NULL, &error);
  } else if (strcmp(what, "list") == 0) {
    told(flowplug_manager_list(manager, &out, &error), &out, &error);
  } else if (strcmp(what, "metrics") == 0) {
    told(flowplug_manager_metrics(manager, &out, &error), &out, &error);
  } else {
    printf("! call IDENTITY FUNCTION [PARAMS], reload IDENTITY, list or metrics\n");
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: %s FOLDER [CONFIG]\n", argv[0]);
    return 2;
  }
  /* The plugins of this folder are trusted: each gets what its manifest asks for. */
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.event = on_event;
  flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
  options.config = FLOWPLUG_STR("policy: trusted");
  options.api = &api;
  flowplug_host *host = NULL;
  flowplug_manager *manager = NULL;
  flowplug_error *error = NULL;
  char config[4096];
  snprintf(config, sizeof config, "enabled: true\nsources: [{type: local, path: \"%s\"}]\n%s\n", argv[1], argc > 2 ? argv[2] : "");

  int failed = told(flowplug_host_new(&options, &host, &error), NULL, &error);
  if (!failed) failed = told(flowplug_manager_new(host, text(config), &manager, &error), NULL, &error);
  if (!failed) {
    failed = told(flowplug_manager_start(manager, NULL, &error), NULL, &error);
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\n")] = '\0';
      obey(manager, line);
    }
    failed += told(flowplug_manager_stop(manager, NULL, &error), NULL, &error);
  }
  flowplug_manager_free(manager);
  if (host) {
    failed += told(flowplug_host_close(host, NULL, &error), NULL, &error);
  }
  flowplug_host_free(host);
  return failed != 0;
}
