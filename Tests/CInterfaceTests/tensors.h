/* The same questions for every family: a plan, its tensors, and what must come of them. */
#ifndef TENSORS_H
#define TENSORS_H

#include "support.h"

/* A tensor of a plan: bytes that are read, or a place for what is written, not both. */
typedef struct tensor {
  vkattn_tensor name;
  int32_t index;
  size_t byte_count;
  const void *bytes;
  void *result;
} tensor;

#define READ(name, bytes, byte_count) {VKATTN_TENSOR_##name, 0, (byte_count), (bytes), NULL}
#define WRITTEN(name, result, byte_count) {VKATTN_TENSOR_##name, 0, (byte_count), NULL, (result)}

/* Frees a plan that was made for some tensors, after it has seen that their sizes are the plan's; that each of
 * them is missed, found too small and refused a second time, and a tensor of others is refused; that a run and a
 * recording with scratch memory of one's own write the same, and nothing behind the tensors. The results are then
 * in their places. */
void run_plan(const char *name, vkattn_plan plan, const tensor *tensors, int count);

/* A call that makes a plan has to fail with a status and a message, and to make none. */
#define REFUSED(status, call)                                                                      \
  do {                                                                                             \
    vkattn_plan plan = NULL;                                                                       \
    EXPECT_STATUS((status), (call));                                                               \
    EXPECT(plan == NULL && strlen(vkattn_last_error()) > 10);                                      \
    OK(vkattn_plan_free(plan));                                                                    \
  } while (0)

/* As expect_close for integers, which must be the same. */
void expect_same(const char *name, const int32_t *actual, const int32_t *expected, int count);

void test_drafts(void);
void test_features(void);
void test_around(void);
void test_companions(void);
void test_block_maps(void);
void test_custom(void);

#endif
