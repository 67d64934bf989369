/* What the tests of the C interface share: expectations, numbers, buffers, a reference in double. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vkattn.h"

extern int failures;
extern int expectations;
extern vkattn_device device;

/* Notes a failure where a condition does not hold. */
#define EXPECT(condition)                                                                          \
  do {                                                                                             \
    expectations++;                                                                                \
    if (!(condition)) {                                                                            \
      failures++;                                                                                  \
      printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                               \
    }                                                                                              \
  } while (0)

/* Notes a failure where a call has another status, with its message. */
#define EXPECT_STATUS(status, call)                                                                \
  expect_status((status), (call), #call, __FILE__, __LINE__)
#define OK(call) EXPECT_STATUS(VKATTN_OK, call)

int expect_status(vkattn_status expected, vkattn_status actual, const char *call, const char *file,
                  int line);

/* The same numbers in every run, between -1 and 1. */
float next_number(uint64_t *state);
float *numbers(size_t count, uint64_t seed);
float *nans(size_t count);
float *zeros(size_t count);
uint16_t half_of(float number);
float float_of_half(uint16_t bits);
uint16_t *halves_of(const float *numbers, size_t count);

/* A buffer with a copy of bytes. */
vkattn_buffer buffer_of(const void *bytes, size_t byte_count);
/* A buffer whose floats are NaN, for what is written. */
vkattn_buffer output_buffer(size_t byte_count);
void get_floats(vkattn_buffer buffer, float *to, size_t count);

/* RMS of the difference over that of the expected numbers must be at most the gate; NaN fails. */
void expect_close(const char *name, const float *actual, const double *expected, size_t count,
                  double gate);

/* One attention in double, [B, S, H, D] contiguous. */
typedef struct attention_problem {
  int batch, queries, keys, heads, key_heads, size, value_size;
  const float *q, *k, *v;
  int causal;
  int window_left; /* negative for none */
  double softcap;
  const float *sinks;       /* [H] */
  const float *slopes;      /* [B, H] */
  const float *bias;        /* [B, 1, S, T] */
  const int32_t *lengths;   /* [B] */
} attention_problem;

/* o [B, S, H, E], lse [B, S, H], p [B, H, S, T]; those not wanted are NULL. */
void reference_attention(const attention_problem *problem, double *o, double *lse, double *p);

/* A plan's kernel; the plan is freed. NULL where there is none. */
vkattn_kernel kernel_of(vkattn_plan plan);

void test_versions(void);
void test_attention(void);
void test_decode(void);
void test_caches(void);
void test_linear(void);
void test_errors(void);
void test_streams(void);
void test_threads(void);
void test_foreign(void);

#endif
