/* Streams: orders of work beside each other, and what waits for what. */
#include "support.h"

enum { COUNT = 256, BYTES = COUNT * 4 };

/* A recorder that copies one buffer to the other; without a source, fills with a word. */
static vkattn_recorder commands(vkattn_buffer from, uint32_t word, vkattn_buffer to) {
  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  if (from == NULL) OK(vkattn_recorder_fill(recorder, to, 0, BYTES, word));
  else OK(vkattn_recorder_copy(recorder, from, 0, to, 0, BYTES));
  return recorder;
}

static void expect_words(vkattn_buffer buffer, uint32_t word) {
  uint32_t words[COUNT];
  OK(vkattn_buffer_download(buffer, 0, words, sizeof(words)));
  for (int i = 0; i < COUNT; i++) if (words[i] != word) EXPECT(words[i] == word);
  EXPECT(words[0] == word);
}

/* A word goes from buffer to buffer, each copy in another stream, behind the one before. */
static void chain(void) {
  enum { BUFFERS = 7, STREAMS = 3 };
  vkattn_stream streams[STREAMS];
  for (int i = 0; i < STREAMS; i++) OK(vkattn_stream_create(device, &streams[i]));
  vkattn_buffer buffers[BUFFERS];
  for (int i = 0; i < BUFFERS; i++) {
    OK(vkattn_buffer_create(device, BYTES, VKATTN_MEMORY_DEVICE, NULL, &buffers[i]));
  }
  for (uint32_t round = 1; round <= 5; round++) {
    vkattn_submission last = NULL;
    for (int i = 0; i < BUFFERS; i++) {
      vkattn_recorder recorder = commands(i == 0 ? NULL : buffers[i - 1], round, buffers[i]);
      vkattn_submit_info info = VKATTN_INIT(vkattn_submit_info);
      /* One of the four is the device's own order. */
      if (i % (STREAMS + 1) < STREAMS) info.stream = streams[i % (STREAMS + 1)];
      info.after = &last;
      info.after_count = last == NULL ? 0 : 1;
      vkattn_submission next = NULL;
      OK(vkattn_recorder_submit_to(recorder, &info, &next));
      EXPECT_STATUS(VKATTN_ALREADY_SUBMITTED, vkattn_recorder_submit_to(recorder, &info, NULL));
      OK(vkattn_recorder_free(recorder)), OK(vkattn_submission_free(last));
      last = next;
    }
    OK(vkattn_submission_wait(last, -1)), OK(vkattn_submission_free(last));
    expect_words(buffers[BUFFERS - 1], round);
  }
  for (int i = 0; i < STREAMS; i++) OK(vkattn_stream_free(streams[i]));
  for (int i = 0; i < BUFFERS; i++) OK(vkattn_buffer_free(buffers[i]));
}

/* A list in two streams by turns; their handles are freed before the work is waited for. */
static void lists(void) {
  vkattn_buffer from = NULL, to = NULL;
  OK(vkattn_buffer_create(device, BYTES, VKATTN_MEMORY_DEVICE, NULL, &from));
  OK(vkattn_buffer_create(device, BYTES, VKATTN_MEMORY_DEVICE, NULL, &to));
  vkattn_recorder recorder = NULL;
  vkattn_command_list list = NULL;
  OK(vkattn_recorder_create_for_replay(device, &recorder));
  OK(vkattn_recorder_copy(recorder, from, 0, to, 0, BYTES));
  OK(vkattn_command_list_create(recorder, &list)), OK(vkattn_recorder_free(recorder));
  vkattn_stream one = NULL, other = NULL;
  OK(vkattn_stream_create(device, &one)), OK(vkattn_stream_create(device, &other));
  vkattn_submission filled = NULL, copied = NULL;
  recorder = commands(NULL, 11, from);
  vkattn_submit_info info = VKATTN_INIT(vkattn_submit_info);
  info.stream = one;
  OK(vkattn_recorder_submit_to(recorder, &info, &filled)), OK(vkattn_recorder_free(recorder));
  info.stream = other;
  info.after = &filled;
  info.after_count = 1;
  OK(vkattn_command_list_submit_to(list, &info, NULL));
  OK(vkattn_command_list_submit_to(list, &info, &copied));
  OK(vkattn_stream_free(one)), OK(vkattn_stream_free(other)), OK(vkattn_submission_free(filled));
  OK(vkattn_command_list_free(list));
  vkattn_timeline_point point = {NULL, 0};
  OK(vkattn_submission_point(copied, &point));
  EXPECT(point.semaphore != NULL && point.value == 2);
  OK(vkattn_submission_wait(copied, -1)), OK(vkattn_submission_free(copied));
  expect_words(to, 11);
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_command_list_submit_to(NULL, NULL, NULL));
  OK(vkattn_buffer_free(from)), OK(vkattn_buffer_free(to));
}

static void refusals(void) {
  vkattn_stream stream = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_stream_create(device, NULL));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_stream_create(NULL, &stream));
  EXPECT(stream == NULL);
  OK(vkattn_stream_create(device, &stream));
  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  vkattn_submit_info info = VKATTN_INIT(vkattn_submit_info);
  info.struct_size = 4;
  EXPECT_STATUS(VKATTN_BAD_STRUCTURE, vkattn_recorder_submit_to(recorder, &info, NULL));
  info.struct_size = sizeof(info);
  info.stream = (vkattn_stream)recorder;
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_recorder_submit_to(recorder, &info, NULL));
  info.stream = stream;
  info.after_count = 1;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_recorder_submit_to(recorder, &info, NULL));
  vkattn_submission none = NULL;
  info.after = &none;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_recorder_submit_to(recorder, &info, NULL));
  info.after_count = SIZE_MAX;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_recorder_submit_to(recorder, &info, NULL));
  info.after_count = 0;
  vkattn_timeline_point point = {NULL, 1};
  info.points = &point;
  info.point_count = 1;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_recorder_submit_to(recorder, &info, NULL));
  EXPECT(strstr(vkattn_last_error(), "points[0].semaphore") != NULL);
  info.point_count = 0;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_submission_point(NULL, &point));

  /* Work of another device. */
  vkattn_device_options options = VKATTN_INIT(vkattn_device_options);
  options.queue_limit = 1;
  vkattn_device second = NULL;
  OK(vkattn_device_open(&options, &second));
  vkattn_recorder theirs = NULL;
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_create(second, &theirs));
  EXPECT_STATUS(VKATTN_WRONG_DEVICE, vkattn_recorder_submit_to(theirs, &info, NULL));
  OK(vkattn_recorder_submit(theirs, &submission)), OK(vkattn_recorder_free(theirs));
  info.after = &submission;
  info.after_count = 1;
  EXPECT_STATUS(VKATTN_WRONG_DEVICE, vkattn_recorder_submit_to(recorder, &info, NULL));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_submission_point(submission, NULL));
  OK(vkattn_submission_free(submission)), OK(vkattn_device_free(second));

  /* Nothing of that has used the recorder up. */
  info.after_count = 0;
  OK(vkattn_recorder_submit_to(recorder, &info, NULL)), OK(vkattn_recorder_free(recorder));
  OK(vkattn_stream_free(stream)), OK(vkattn_stream_free(NULL));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_stream_free(stream));
}

void test_streams(void) {
  chain();
  lists();
  refusals();
}
