/* Everything that a caller can get wrong has a status; nothing ends the process. */
#include "support.h"

enum { S = 4, H = 2, D = 16, BYTES = 4 * S * H * D };

static vkattn_attention_request small_request(void) {
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = request.key_tokens = S;
  request.query_heads = H;
  request.head_size = D;
  return request;
}

static vkattn_status plan_status(const vkattn_attention_request *request) {
  vkattn_plan plan = NULL;
  vkattn_status status = vkattn_attention_plan_create(device, request, &plan);
  EXPECT((status == VKATTN_OK) == (plan != NULL));
  EXPECT(status == VKATTN_OK || strlen(vkattn_last_error()) > 10);
  OK(vkattn_plan_free(plan));
  return status;
}

static void nulls(void) {
  vkattn_device_info device_info = VKATTN_INIT(vkattn_device_info);
  vkattn_plan_info plan_info = VKATTN_INIT(vkattn_plan_info);
  vkattn_buffer_info buffer_info = VKATTN_INIT(vkattn_buffer_info);
  vkattn_attention_request request = small_request();
  vkattn_step_info step = VKATTN_INIT(vkattn_step_info);
  vkattn_buffer buffer = NULL;
  vkattn_plan plan = NULL;
  vkattn_kernel kernel = NULL;
  vkattn_recorder recorder = NULL;
  size_t size = 0;
  int32_t number = 0;
  uint64_t table[8];
  void *bytes = NULL;
  const vkattn_status null = VKATTN_NULL_POINTER;
  EXPECT_STATUS(null, vkattn_device_count(NULL));
  EXPECT_STATUS(null, vkattn_device_describe(0, NULL));
  EXPECT_STATUS(null, vkattn_device_open(NULL, NULL));
  EXPECT_STATUS(null, vkattn_device_get_info(NULL, &device_info));
  EXPECT_STATUS(null, vkattn_device_get_info(device, NULL));
  EXPECT_STATUS(null, vkattn_device_is_lost(NULL, &number));
  EXPECT_STATUS(null, vkattn_device_is_lost(device, NULL));
  EXPECT_STATUS(null, vkattn_device_save_pipelines(NULL));
  EXPECT_STATUS(null, vkattn_device_take_validation_messages(NULL, NULL, NULL, NULL));
  EXPECT_STATUS(null, vkattn_buffer_create(NULL, 4, 0, NULL, &buffer));
  EXPECT_STATUS(null, vkattn_buffer_create(device, 4, 0, NULL, NULL));
  EXPECT_STATUS(null, vkattn_buffer_slice(NULL, 0, 0, &buffer));
  EXPECT_STATUS(null, vkattn_buffer_get_info(NULL, &buffer_info));
  EXPECT_STATUS(null, vkattn_buffer_upload(NULL, 0, &number, 4));
  EXPECT_STATUS(null, vkattn_buffer_download(NULL, 0, &number, 4));
  EXPECT_STATUS(null, vkattn_buffer_map(NULL, &bytes));
  EXPECT_STATUS(null, vkattn_attention_plan_create(NULL, &request, &plan));
  EXPECT_STATUS(null, vkattn_attention_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_attention_plan_create(device, &request, NULL));
  EXPECT_STATUS(null, vkattn_statistics_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_merge_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_rotate_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_append_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_compact_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_copy_pages_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_decode_plan_create(device, NULL, &plan));
  EXPECT_STATUS(null, vkattn_linear_plan_create(device, NULL, &plan));
  /* Structures inside of structures. */
  vkattn_statistics_request statistics = VKATTN_INIT(vkattn_statistics_request);
  EXPECT_STATUS(null, vkattn_statistics_plan_create(device, &statistics, &plan));
  vkattn_append_request append = VKATTN_INIT(vkattn_append_request);
  EXPECT_STATUS(null, vkattn_append_plan_create(device, &append, &plan));
  vkattn_rotate_request rotate = VKATTN_INIT(vkattn_rotate_request);
  EXPECT_STATUS(null, vkattn_rotate_plan_create(device, &rotate, &plan));
  vkattn_decode_request decode = VKATTN_INIT(vkattn_decode_request);
  EXPECT_STATUS(null, vkattn_decode_plan_create(device, &decode, &plan));
  request.operand_count = 1;
  EXPECT_STATUS(null, vkattn_attention_plan_create(device, &request, &plan));
  EXPECT_STATUS(null, vkattn_plan_get_info(NULL, &plan_info));
  EXPECT_STATUS(null, vkattn_plan_byte_count(NULL, VKATTN_TENSOR_QUERY, &size));
  EXPECT_STATUS(null, vkattn_plan_describe(NULL, NULL, 0, &size));
  EXPECT_STATUS(null, vkattn_kernel_create(NULL, &kernel));
  EXPECT_STATUS(null, vkattn_kernel_run(NULL, NULL, 0, NULL, NULL));
  EXPECT_STATUS(null, vkattn_recorder_create(NULL, &recorder));
  EXPECT_STATUS(null, vkattn_recorder_create(device, NULL));
  EXPECT_STATUS(null, vkattn_recorder_record(NULL, NULL, NULL, 0));
  EXPECT_STATUS(null, vkattn_recorder_prepare_step(NULL, NULL, &step, NULL));
  EXPECT_STATUS(null, vkattn_recorder_prepare_replay_step(NULL, NULL, &step, NULL));
  EXPECT_STATUS(null, vkattn_recorder_update_step(NULL, NULL, NULL, &step));
  EXPECT_STATUS(null, vkattn_recorder_create_for_replay(NULL, &recorder));
  EXPECT_STATUS(null, vkattn_recorder_create_for_replay(device, NULL));
  EXPECT_STATUS(null, vkattn_command_list_create(NULL, NULL));
  EXPECT_STATUS(null, vkattn_command_list_submit(NULL, NULL));
  EXPECT_STATUS(null, vkattn_recorder_record_layer(NULL, NULL, NULL, NULL, 0));
  EXPECT_STATUS(null, vkattn_recorder_copy(NULL, NULL, 0, NULL, 0, 0));
  EXPECT_STATUS(null, vkattn_recorder_fill(NULL, NULL, 0, 0, 0));
  EXPECT_STATUS(null, vkattn_recorder_timestamp(NULL));
  EXPECT_STATUS(null, vkattn_recorder_submit(NULL, NULL));
  EXPECT_STATUS(null, vkattn_submission_wait(NULL, 1));
  EXPECT_STATUS(null, vkattn_submission_is_complete(NULL, &number));
  EXPECT_STATUS(null, vkattn_submission_timestamps(NULL, NULL, 0, &size));
  EXPECT_STATUS(null, vkattn_decode_workspace_byte_count(NULL, &step, &size));
  EXPECT_STATUS(null, vkattn_decode_run(NULL, &step, NULL, 0));
  EXPECT_STATUS(null, vkattn_rotary_frequency_table(NULL, table, 8));
  /* Nothing is freed. */
  OK(vkattn_device_free(NULL)), OK(vkattn_buffer_free(NULL)), OK(vkattn_plan_free(NULL));
  OK(vkattn_kernel_free(NULL)), OK(vkattn_recorder_free(NULL)), OK(vkattn_submission_free(NULL));
  OK(vkattn_step_free(NULL)), OK(vkattn_command_list_free(NULL));
}

