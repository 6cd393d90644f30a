/*
 * What the example host needs beside the library: growing text, a key-value list, HTTP through libcurl, and the little
 * JSON that it reads. Nothing here is flowplug's; a real program has its own.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <curl/curl.h>
#include <flowplug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Text ---- */

typedef struct text {
  char *ptr;
  size_t len;
} text;

static void *need(void *block) {
  if (!block) {
    fputs("out of memory\n", stderr);
    exit(2);
  }
  return block;
}

static void append(text *to, const char *bytes, size_t len) {
  to->ptr = need(realloc(to->ptr, to->len + len + 1));
  if (len) memcpy(to->ptr + to->len, bytes, len);
  to->len += len;
  to->ptr[to->len] = '\0';
}

static void clear(text *of) {
  free(of->ptr);
  *of = (text){NULL, 0};
}

/* A copy followed by a NUL, for functions that want one. */
static char *c_string(flowplug_str from) {
  text copy = {NULL, 0};
  append(&copy, from.ptr, from.len);
  return copy.ptr;
}

static flowplug_str c_str(const char *from) { return (flowplug_str){from, strlen(from)}; }

static int same(flowplug_str a, flowplug_str b) { return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); }

/* ---- A key-value list ---- */

typedef struct entry {
  struct entry *next;
  flowplug_str key, value;
} entry;

/* The link that leads to the entry of this key, or the last link if there is none. */
static entry **kv_find(entry **list, flowplug_str key) {
  while (*list && !same((*list)->key, key)) list = &(*list)->next;
  return list;
}

/* Takes an entry out of its list; none is fine. */
static void kv_remove(entry **at) {
  entry *gone = *at;
  if (!gone) return;
  *at = gone->next;
  free((char *)gone->key.ptr);
  free((char *)gone->value.ptr);
  free(gone);
}

/* Replaces or adds an entry. */
static void kv_put(entry **list, flowplug_str key, flowplug_str value) {
  entry *fresh = need(malloc(sizeof *fresh));
  kv_remove(kv_find(list, key));
  *fresh = (entry){*list, {c_string(key), key.len}, {c_string(value), value.len}};
  *list = fresh;
}

/* ---- HTTP ---- */

typedef struct response {
  long status;
  text body;
  flowplug_pair headers[64];
  size_t headers_len;
} response;

static size_t take_body(char *bytes, size_t size, size_t count, void *user_data) {
  append(&((response *)user_data)->body, bytes, size * count);
  return size * count;
}

static size_t take_header(char *line, size_t size, size_t count, void *user_data) {
  response *to = user_data;
  size_t len = size * count;
  char *colon = memchr(line, ':', len);
  if (colon && to->headers_len < sizeof to->headers / sizeof *to->headers) {
    char *value = colon + 1, *end = line + len;
    while (value < end && *value == ' ') value++;
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    flowplug_str name = {line, (size_t)(colon - line)}, rest = {value, (size_t)(end - value)};
    to->headers[to->headers_len++] = (flowplug_pair){{c_string(name), name.len}, {c_string(rest), rest.len}};
  }
  return len;
}

static struct curl_slist *header_list(const flowplug_http_request *from) {
  struct curl_slist *list = NULL;
  for (size_t i = 0; i < from->headers_len; i++) {
    text line = {NULL, 0};
    append(&line, from->headers[i].name.ptr, from->headers[i].name.len);
    append(&line, ": ", 2);
    append(&line, from->headers[i].value.ptr, from->headers[i].value.len);
    list = need(curl_slist_append(list, line.ptr));
    clear(&line);
  }
  return list;
}

/* The library has checked the URL against the plugin's allowlist. Redirects are not followed: the plugin sees them, and
   asks again for where they lead, which is then checked too. */
static CURLcode perform(CURL *curl, const flowplug_http_request *what, const flowplug_caller *caller, const char *method, response *into) {
  uint64_t ms = caller->remaining_ns / 1000000;
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
  if (strcmp(method, "HEAD") == 0) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ms == 0 ? 1L : ms > 30000 ? 30000L : (long)ms);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, into);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, into);
  if (what->body.len) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, what->body.ptr);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)what->body.len);
  }
  return curl_easy_perform(curl);
}

/* Fetches what the plugin asked for; ends with response_clear, also after a failure. */
static CURLcode fetch(const flowplug_http_request *what, const flowplug_caller *caller, response *into) {
  char *url = c_string(what->url), *method = c_string(what->method);
  struct curl_slist *headers = header_list(what);
  CURL *curl = need(curl_easy_init());
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  CURLcode code = perform(curl, what, caller, method, into);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &into->status);
  curl_easy_cleanup(curl);
  curl_slist_free_all(headers);
  free(method);
  free(url);
  return code;
}

static void response_clear(response *of) {
  for (size_t i = 0; i < of->headers_len; i++) {
    free((char *)of->headers[i].name.ptr);
    free((char *)of->headers[i].value.ptr);
  }
  clear(&of->body);
}

/* ---- As much JSON as this program needs: the first member of a name ---- */

/* Where the value of the first member of this name starts; NULL if there is none. Inside a JSON text a quote is escaped,
   so `"name":` can be nothing but a member. */
static const char *json_member(const char *json, const char *name) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", name);
  const char *found = strstr(json, quoted);
  if (!found) return NULL;
  found += strlen(quoted);
  return found + strspn(found, " \n\t");
}

static unsigned json_hex(const char *digits) {
  char four[5] = {0};
  strncpy(four, digits, 4);
  return (unsigned)strtoul(four, NULL, 16);
}

/* The text of a string member, owned; "" if there is none. */
static char *json_text(const char *json, const char *name) {
  text out = {NULL, 0};
  append(&out, "", 0);
  const char *p = json_member(json, name);
  if (!p || *p != '"') return out.ptr;
  for (p++; *p && *p != '"'; p++) {
    if (*p != '\\') {
      append(&out, p, 1);
    } else if (*++p == 'u') {
      unsigned c = json_hex(p + 1);
      append(&out, c < 0x80 ? (char[]){(char)c} : "?", 1); /* what Go escapes: & < > */
      p += strnlen(p + 1, 4);
    } else {
      append(&out, *p == 'n' ? "\n" : p, 1);
    }
  }
  return out.ptr;
}

#endif
