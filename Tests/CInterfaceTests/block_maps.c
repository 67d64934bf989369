/* Block maps: computed from a mask, and used by the attention that they are of. */
#include "tensors.h"

enum { S = 150, T = 200, H = 2, D = 16, R = 64, C = 128, I = 3, J = 2 };

void test_block_maps(void) {
  /* Rows of blocks: hidden and seen, mixed and seen, then all but one key of the last hidden. */
  uint8_t seen[S * T];
  for (int i = 0; i < S; i++)
    for (int j = 0; j < T; j++)
      seen[i * T + j] = i < R ? j >= C : i < 2 * R ? j >= C || (i + j) % 3 == 0 : j == T - 1;
  int32_t map[I * J];
  const int32_t expected_map[I * J] = {0, 2, 1, 2, 0, 1};
  const vkattn_operand operands[] = {
      {VKATTN_TENSOR_MASK, 0, VKATTN_SHARED_BATCH | VKATTN_SHARED_HEADS, 0, NULL},
      {VKATTN_TENSOR_BLOCK_MAP, 0, VKATTN_SHARED_BATCH | VKATTN_SHARED_HEADS, 0, NULL}};
  vkattn_mask mask = VKATTN_INIT(vkattn_mask);
  mask.block_map_rows = R;
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = S;
  request.key_tokens = T;
  request.query_heads = H;
  request.head_size = D;
  request.mask = &mask;
  request.operands = operands;
  request.operand_count = 2;
  vkattn_plan plan = NULL;
  OK(vkattn_block_map_plan_create(device, &request, &plan));
  const tensor of_map[] = {READ(MASK, seen, sizeof(seen)), WRITTEN(BLOCK_MAP, map, sizeof(map))};
  run_plan("block map", plan, of_map, 2);
  expect_same("block map", map, expected_map, I * J);

  /* Attention with the map is attention with the mask; what a map of one's own hides is hidden. */
  float *q = numbers(S * H * D, 311), *k = numbers(T * H * D, 312), *v = numbers(T * H * D, 313);
  float *bias = zeros(S * T), *o = nans(S * H * D);
  double *expected = malloc(sizeof(double) * S * H * D);
  for (int own = 0; own < 2; own++) {
    if (own) map[1] = 0;
    for (int i = 0; i < S * T; i++)
      bias[i] = seen[i] && !(own && i / T < R && i % T >= C) ? 0 : -INFINITY;
    const attention_problem problem = {.batch = 1, .queries = S, .keys = T, .heads = H, .key_heads = H,
                                       .size = D, .value_size = D, .q = q, .k = k, .v = v,
                                       .window_left = -1, .bias = bias};
    reference_attention(&problem, expected, NULL, NULL);
    OK(vkattn_attention_plan_create(device, &request, &plan));
    const tensor tensors[] = {READ(QUERY, q, 4 * S * H * D),    READ(KEY, k, 4 * T * H * D),
                              READ(VALUE, v, 4 * T * H * D),    READ(MASK, seen, sizeof(seen)),
                              READ(BLOCK_MAP, map, sizeof(map)), WRITTEN(OUTPUT, o, 4 * S * H * D)};
    run_plan("attention with a block map", plan, tensors, 6);
    expect_close("attention with a block map", o, expected, S * H * D, 1e-5);
  }

  mask.block_map_rows = 96;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_block_map_plan_create(device, &request, &plan));
  mask.block_map_rows = R;
  mask.block_map_keys = 8192;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_attention_plan_create(device, &request, &plan));
  mask.block_map_keys = INT64_MIN;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_attention_plan_create(device, &request, &plan));
  /* A header from before blocks had sizes: what lies behind its mask is not looked at. */
  mask.struct_size = offsetof(vkattn_mask, block_map_rows);
  OK(vkattn_block_map_plan_create(device, &request, &plan));
  size_t bytes = 0;
  OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_BLOCK_MAP, &bytes));
  EXPECT(bytes == 4 * 2 * 2);
  OK(vkattn_plan_free(plan));
  request.operand_count = 1;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_block_map_plan_create(device, &request, &plan));
  REFUSED(VKATTN_NULL_POINTER, vkattn_block_map_plan_create(device, NULL, &plan));
  REFUSED(VKATTN_NULL_POINTER, vkattn_block_map_plan_create(NULL, &request, &plan));
  free(q), free(k), free(v), free(bias), free(o), free(expected);
}