static void structures(void) {
  vkattn_attention_request request = small_request();
  EXPECT(plan_status(&request) == VKATTN_OK);
  static const size_t sizes[] = {0, 1, 7, 4097, SIZE_MAX};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    request.struct_size = sizes[i];
    EXPECT(plan_status(&request) == VKATTN_BAD_STRUCTURE);
  }
  /* An older header's structure: what it does not have is 0. */
  request.struct_size = offsetof(vkattn_attention_request, operands);
  request.operand_count = 12345;
  EXPECT(plan_status(&request) == VKATTN_OK);
  /* A newer header's structure: its own fields must be 0. */
  struct {
    vkattn_attention_request known;
    uint64_t added;
  } newer = {small_request(), 0};
  newer.known.struct_size = sizeof(newer);
  EXPECT(plan_status(&newer.known) == VKATTN_OK);
  newer.added = 1;
  EXPECT(plan_status(&newer.known) == VKATTN_BAD_STRUCTURE);
  /* An older header's place for an answer is not overrun. */
  vkattn_device_info info;
  memset(&info, 0x55, sizeof(info));
  info.struct_size = offsetof(vkattn_device_info, kind);
  OK(vkattn_device_get_info(device, &info));
  EXPECT(info.struct_size == offsetof(vkattn_device_info, kind));
  EXPECT(info.max_allocation_bytes != 0x5555555555555555u && info.kind == 0x55555555);
  info.struct_size = sizeof(info);
  OK(vkattn_device_get_info(device, &info));
  EXPECT(info.kind >= VKATTN_DEVICE_DISCRETE && info.kind <= VKATTN_DEVICE_OTHER);
  EXPECT(memchr(info.name, 0, sizeof(info.name)) != NULL && strlen(info.name) > 0);
  EXPECT(strlen(info.device_uuid) == 32);
  vkattn_device_info listed = VKATTN_INIT(vkattn_device_info);
  OK(vkattn_device_describe(info.index, &listed));
  EXPECT(strcmp(info.device_uuid, listed.device_uuid) == 0);
  int32_t count = 0;
  OK(vkattn_device_count(&count));
  EXPECT(count > info.index);
  EXPECT_STATUS(VKATTN_NO_DEVICE, vkattn_device_describe(count, &listed));
  EXPECT_STATUS(VKATTN_NO_DEVICE, vkattn_device_describe(-1, &listed));
}

