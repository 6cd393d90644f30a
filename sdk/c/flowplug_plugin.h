/*
 * flowplug_plugin.h: what a wasm plugin in C is written against. One header, no library beyond libc.
 *
 *   clang --target=wasm32-wasi --sysroot=/usr -mexec-model=reactor -O2 -s -Isdk/c -o plugin.wasm plugin.c
 *
 * Include it in exactly one source file: it defines the exports `alloc` and `free`, through which the host hands over
 * parameters and takes results. A plugin exports its functions like this:
 *
 *   FP_EXPORT("command") uint64_t command(const char *params, size_t len) { … return fp_data(&json); }
 *
 * Ownership: parameters belong to the host and are never freed here; what fp_data and fp_error return belongs to the
 * host. An fp_str is borrowed unless a comment says "owned", which means: end it with fp_free. A plugin is stateless
 * and runs on one thread at a time; running out of memory is a trap, which the host reports as such.
 */
#ifndef FLOWPLUG_PLUGIN_H
#define FLOWPLUG_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __wasm__
#define FP_EXPORT(name) __attribute__((export_name(name)))
#define FP_IMPORT(name) __attribute__((import_module("flowbot"), import_name(name)))
#else /* compiled for the machine at hand, where a plugin's own tests define the imports that they need */
#define FP_EXPORT(name)
#define FP_IMPORT(name) extern
#endif
/* The helpers below are static; a plugin that does not use one of them shall not be warned about it. */
#define FP_HELPER __attribute__((unused)) static

/* Bytes that somebody else owns. ptr NULL: absent, which is not empty. */
typedef struct fp_str {
  const char *ptr;
  size_t len;
} fp_str;
#define FP_STR(literal) ((fp_str){literal, sizeof(literal) - 1})

/* Text in the making. Starts as {0}; ends in fp_data, or in fp_buf_free. */
typedef struct fp_buf {
  char *ptr;
  size_t len, cap;
} fp_buf;

/* ---- The host's functions, as imported. A module imports only those that it calls, in the forms in which it calls them. ---- */

/* By value: (ptr << 32) | size of a block made with this module's `alloc`; 0: missing or failed; size 0: empty. */
FP_IMPORT("get_config") uint64_t fp_import_get_config(const char *key, size_t key_len);
FP_IMPORT("kv_get") uint64_t fp_import_kv_get(const char *key, size_t key_len);
FP_IMPORT("http_request") uint64_t fp_import_http_request(const char *request, size_t request_len);
FP_IMPORT("last_error") uint64_t fp_import_last_error(void);
/* Checked: the value's size, written only if it fits cap; -1: missing, -2: failed. */
FP_IMPORT("get_config") int32_t fp_import_get_config_checked(const char *key, size_t key_len, char *out, size_t cap);
FP_IMPORT("kv_get") int32_t fp_import_kv_get_checked(const char *key, size_t key_len, char *out, size_t cap);
FP_IMPORT("log") void fp_import_log_fields(int32_t level, const char *message, size_t message_len, const char *fields, size_t fields_len);
/* flowbot's own: bytes written, 0 on failure; `out` must have room for whatever comes. */
FP_IMPORT("get_config") int32_t fp_import_get_config_unbounded(const char *key, size_t key_len, char *out);
FP_IMPORT("kv_get") int32_t fp_import_kv_get_unbounded(const char *key, size_t key_len, char *out);
FP_IMPORT("http_request") int32_t fp_import_http_request_into(const char *request, size_t request_len, char *out, size_t cap);
FP_IMPORT("log") void fp_import_log(int32_t level, const char *message, size_t message_len);
/* 1: done, 0: failed. */
FP_IMPORT("kv_set") int32_t fp_import_kv_set(const char *key, size_t key_len, const char *value, size_t value_len);
FP_IMPORT("kv_delete") int32_t fp_import_kv_delete(const char *key, size_t key_len);
FP_IMPORT("emit_event") int32_t fp_import_emit_event(const char *event, size_t event_len);

/* ---- Memory ---- */

FP_EXPORT("alloc") void *fp_export_alloc(size_t size) { return malloc(size ? size : 1); }
FP_EXPORT("free") void fp_export_free(void *block) { free(block); }

