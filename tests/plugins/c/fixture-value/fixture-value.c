/* The fixture with the host functions by value. */
#define FORM_VALUE
#include "../fixture/fixture.c"