static void requests(void) {
  static const int64_t extremes[] = {-1, INT64_MIN, INT64_MAX, (int64_t)1 << 31, (int64_t)1 << 62};
  for (size_t i = 0; i < sizeof(extremes) / sizeof(extremes[0]); i++) {
    const int64_t x = extremes[i];
    vkattn_attention_request request = small_request();
    int64_t *fields[] = {&request.batch_size, &request.query_tokens, &request.key_tokens,
                         &request.query_heads, &request.key_heads, &request.head_size,
                         &request.value_head_size};
    for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
      const int64_t kept = *fields[f];
      *fields[f] = x;
      EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
      *fields[f] = kept;
    }
    request.flags = VKATTN_ATTENTION_PACKED;
    request.packed_query_tokens = request.packed_key_tokens = x;
    EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
    request = small_request();
    const vkattn_strides strides = {x, x, x};
    /* Strides have 32 bits: these are far apart, and allowed. */
    const int is_far = x == (int64_t)1 << 31;
    request.query_strides = &strides;
    EXPECT(plan_status(&request) == (is_far ? VKATTN_OK : VKATTN_INVALID_ARGUMENT));
    request.query_strides = NULL;
    request.output_strides = &strides;
    EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
    request.output_strides = NULL;
    vkattn_mask mask = VKATTN_INIT(vkattn_mask);
    request.mask = &mask;
    mask.flags = VKATTN_MASK_CAUSAL | VKATTN_MASK_WINDOW_LEFT | VKATTN_MASK_WINDOW_RIGHT;
    int64_t *windows[] = {&mask.causal_block, &mask.prefix_tokens, &mask.window_left,
                          &mask.window_right, &mask.chunk_size,    &mask.sink_tokens};
    for (size_t f = 0; f < sizeof(windows) / sizeof(windows[0]); f++) {
      *windows[f] = x;
      EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
      *windows[f] = 0;
    }
    request.mask = NULL;
    vkattn_scores scores = VKATTN_INIT(vkattn_scores);
    request.scores = &scores;
    int64_t *extents[] = {&scores.relative_left, &scores.relative_right, &scores.grid_height,
                          &scores.grid_width, &scores.tree_tokens};
    for (size_t f = 0; f < sizeof(extents) / sizeof(extents[0]); f++) {
      *extents[f] = x;
      EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
      *extents[f] = 0;
    }
    request.scores = NULL;

    vkattn_plan plan = NULL;
    vkattn_merge_request merge = VKATTN_INIT(vkattn_merge_request);
    merge.row_count = merge.head_count = merge.partial_count = 2;
    merge.value_head_size = 8;
    int64_t *merged[] = {&merge.row_count, &merge.head_count, &merge.partial_count,
                         &merge.value_head_size};
    for (size_t f = 0; f < sizeof(merged) / sizeof(merged[0]); f++) {
      const int64_t kept = *merged[f];
      *merged[f] = x;
      EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_merge_plan_create(device, &merge, &plan));
      *merged[f] = kept;
    }
    const vkattn_state_strides apart = {x, x, x};
    merge.output_strides = &apart;
    vkattn_status status = vkattn_merge_plan_create(device, &merge, &plan);
    EXPECT((status == VKATTN_OK) == is_far);
    if (is_far) OK(vkattn_plan_free(plan));

    vkattn_linear_request linear = VKATTN_INIT(vkattn_linear_request);
    linear.batch_size = linear.value_heads = 1;
    linear.tokens = linear.key_head_size = 8;
    int64_t *lines[] = {&linear.batch_size,      &linear.tokens,          &linear.value_heads,
                        &linear.key_head_size,   &linear.value_head_size, &linear.key_heads,
                        &linear.updates_per_token, &linear.longest_sequence, &linear.state_count};
    for (size_t f = 0; f < sizeof(lines) / sizeof(lines[0]); f++) {
      const int64_t kept = *lines[f];
      *lines[f] = x;
      EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_linear_plan_create(device, &linear, &plan));
      *lines[f] = kept;
    }
    linear.flags = VKATTN_LINEAR_PACKED;
    linear.packed_sequences = x;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_linear_plan_create(device, &linear, &plan));

    vkattn_cache_tensor tensor = VKATTN_INIT(vkattn_cache_tensor);
    tensor.format = VKATTN_CACHE_INT8;
    tensor.arrangement = VKATTN_CACHE_CONTIGUOUS;
    tensor.block_count = tensor.block_tokens = tensor.heads = 2;
    tensor.channels = tensor.scale_group = 16;
    vkattn_cache cache = VKATTN_INIT(vkattn_cache);
    cache.key = &tensor;
    vkattn_rotary rotary = VKATTN_INIT(vkattn_rotary);
    rotary.channels = 16;
    vkattn_append_request append = VKATTN_INIT(vkattn_append_request);
    append.cache = &cache;
    append.tokens = 3;
    append.rotary = &rotary;
    OK(vkattn_append_plan_create(device, &append, &plan));
    OK(vkattn_plan_free(plan));
    int64_t *cached[] = {&tensor.block_count, &tensor.block_tokens, &tensor.heads, &tensor.channels,
                         &tensor.scale_group, &append.tokens, &rotary.channels,
                         &cache.page_table_sequences, &cache.page_table_entries};
    for (size_t f = 0; f < sizeof(cached) / sizeof(cached[0]); f++) {
      const int64_t kept = *cached[f];
      *cached[f] = x;
      EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_append_plan_create(device, &append, &plan));
      *cached[f] = kept;
    }
    vkattn_compact_request compact = VKATTN_INIT(vkattn_compact_request);
    compact.cache = &cache;
    compact.nodes = x;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_compact_plan_create(device, &compact, &plan));
    vkattn_copy_pages_request copy = VKATTN_INIT(vkattn_copy_pages_request);
    copy.cache = &cache;
    copy.copies = x;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_copy_pages_plan_create(device, &copy, &plan));
    vkattn_decode_request decode = VKATTN_INIT(vkattn_decode_request);
    decode.batch_size = decode.query_heads = 2;
    decode.key_cache = decode.value_cache = &tensor;
    int64_t *steps[] = {&decode.batch_size,      &decode.query_tokens,          &decode.query_heads,
                        &decode.value_head_size, &decode.max_key_tokens, &decode.key_rotation_channels,
                        &decode.mode_value};
    for (size_t f = 0; f < sizeof(steps) / sizeof(steps[0]); f++) {
      const int64_t kept = *steps[f];
      *steps[f] = x;
      EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_plan_create(device, &decode, &plan));
      *steps[f] = kept;
    }
  }
  /* Products that do not fit. */
  vkattn_attention_request request = small_request();
  request.batch_size = request.query_tokens = request.key_tokens = request.query_heads = 1 << 29;
  EXPECT(plan_status(&request) == VKATTN_TOO_LARGE);
  /* Numbers that stand for nothing, flags and reserved fields. */
  request = small_request();
  request.element_type = 9;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request = small_request();
  request.path = -3;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request = small_request();
  request.flags = 1u << 31;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request = small_request();
  request.reserved = 1;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request = small_request();
  request.scale = 2;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request.flags = VKATTN_ATTENTION_SCALE;
  EXPECT(plan_status(&request) == VKATTN_OK);
  request.scale = NAN;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request = small_request();
  vkattn_operand operands[2] = {{VKATTN_TENSOR_BETA, 0, 0, 0, NULL}, {VKATTN_TENSOR_BIAS, 0, 0, 0, NULL}};
  request.operands = operands;
  request.operand_count = 1;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  operands[0].tensor = 31;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  operands[0].tensor = VKATTN_TENSOR_BIAS;
  EXPECT(plan_status(&request) == VKATTN_OK);
  request.operand_count = 2;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request.operand_count = SIZE_MAX;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  request.operand_count = 1;
  operands[0].shared_axes = 256;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  operands[0].shared_axes = 0;
  operands[0].tensor = VKATTN_TENSOR_FINAL_MAX;
  EXPECT(plan_status(&request) == VKATTN_INVALID_ARGUMENT);
  vkattn_rotary rotary = VKATTN_INIT(vkattn_rotary);
  rotary.channels = 8;
  uint64_t table[4];
  static const double bad[] = {-1, 1, NAN, INFINITY};
  for (int i = 0; i < 4; i++) {
    rotary.theta = bad[i];
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_rotary_frequency_table(&rotary, table, 4));
  }
  rotary.theta = 0;
  rotary.scaling = VKATTN_ROTARY_YARN;
  rotary.factor = 1e-300;
  rotary.original_context = INT64_MAX;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_rotary_frequency_table(&rotary, table, 4));
  rotary.original_context = 2048;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_rotary_frequency_table(&rotary, table, 4));
  rotary.factor = 4;
  OK(vkattn_rotary_frequency_table(&rotary, table, 4));
}

