/*
 * A folder of plugins that a test makes and edits, copies of the fixture in C, and a manager of it.
 */
#ifndef FOLDERS_H
#define FOLDERS_H
#include "plugins.h"

#include <sys/stat.h>

static char root[64]; /* the folder of the manager's plugins */

static void write_file(const char *path, const char *text, size_t len) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(text, 1, len, file) != len || fclose(file) != 0) abort();
}

static char *read_file(const char *path, size_t *len) {
  static char text[4 << 20];
  FILE *file = fopen(path, "rb");
  if (!file) abort();
  *len = fread(text, 1, sizeof text, file);
  fclose(file);
  return text;
}

/* The C fixture under this identity. */
static void put(const char *identity) {
  static const char *const files[] = {"plugin.wasm", "plugin.yaml"};
  mkdir(format("%s/%s", root, identity), 0700);
  for (int i = 0; i < 2; i++) {
    size_t len = 0;
    char *text = read_file(format("%s/c-fixture/%s", check_plugins, files[i]), &len);
    write_file(format("%s/%s/%s", root, identity, files[i]), text, len);
  }
}

static void take_away(const char *identity) {
  unlink(format("%s/%s/plugin.yaml", root, identity));
  unlink(format("%s/%s/plugin.wasm", root, identity));
  rmdir(format("%s/%s", root, identity));
}

/* ---- Its manager ---- */

static flowplug_host *host;

static flowplug_manager *manager_with(const char *more) {
  flowplug_manager *manager = NULL;
  flowplug_error *error = NULL;
  char *config = format("enabled: true\nsources: [{type: local, path: \"%s\"}]\n%s", root, more);
  flowplug_status status = flowplug_manager_new(host, str(config), &manager, &error);
  CHECK_ANSWER(answered(status, NULL, &error), FLOWPLUG_OK);
  return manager;
}

static answer manager_start(flowplug_manager *manager) {
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manager_start(manager, NULL, &error);
  return answered(status, NULL, &error);
}

static answer manager_stop(flowplug_manager *manager) {
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manager_stop(manager, NULL, &error);
  return answered(status, NULL, &error);
}

static answer manager_list(flowplug_manager *manager) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manager_list(manager, &out, &error);
  return answered(status, &out, &error);
}

static answer manager_call(flowplug_manager *manager, const char *identity, const char *params) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manager_call(manager, str(identity), FLOWPLUG_STR("command"), str(params), NULL, &out, &error);
  return answered(status, &out, &error);
}

#endif
