/* Threads: shared kernels, recorders of one's own, messages of one's own, races for one handle. */
#include <pthread.h>

#include "support.h"

enum { S = 16, H = 2, D = 32, COUNT = S * H * D, THREADS = 4, ROUNDS = 20 };

typedef struct worker {
  pthread_t thread;
  int number;
  vkattn_kernel kernel;
  vkattn_recorder recorder;
  vkattn_buffer buffer;
  int failures;
  int successes;
  int refusals;
} worker;

static pthread_barrier_t barrier;

/* Each thread with tensors of its own, all with one kernel, by turns run and recorded. */
static void *attend(void *argument) {
  worker *self = argument;
  float *q = numbers(COUNT, 200 + (uint64_t)self->number);
  attention_problem problem = {1, S, S, H, H, D, D, q, q, q, 0, -1, 0, NULL, NULL, NULL, NULL};
  double *o = malloc(sizeof(double) * COUNT);
  float *got = malloc(sizeof(float) * COUNT);
  reference_attention(&problem, o, NULL, NULL);
  for (int round = 0; round < ROUNDS; round++) {
    vkattn_buffer query = NULL, output = NULL;
    self->failures += vkattn_buffer_create(device, 4 * COUNT, 0, NULL, &query) != VKATTN_OK;
    self->failures += vkattn_buffer_create(device, 4 * COUNT, 0, NULL, &output) != VKATTN_OK;
    self->failures += vkattn_buffer_upload(query, 0, q, 4 * COUNT) != VKATTN_OK;
    const vkattn_binding bindings[] = {
        VKATTN_BIND(VKATTN_TENSOR_QUERY, query), VKATTN_BIND(VKATTN_TENSOR_KEY, query),
        VKATTN_BIND(VKATTN_TENSOR_VALUE, query), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, output)};
    if (round % 2 == 0) {
      self->failures += vkattn_kernel_run(self->kernel, bindings, 4, NULL, NULL) != VKATTN_OK;
    } else {
      vkattn_recorder recorder = NULL;
      vkattn_submission submission = NULL;
      self->failures += vkattn_recorder_create(device, &recorder) != VKATTN_OK;
      self->failures += vkattn_recorder_record(recorder, self->kernel, bindings, 4) != VKATTN_OK;
      self->failures += vkattn_recorder_submit(recorder, &submission) != VKATTN_OK;
      self->failures += vkattn_submission_wait(submission, -1) != VKATTN_OK;
      self->failures += vkattn_recorder_free(recorder) != VKATTN_OK;
      self->failures += vkattn_submission_free(submission) != VKATTN_OK;
    }
    self->failures += vkattn_buffer_download(output, 0, got, 4 * COUNT) != VKATTN_OK;
    for (int i = 0; i < COUNT; i++) self->failures += !(fabs(got[i] - o[i]) < 1e-4);
    self->failures += vkattn_buffer_free(query) != VKATTN_OK;
    self->failures += vkattn_buffer_free(output) != VKATTN_OK;
    /* A failure of this thread, whose message no other one changes. */
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "there is no device %d;", 1000 + self->number);
    vkattn_device_info info = VKATTN_INIT(vkattn_device_info);
    if (round == 0) {
      self->failures +=
          vkattn_device_describe(1000 + self->number, &info) != VKATTN_NO_DEVICE;
    }
    self->failures += strstr(vkattn_last_error(), wanted) == NULL;
  }
  free(q), free(o), free(got);
  return NULL;
}

/* All append to one recorder: each call is done, or refused because another thread is inside. */
static void *contend(void *argument) {
  worker *self = argument;
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 500; i++) {
    vkattn_status status = vkattn_recorder_fill(self->recorder, self->buffer, 0, 4 * COUNT, 7);
    if (status == VKATTN_OK) self->successes++;
    else if (status == VKATTN_BUSY) self->refusals++;
    else self->failures++;
  }
  return NULL;
}

/* All free one handle: one of them does. */
static void *release(void *argument) {
  worker *self = argument;
  pthread_barrier_wait(&barrier);
  vkattn_status status = vkattn_buffer_free(self->buffer);
  if (status == VKATTN_OK) self->successes++;
  else if (status == VKATTN_INVALID_HANDLE) self->refusals++;
  else self->failures++;
  return NULL;
}

static worker together(void *(*run)(void *), worker common) {
  worker workers[THREADS], sum = common;
  pthread_barrier_init(&barrier, NULL, THREADS);
  for (int i = 0; i < THREADS; i++) {
    workers[i] = common;
    workers[i].number = i;
    EXPECT(pthread_create(&workers[i].thread, NULL, run, &workers[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    EXPECT(pthread_join(workers[i].thread, NULL) == 0);
    sum.failures += workers[i].failures;
    sum.successes += workers[i].successes;
    sum.refusals += workers[i].refusals;
  }
  pthread_barrier_destroy(&barrier);
  return sum;
}

void test_threads(void) {
  worker common;
  memset(&common, 0, sizeof(common));
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = request.key_tokens = S;
  request.query_heads = H;
  request.head_size = D;
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(device, &request, &plan));
  common.kernel = kernel_of(plan);
  EXPECT(together(attend, common).failures == 0);

  OK(vkattn_recorder_create(device, &common.recorder));
  OK(vkattn_buffer_create(device, 4 * COUNT, VKATTN_MEMORY_DEVICE, NULL, &common.buffer));
  worker sum = together(contend, common);
  EXPECT(sum.failures == 0 && sum.successes > 0 && sum.successes + sum.refusals == THREADS * 500);
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(common.recorder, &submission));
  OK(vkattn_submission_wait(submission, -1));
  uint32_t words[COUNT];
  OK(vkattn_buffer_download(common.buffer, 0, words, sizeof(words)));
  for (int i = 0; i < COUNT; i++) if (words[i] != 7) EXPECT(words[i] == 7);
  OK(vkattn_submission_free(submission)), OK(vkattn_recorder_free(common.recorder));

  sum = together(release, common);
  EXPECT(sum.failures == 0 && sum.successes == 1 && sum.refusals == THREADS - 1);
  OK(vkattn_kernel_free(common.kernel));
}