static void buffers(void) {
  vkattn_buffer buffer = NULL, slice = NULL;
  char bytes[64];
  EXPECT_STATUS(VKATTN_LIMIT_EXCEEDED, vkattn_buffer_create(device, SIZE_MAX, 0, NULL, &buffer));
  EXPECT_STATUS(VKATTN_LIMIT_EXCEEDED, vkattn_buffer_create(device, SIZE_MAX / 2, 0, NULL, &buffer));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_buffer_create(device, 8, 3, NULL, &buffer));
  EXPECT(buffer == NULL);
  OK(vkattn_buffer_create(device, 64, VKATTN_MEMORY_DEVICE, "named", &buffer));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_upload(buffer, 0, bytes, 65));
  EXPECT(strstr(vkattn_last_error(), "named") != NULL);
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_upload(buffer, 1, bytes, 64));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_download(buffer, SIZE_MAX, bytes, 2));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_download(buffer, SIZE_MAX / 2, bytes, SIZE_MAX / 2));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_slice(buffer, 60, 5, &slice));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_upload(buffer, 0, NULL, 4));
  OK(vkattn_buffer_upload(buffer, 64, NULL, 0));
  for (int i = 0; i < 64; i++) bytes[i] = (char)i;
  OK(vkattn_buffer_upload(buffer, 0, bytes, 64));
  OK(vkattn_buffer_slice(buffer, 8, 16, &slice));
  OK(vkattn_buffer_free(buffer));
  /* The slice keeps the memory. */
  vkattn_buffer_info info = VKATTN_INIT(vkattn_buffer_info);
  OK(vkattn_buffer_get_info(slice, &info));
  EXPECT(info.byte_count == 16 && info.device_address % 256 == 8);
  memset(bytes, 0, sizeof(bytes));
  OK(vkattn_buffer_download(slice, 4, bytes, 12));
  EXPECT(bytes[0] == 12 && bytes[11] == 23 && bytes[12] == 0);
  if (info.is_host_visible) {
    void *mapped = NULL;
    OK(vkattn_buffer_map(slice, &mapped));
    EXPECT(mapped != NULL && ((char *)mapped)[0] == 8);
  }
  OK(vkattn_buffer_free(slice));
}