/* Ends an owned fp_str. An absent one is fine. */
FP_HELPER void fp_free(fp_str owned) { free((void *)owned.ptr); }

FP_HELPER void fp_buf_free(fp_buf *buf) {
  free(buf->ptr);
  *buf = (fp_buf){0};
}

FP_HELPER fp_str fp_owned(uint64_t packed) { return (fp_str){(const char *)(uintptr_t)(packed >> 32), (size_t)(uint32_t)packed}; }

FP_HELPER fp_str fp_cstr(const char *text) { return (fp_str){text, strlen(text)}; }

FP_HELPER int fp_equal(fp_str a, fp_str b) { return a.ptr && b.ptr && a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }

/* What a buffer holds, borrowed until it is written to again. */
FP_HELPER fp_str fp_view(const fp_buf *buf) { return (fp_str){buf->ptr ? buf->ptr : "", buf->len}; }

/* ---- Writing ---- */

/* Appends bytes as they are. */
FP_HELPER void fp_put(fp_buf *buf, fp_str bytes) {
  if (bytes.len > buf->cap - buf->len) {
    size_t cap = (buf->len + bytes.len) * 2;
    char *grown = realloc(buf->ptr, cap);
    if (!grown) __builtin_trap();
    buf->ptr = grown;
    buf->cap = cap;
  }
  if (bytes.len) memcpy(buf->ptr + buf->len, bytes.ptr, bytes.len);
  buf->len += bytes.len;
}

FP_HELPER void fp_puts(fp_buf *buf, const char *text) { fp_put(buf, fp_cstr(text)); }

FP_HELPER void fp_put_u32(fp_buf *buf, uint32_t number) {
  char digits[10];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number);
  fp_put(buf, (fp_str){digits + at, sizeof digits - at});
}

/* The length of the UTF-8 character at p, 0 if there is none. */
FP_HELPER size_t fp_utf8(const unsigned char *p, size_t left) {
  size_t len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
  if (len == 0 || len > left) return 0;
  for (size_t i = 1; i < len; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  int bad = (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] >= 0x90);
  return bad ? 0 : len;
}

/* Appends text as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD, so that the result is always JSON. */
FP_HELPER void fp_put_json(fp_buf *buf, fp_str text) {
  static const char hex[] = "0123456789abcdef";
  fp_puts(buf, "\"");
  for (size_t i = 0; i < text.len;) {
    unsigned char c = (unsigned char)text.ptr[i];
    size_t len = fp_utf8((const unsigned char *)text.ptr + i, text.len - i);
    if (len == 0) {
      fp_puts(buf, "\xef\xbf\xbd");
      len = 1;
    } else if (c == '"' || c == '\\') {
      fp_put(buf, (fp_str){(char[]){'\\', (char)c}, 2});
    } else if (c < 0x20) {
      fp_put(buf, (fp_str){(char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6});
    } else {
      fp_put(buf, (fp_str){text.ptr + i, len});
    }
    i += len;
  }
  fp_puts(buf, "\"");
}

/* ---- Reading: a value is a slice of the text it stands in; nothing is copied until fp_json_text ---- */

FP_HELPER const char *fp_json_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

/* Past the string that starts at p; NULL if it does not end. */
FP_HELPER const char *fp_json_skip_string(const char *p, const char *end) {
  for (p++; p < end; p++) {
    if (*p == '"') return p + 1;
    if (*p == '\\') p++;
  }
  return NULL;
}

/* Past the value that starts at p; NULL if it does not end. Counts brackets, so depth costs no stack. */
FP_HELPER const char *fp_json_skip(const char *p, const char *end) {
  size_t depth = 0;
  while (p < end) {
    if (*p == '"') {
      if (!(p = fp_json_skip_string(p, end))) return NULL;
    } else if (*p == '{' || *p == '[') {
      depth++, p++;
    } else if (*p == '}' || *p == ']') {
      if (depth == 0) return p;
      depth--, p++;
    } else if (depth == 0 && (*p == ',' || *p == ':' || fp_json_space(p, end) != p)) {
      return p;
    } else {
      p++;
      continue;
    }
    if (depth == 0) return p;
  }
  return depth == 0 ? p : NULL;
}

/* The next element of an array or object; starts with the whole value in *rest. 0 at the end. For an object, names and
   values come in turn. */
FP_HELPER int fp_json_next(fp_str *rest, fp_str *item) {
  const char *end = rest->ptr + rest->len;
  const char *p = fp_json_space(rest->ptr, end);
  if (p == end || *p == ']' || *p == '}') return 0;
  if (*p == '[' || *p == '{' || *p == ',' || *p == ':') p = fp_json_space(p + 1, end);
  if (p == end || *p == ']' || *p == '}') return 0;
  const char *past = fp_json_skip(p, end);
  if (!past || past == p) return 0;
  *item = (fp_str){p, (size_t)(past - p)};
  /* A separator stays in front of the rest: the next round takes it, and never mistakes an element for the start. */
  past = fp_json_space(past, end);
  if (past == end || (*past != ',' && *past != ':')) end = past;
  *rest = (fp_str){past, (size_t)(end - past)};
  return 1;
}

FP_HELPER int fp_json_hex(const char *p, const char *end, uint32_t *out) {
  if (end - p < 4) return 0;
  *out = 0;
  for (int i = 0; i < 4; i++) {
    int c = p[i] | 0x20;
    int digit = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return 0;
    *out = *out << 4 | (uint32_t)digit;
  }
  return 1;
}

FP_HELPER void fp_put_utf8(fp_buf *buf, uint32_t c) {
  char b[4] = {(char)c};
  size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = len; len > 1 && i-- > 0; c >>= 6) b[i] = (char)(i ? 0x80 | (c & 0x3f) : lead[len] | c);
  fp_put(buf, (fp_str){b, len});
}

