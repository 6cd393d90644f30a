/* The fixture with the host functions in flowbot's own form. */
#define FORM_FLOWBOT
#include "../fixture/fixture.c"