static void handles(void) {
  vkattn_buffer buffer = NULL, other = NULL;
  vkattn_plan plan = NULL;
  vkattn_buffer_info info = VKATTN_INIT(vkattn_buffer_info);
  char byte = 0;
  OK(vkattn_buffer_create(device, 4, VKATTN_MEMORY_DEVICE, NULL, &buffer));
  OK(vkattn_buffer_free(buffer));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free(buffer));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_get_info(buffer, &info));
  /* Its place has a new tenant: the old handle is not the new one. */
  OK(vkattn_buffer_create(device, 4, VKATTN_MEMORY_DEVICE, NULL, &other));
  EXPECT(other != buffer);
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_get_info(buffer, &info));
  /* Another kind, addresses of this process, and numbers. */
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_plan_free((vkattn_plan)(void *)other));
  EXPECT(strstr(vkattn_last_error(), "buffer") != NULL);
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free((vkattn_buffer)(void *)device));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free((vkattn_buffer)(void *)&byte));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free((vkattn_buffer)(uintptr_t)1));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free((vkattn_buffer)UINTPTR_MAX));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_buffer_free((vkattn_buffer)((uintptr_t)other + 16)));
  OK(vkattn_buffer_free(other));
  vkattn_attention_request request = small_request();
  OK(vkattn_attention_plan_create(device, &request, &plan));
  OK(vkattn_plan_free(plan));
  vkattn_kernel kernel = NULL;
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_kernel_create(plan, &kernel));
  EXPECT(kernel == NULL);
}

