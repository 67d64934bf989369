#include "tensors.h"

enum { MOST = 16, GUARD = 16 };

static void bind(vkattn_binding *bindings, const vkattn_buffer *buffers, const tensor *tensors,
                 int count) {
  for (int i = 0; i < count; i++) {
    const vkattn_binding binding = {tensors[i].name, tensors[i].index, buffers[i], 0,
                                    tensors[i].byte_count};
    bindings[i] = binding;
  }
}

/* Reads a tensor's result; what lies behind it has to be as it was. */
static void fetch(const char *name, vkattn_buffer buffer, const tensor *from, void *to) {
  unsigned char guard[GUARD];
  const float nan = NAN;
  OK(vkattn_buffer_download(buffer, 0, to, from->byte_count));
  OK(vkattn_buffer_download(buffer, from->byte_count, guard, GUARD));
  for (size_t i = 0; i < GUARD; i++) {
    if (guard[i] == ((const unsigned char *)&nan)[(from->byte_count + i) % 4]) continue;
    printf("%s: tensor %d was overrun at byte %zu\n", name, from->name, i);
    EXPECT(!"overrun");
    return;
  }
}

static void record(const char *name, vkattn_kernel kernel, const vkattn_binding *bindings, int count,
                   size_t scratch_bytes) {
  vkattn_binding bound[MOST + 1];
  memcpy(bound, bindings, (size_t)count * sizeof(vkattn_binding));
  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  vkattn_buffer scratch = NULL;
  if (scratch_bytes > 0) {
    if (vkattn_recorder_record(recorder, kernel, bindings, (size_t)count) != VKATTN_MISSING_BUFFER) {
      printf("%s: scratch memory was not missed\n", name);
      EXPECT(!"scratch");
    }
    scratch = output_buffer(scratch_bytes);
    const vkattn_binding binding = VKATTN_BIND(VKATTN_TENSOR_SCRATCH, scratch);
    bound[count++] = binding;
  }
  OK(vkattn_recorder_record(recorder, kernel, bound, (size_t)count));
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(recorder, &submission));
  OK(vkattn_submission_wait(submission, -1));
  OK(vkattn_submission_free(submission));
  OK(vkattn_recorder_free(recorder));
  OK(vkattn_buffer_free(scratch));
}

void run_plan(const char *name, vkattn_plan plan, const tensor *tensors, int count) {
  vkattn_plan_info info = VKATTN_INIT(vkattn_plan_info);
  OK(vkattn_plan_get_info(plan, &info));
  for (int i = 0; i < count; i++) {
    size_t byte_count = 0;
    if (tensors[i].index > 0) continue;
    OK(vkattn_plan_byte_count(plan, tensors[i].name, &byte_count));
    if (byte_count != tensors[i].byte_count)
      printf("%s: tensor %d has %zu bytes\n", name, tensors[i].name, byte_count);
    EXPECT(byte_count == tensors[i].byte_count);
  }
  size_t unknown = 0;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_plan_byte_count(plan, VKATTN_TENSOR_COPIES, &unknown));
  char text[200];
  OK(vkattn_plan_describe(plan, text, sizeof(text), NULL));
  EXPECT(strncmp(text, "family: ", 8) == 0);
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer buffers[MOST];
  vkattn_binding bindings[MOST + 1];
  for (int i = 0; i < count; i++)
    buffers[i] = tensors[i].bytes != NULL ? buffer_of(tensors[i].bytes, tensors[i].byte_count)
                                          : output_buffer(tensors[i].byte_count + GUARD);
  for (int i = 0; i < count; i++) {
    /* Without tensor i; with one byte too few of it; with it twice. */
    bind(bindings, buffers, tensors, count);
    bindings[i] = bindings[count - 1];
    EXPECT_STATUS(VKATTN_MISSING_BUFFER,
                  vkattn_kernel_run(kernel, bindings, (size_t)count - 1, NULL, NULL));
    bind(bindings, buffers, tensors, count);
    bindings[i].byte_count--;
    EXPECT_STATUS(VKATTN_BUFFER_TOO_SMALL,
                  vkattn_kernel_run(kernel, bindings, (size_t)count, NULL, NULL));
    bind(bindings, buffers, tensors, count);
    bindings[count] = bindings[i];
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                  vkattn_kernel_run(kernel, bindings, (size_t)count + 1, NULL, NULL));
  }
  bindings[count].tensor = VKATTN_TENSOR_COPIES;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_kernel_run(kernel, bindings, (size_t)count + 1, NULL, NULL));
  OK(vkattn_kernel_run(kernel, bindings, (size_t)count, NULL, NULL));
  for (int i = 0; i < count; i++)
    if (tensors[i].result != NULL) fetch(name, buffers[i], &tensors[i], tensors[i].result);
  for (int i = 0; i < count; i++) {
    if (tensors[i].result == NULL) continue;
    OK(vkattn_buffer_free(buffers[i]));
    buffers[i] = output_buffer(tensors[i].byte_count + GUARD);
  }
  bind(bindings, buffers, tensors, count);
  record(name, kernel, bindings, count, info.scratch_byte_count);
  for (int i = 0; i < count; i++) {
    if (tensors[i].result == NULL) continue;
    void *again = malloc(tensors[i].byte_count);
    fetch(name, buffers[i], &tensors[i], again);
    EXPECT(memcmp(again, tensors[i].result, tensors[i].byte_count) == 0);
    free(again);
  }
  for (int i = 0; i < count; i++) OK(vkattn_buffer_free(buffers[i]));
  OK(vkattn_kernel_free(kernel));
}

void expect_same(const char *name, const int32_t *actual, const int32_t *expected, int count) {
  expectations++;
  for (int i = 0; i < count; i++) {
    if (actual[i] == expected[i]) continue;
    failures++;
    printf("%s: number %d is %d instead of %d\n", name, i, actual[i], expected[i]);
    return;
  }
}