/* The text of a JSON string, owned and followed by a NUL; absent if the value is not a string. */
FP_HELPER fp_str fp_json_text(fp_str value) {
  if (!value.ptr || value.len < 2 || value.ptr[0] != '"') return (fp_str){0};
  fp_buf out = {0};
  const char *end = value.ptr + value.len - 1;
  for (const char *p = value.ptr + 1; p < end; p++) {
    if (*p != '\\' || p + 1 == end) {
      fp_put(&out, (fp_str){p, 1});
      continue;
    }
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known = strchr(from, *++p);
    uint32_t c, low;
    if (known && *known) {
      fp_put(&out, (fp_str){to + (known - from), 1});
    } else if (*p == 'u' && fp_json_hex(p + 1, end, &c)) {
      p += 4;
      int pair = c >= 0xd800 && c < 0xdc00 && end - p > 6 && p[1] == '\\' && p[2] == 'u' && fp_json_hex(p + 3, end, &low) && low >= 0xdc00 && low < 0xe000;
      if (pair) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
      }
      fp_put_utf8(&out, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    }
  }
  fp_put(&out, (fp_str){"", 1});
  return (fp_str){out.ptr, out.len - 1};
}

/* The member of this name; absent if there is none, or if the value is no object. */
FP_HELPER fp_str fp_json_get(fp_str object, const char *name) {
  fp_str key, value;
  const char *start = object.ptr ? fp_json_space(object.ptr, object.ptr + object.len) : NULL;
  if (!start || start == object.ptr + object.len || *start != '{') return (fp_str){0};
  while (fp_json_next(&object, &key) && fp_json_next(&object, &value)) {
    fp_str text = fp_json_text(key);
    int found = fp_equal(text, fp_cstr(name));
    fp_free(text);
    if (found) return value;
  }
  return (fp_str){0};
}

/* The whole number that a value is, modulo 2^32; 0 if it is none. */
FP_HELPER int32_t fp_json_int(fp_str value) {
  uint32_t number = 0;
  int negative = value.len > 0 && *value.ptr == '-';
  for (size_t i = negative ? 1 : 0; i < value.len && value.ptr[i] >= '0' && value.ptr[i] <= '9'; i++) number = number * 10 + (uint32_t)(value.ptr[i] - '0');
  return (int32_t)(negative ? 0 - number : number);
}