static void bindings(void) {
  float *zero = zeros(S * H * D);
  vkattn_attention_request request = small_request();
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(device, &request, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer q = buffer_of(zero, BYTES), k = buffer_of(zero, BYTES), v = buffer_of(zero, BYTES);
  vkattn_buffer o = output_buffer(BYTES), twice = output_buffer(2 * BYTES);
  vkattn_binding all[6] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, q), VKATTN_BIND(VKATTN_TENSOR_KEY, k),
                           VKATTN_BIND(VKATTN_TENSOR_VALUE, v), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, o),
                           VKATTN_BIND(VKATTN_TENSOR_SINKS, twice), {0, 0, NULL, 0, 0}};
  OK(vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_kernel_run(kernel, NULL, 4, NULL, NULL));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, SIZE_MAX, NULL, NULL));
  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_kernel_run(kernel, all, 3, NULL, NULL));
  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_kernel_run(kernel, NULL, 0, NULL, NULL));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, 5, NULL, NULL));
  all[4] = all[0];
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, 5, NULL, NULL));
  all[4].index = 1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, 5, NULL, NULL));
  all[4].index = -1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, 5, NULL, NULL));
  all[4].tensor = 12345;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, all, 5, NULL, NULL));
  all[3].buffer = q;
  EXPECT_STATUS(VKATTN_OVERLAP, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].buffer = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].buffer = o;
  all[3].byte_count = BYTES - 4;
  EXPECT_STATUS(VKATTN_BUFFER_TOO_SMALL, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].byte_count = BYTES + 4;
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].offset = SIZE_MAX;
  all[3].byte_count = 0;
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].buffer = twice;
  all[3].offset = 4;
  EXPECT_STATUS(VKATTN_MISALIGNED, vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  all[3].offset = BYTES;
  OK(vkattn_kernel_run(kernel, all, 4, NULL, NULL));
  OK(vkattn_buffer_free(k));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_kernel_run(kernel, all, 4, NULL, NULL));

  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  EXPECT_STATUS(VKATTN_OVERLAP, vkattn_recorder_copy(recorder, q, 0, q, 4, 16));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_recorder_copy(recorder, q, 0, v, BYTES, 4));
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_recorder_fill(recorder, q, 0, 6, 0));
  OK(vkattn_recorder_fill(recorder, q, 0, 8, 0x01020304));
  OK(vkattn_recorder_copy(recorder, q, 0, v, 16, 8));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_recorder_record_layer(recorder, kernel, NULL, NULL, 0));
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(recorder, &submission));
  EXPECT_STATUS(VKATTN_ALREADY_SUBMITTED, vkattn_recorder_fill(recorder, q, 0, 8, 0));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_submission_wait(submission, NAN));
  OK(vkattn_submission_wait(submission, INFINITY));
  uint32_t words[2] = {0, 0};
  OK(vkattn_buffer_download(v, 16, words, 8));
  EXPECT(words[0] == 0x01020304 && words[1] == 0x01020304);
  OK(vkattn_recorder_free(recorder)), OK(vkattn_submission_free(submission));
  OK(vkattn_kernel_free(kernel)), OK(vkattn_buffer_free(q)), OK(vkattn_buffer_free(v));
  OK(vkattn_buffer_free(o)), OK(vkattn_buffer_free(twice));
  free(zero);
}

