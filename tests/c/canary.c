/*
 * Programs that must fail where a sanitizer is on: run.sh runs them, so that a pass without findings means something.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  char *block = malloc(16);
  if (!block) return 0;
  volatile char *used = block;
  memset(block, argc, 16);
  if (strcmp(what, "overflow") == 0) printf("%d\n", used[15 + argc]);
  if (strcmp(what, "undefined") == 0) printf("%d\n", INT_MAX + (int)used[0]);
  if (strcmp(what, "leak") == 0) {
    used = block = NULL;
    printf("%d\n", argc);
    return 0;
  }
  free(block);
  if (strcmp(what, "freed") == 0) printf("%d\n", used[0]);
  return 0;
}