static const char fp_base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Appends bytes as a JSON string of base64, quotes included: the body of an HTTP request. */
FP_HELPER void fp_put_base64(fp_buf *buf, fp_str bytes) {
  fp_puts(buf, "\"");
  for (size_t i = 0; i < bytes.len; i += 3) {
    size_t left = bytes.len - i;
    uint32_t bits = (uint32_t)(unsigned char)bytes.ptr[i] << 16;
    if (left > 1) bits |= (uint32_t)(unsigned char)bytes.ptr[i + 1] << 8;
    if (left > 2) bits |= (unsigned char)bytes.ptr[i + 2];
    char four[4] = {fp_base64_digits[bits >> 18], fp_base64_digits[bits >> 12 & 63], '=', '='};
    if (left > 1) four[2] = fp_base64_digits[bits >> 6 & 63];
    if (left > 2) four[3] = fp_base64_digits[bits & 63];
    fp_put(buf, (fp_str){four, 4});
  }
  fp_puts(buf, "\"");
}

/* The bytes of a base64 text, owned; absent if it is not base64. Padding is optional. */
FP_HELPER fp_str fp_base64_decode(fp_str text) {
  unsigned char *out = malloc(text.len / 4 * 3 + 3);
  if (!out) __builtin_trap();
  uint32_t bits = 0, count = 0;
  size_t len = 0;
  for (size_t i = 0; i < text.len && text.ptr[i] != '='; i++) {
    const char *digit = text.ptr[i] ? strchr(fp_base64_digits, text.ptr[i]) : NULL;
    if (!digit) {
      free(out);
      return (fp_str){0};
    }
    bits = bits << 6 | (uint32_t)(digit - fp_base64_digits);
    if ((count += 6) >= 8) out[len++] = (unsigned char)(bits >> (count -= 8));
  }
  return (fp_str){(char *)out, len};
}

/* ---- Asking the host ---- */

/* Reads a key; owned. Absent if it is missing, or, with *failed set, if the host failed. In the checked form, because by value
   the two look the same, and what is taken for missing is soon written over. */
FP_HELPER fp_str fp_kv_get(fp_str key, int *failed) {
  char *out = NULL;
  int32_t cap = 0, size = 1024;
  while (size > cap) {
    free(out);
    cap = size;
    out = malloc((size_t)cap);
    if (!out) __builtin_trap();
    size = fp_import_kv_get_checked(key.ptr, key.len, out, (size_t)cap);
  }
  *failed = size == -2;
  if (size >= 0) return (fp_str){out, (size_t)size};
  free(out);
  return (fp_str){0};
}

/* Stores a value; 0 if the host failed. */
FP_HELPER int fp_kv_set(fp_str key, fp_str value) { return fp_import_kv_set(key.ptr, key.len, value.ptr, value.len); }

/* ---- Answers ---- */

FP_HELPER uint64_t fp_pack(const fp_buf *buf) { return (uint64_t)(uintptr_t)buf->ptr << 32 | (uint32_t)buf->len; }

/* A good answer: takes over a buffer that holds one JSON value. */
FP_HELPER uint64_t fp_data(fp_buf *json) {
  fp_buf out = {0};
  fp_puts(&out, "{\"error\":null,\"data\":");
  fp_put(&out, fp_view(json));
  fp_puts(&out, "}");
  fp_buf_free(json);
  return fp_pack(&out);
}

/* The plugin's own error. */
FP_HELPER uint64_t fp_error(fp_str message) {
  fp_buf out = {0};
  fp_puts(&out, "{\"error\":");
  fp_put_json(&out, message);
  fp_puts(&out, ",\"data\":null}");
  return fp_pack(&out);
}

/* The plugin's own error for a host call that failed: what was tried, and what the host said. */
FP_HELPER uint64_t fp_error_host(const char *tried) {
  fp_buf text = {0};
  fp_str said = fp_owned(fp_import_last_error());
  fp_puts(&text, tried);
  if (said.len) {
    fp_puts(&text, ": ");
    fp_put(&text, said);
  }
  uint64_t answer = fp_error(fp_view(&text));
  fp_free(said);
  fp_buf_free(&text);
  return answer;
}

#endif