typedef struct heard {
  int messages;
  int opened;
  vkattn_status nested;
} heard;

static void listen(void *context, vkattn_log_level level, const char *message) {
  heard *note = context;
  int32_t count = 0;
  note->messages++;
  if (level == VKATTN_LOG_INFO && strstr(message, "opened device") != NULL) note->opened++;
  note->nested = vkattn_device_count(&count);
}

static int32_t stop(void *context, double share) {
  heard *note = context;
  note->messages++;
  note->nested = vkattn_device_is_lost(device, &note->opened);
  return share < 1;
}

/* A second device: with a log, without host access to its memory, in memory only. */
static void other_device(void) {
  heard note = {0, 0, VKATTN_OK};
  vkattn_device_options options = VKATTN_INIT(vkattn_device_options);
  options.selection = "no such device";
  vkattn_device second = NULL;
  EXPECT_STATUS(VKATTN_NO_DEVICE, vkattn_device_open(&options, &second));
  EXPECT(strstr(vkattn_last_error(), "no such device") != NULL && second == NULL);
  options.selection = "best";
  options.flags = 64;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_open(&options, &second));
  options.flags = 0;
  options.pipeline_cache_directory = "";
  options.memory_limit = 1 << 20;
  OK(vkattn_device_open(&options, &second));
  vkattn_buffer bounded = NULL, beyond = NULL;
  OK(vkattn_buffer_create(second, 900 << 10, VKATTN_MEMORY_DEVICE, NULL, &bounded));
  EXPECT_STATUS(VKATTN_LIMIT_EXCEEDED,
                vkattn_buffer_create(second, 900 << 10, VKATTN_MEMORY_DEVICE, NULL, &beyond));
  OK(vkattn_buffer_free(bounded)), OK(vkattn_device_free(second));
  second = NULL;
  options.memory_limit = 0;
  options.flags = VKATTN_DEVICE_FORCES_STAGING;
  options.log = listen;
  options.log_context = &note;
  OK(vkattn_device_open(&options, &second));
  EXPECT(note.opened == 1 && note.nested == VKATTN_IN_CALLBACK);
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_device_take_validation_messages(second, listen, &note, NULL));
  enum { LARGE = (8 << 20) + 4096 };
  vkattn_buffer buffer = NULL, mine = NULL;
  OK(vkattn_buffer_create(second, LARGE, VKATTN_MEMORY_DEVICE, NULL, &buffer));
  void *mapped = NULL;
  EXPECT_STATUS(VKATTN_NOT_HOST_VISIBLE, vkattn_buffer_map(buffer, &mapped));
  /* Through two staging buffers. */
  unsigned char *bytes = malloc(LARGE), *back = calloc(LARGE, 1);
  for (int i = 0; i < LARGE; i++) bytes[i] = (unsigned char)(i * 7 + i / 4099);
  OK(vkattn_buffer_upload(buffer, 0, bytes, LARGE));
  OK(vkattn_buffer_download(buffer, 0, back, LARGE));
  EXPECT(memcmp(bytes, back, LARGE) == 0);
  free(bytes), free(back);
  /* Objects of two devices do not mix. */
  OK(vkattn_buffer_create(device, BYTES, VKATTN_MEMORY_DEVICE, NULL, &mine));
  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(second, &recorder));
  EXPECT_STATUS(VKATTN_WRONG_DEVICE, vkattn_recorder_fill(recorder, mine, 0, 8, 0));
  /* Children outlive the handle that they were made from. */
  OK(vkattn_device_free(second));
  OK(vkattn_recorder_fill(recorder, buffer, 0, 8, 1));
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(recorder, &submission));
  OK(vkattn_submission_wait(submission, -1));
  OK(vkattn_recorder_free(recorder)), OK(vkattn_submission_free(submission));
  OK(vkattn_buffer_free(buffer)), OK(vkattn_buffer_free(mine));
}

/* A long attention in pieces, ended behind the first. */
static void cancellation(void) {
  enum { LONG = 4096, HEADS = 16, SIZE = 64 };
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = request.key_tokens = LONG;
  request.query_heads = HEADS;
  request.key_heads = 1;
  request.head_size = SIZE;
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(device, &request, &plan));
  vkattn_plan_info info = VKATTN_INIT(vkattn_plan_info);
  OK(vkattn_plan_get_info(plan, &info));
  vkattn_kernel kernel = kernel_of(plan);
  if (info.piece_count > 2) {
    float *zero = zeros((size_t)LONG * HEADS * SIZE);
    const size_t bytes = 4 * (size_t)LONG * HEADS * SIZE;
    vkattn_buffer q = buffer_of(zero, bytes), k = buffer_of(zero, bytes / HEADS), o = buffer_of(zero, bytes);
    const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, q), VKATTN_BIND(VKATTN_TENSOR_KEY, k),
                                       VKATTN_BIND(VKATTN_TENSOR_VALUE, k), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, o)};
    heard note = {0, 0, VKATTN_OK};
    EXPECT_STATUS(VKATTN_CANCELLED, vkattn_kernel_run(kernel, bindings, 4, stop, &note));
    EXPECT(note.messages >= 1 && note.messages < info.piece_count && note.nested == VKATTN_IN_CALLBACK);
    OK(vkattn_buffer_free(q)), OK(vkattn_buffer_free(k)), OK(vkattn_buffer_free(o));
    free(zero);
  } else {
    printf("cancellation: not looked at, the device takes %d pieces\n", (int)info.piece_count);
  }
  OK(vkattn_kernel_free(kernel));
}

void test_errors(void) {
  nulls();
  structures();
  requests();
  buffers();
  handles();
  bindings();
  other_device();
  cancellation();
}
