#include "support.h"

int failures = 0;
int expectations = 0;
vkattn_device device = NULL;

int expect_status(vkattn_status expected, vkattn_status actual, const char *call, const char *file,
                  int line) {
  expectations++;
  if (expected == actual) return 1;
  failures++;
  printf("%s:%d: %s: %s instead of %s: %s\n", file, line, call, vkattn_status_name(actual),
         vkattn_status_name(expected), vkattn_last_error());
  return 0;
}

static void *allocated(size_t byte_count) {
  void *memory = malloc(byte_count > 0 ? byte_count : 1);
  if (memory == NULL) {
    puts("out of memory");
    exit(2);
  }
  return memory;
}

float next_number(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)((double)(*state >> 40) / (double)(1 << 23) - 1.0);
}

float *numbers(size_t count, uint64_t seed) {
  float *made = allocated(count * sizeof(float));
  uint64_t state = seed * 2862933555777941757u + 3037000493u;
  for (size_t i = 0; i < count; i++) made[i] = next_number(&state);
  return made;
}

float *nans(size_t count) {
  float *made = allocated(count * sizeof(float));
  for (size_t i = 0; i < count; i++) made[i] = NAN;
  return made;
}

float *zeros(size_t count) {
  float *made = allocated(count * sizeof(float));
  for (size_t i = 0; i < count; i++) made[i] = 0;
  return made;
}

/* Binary16, rounded to nearest even; for numbers within its normal range, and 0. */
uint16_t half_of(float number) {
  uint32_t bits;
  memcpy(&bits, &number, 4);
  uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude < 0x38800000u) {
    /* Below the smallest normal number: in units of 2^-24. */
    return (uint16_t)(sign | (uint32_t)nearbyint(fabs((double)number) * 16777216.0));
  }
  magnitude -= 0x38000000u;
  magnitude += 0xFFFu + (magnitude >> 13 & 1u);
  return (uint16_t)(sign | magnitude >> 13);
}

float float_of_half(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  double magnitude = exponent == 0 ? ldexp(bits & 1023, -24)
                                   : ldexp((bits & 1023) + 1024, exponent - 25);
  return (float)(bits & 0x8000 ? -magnitude : magnitude);
}

uint16_t *halves_of(const float *from, size_t count) {
  uint16_t *made = allocated(count * sizeof(uint16_t));
  for (size_t i = 0; i < count; i++) made[i] = half_of(from[i]);
  return made;
}

vkattn_buffer buffer_of(const void *bytes, size_t byte_count) {
  vkattn_buffer buffer = NULL;
  OK(vkattn_buffer_create(device, byte_count, VKATTN_MEMORY_DEVICE, "test", &buffer));
  OK(vkattn_buffer_upload(buffer, 0, bytes, byte_count));
  return buffer;
}

vkattn_buffer output_buffer(size_t byte_count) {
  float *poison = nans((byte_count + 3) / 4);
  vkattn_buffer buffer = buffer_of(poison, byte_count);
  free(poison);
  return buffer;
}

void get_floats(vkattn_buffer buffer, float *to, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = NAN;
  OK(vkattn_buffer_download(buffer, 0, to, count * sizeof(float)));
}

void expect_close(const char *name, const float *actual, const double *expected, size_t count,
                  double gate) {
  double error = 0, size = 0;
  for (size_t i = 0; i < count; i++) {
    /* Infinities must be the same. */
    if (isinf(expected[i]) && (double)actual[i] == expected[i]) continue;
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  double ratio = sqrt(error / (size > 0 ? size : 1));
  expectations++;
  if (!(ratio <= gate)) {
    failures++;
    printf("%s: error %.3g, allowed %.3g\n", name, ratio, gate);
  }
}

void reference_attention(const attention_problem *a, double *o, double *lse, double *p) {
  double *s = allocated((size_t)(a->keys + 1) * sizeof(double));
  for (int b = 0; b < a->batch; b++) {
    int length = a->lengths != NULL ? a->lengths[b] : a->keys;
    for (int i = 0; i < a->queries; i++) {
      for (int h = 0; h < a->heads; h++) {
        int g = h / (a->heads / a->key_heads);
        int position = i + length - a->queries;
        const float *q = a->q + ((b * a->queries + i) * a->heads + h) * a->size;
        double most = a->sinks != NULL ? a->sinks[h] : -INFINITY;
        for (int j = 0; j < a->keys; j++) {
          s[j] = -INFINITY;
          if (j >= length || (a->causal && j > position)) continue;
          if (a->window_left >= 0 && j < position - a->window_left) continue;
          const float *k = a->k + ((b * a->keys + j) * a->key_heads + g) * a->size;
          double dot = 0;
          for (int d = 0; d < a->size; d++) dot += (double)q[d] * k[d];
          dot /= sqrt(a->size);
          if (a->softcap > 0) dot = a->softcap * tanh(dot / a->softcap);
          if (a->bias != NULL) dot += a->bias[(b * a->queries + i) * a->keys + j];
          if (a->slopes != NULL) dot -= a->slopes[b * a->heads + h] * abs(position - j);
          s[j] = dot;
          if (dot > most) most = dot;
        }
        double sum = a->sinks != NULL && most > -INFINITY ? exp(a->sinks[h] - most) : 0;
        for (int j = 0; j < a->keys; j++) sum += s[j] > -INFINITY ? exp(s[j] - most) : 0;
        size_t row = (size_t)(b * a->queries + i) * (size_t)a->heads + (size_t)h;
        if (lse != NULL) lse[row] = sum > 0 ? most + log(sum) : -INFINITY;
        for (int j = 0; j < a->keys; j++) {
          s[j] = s[j] > -INFINITY ? exp(s[j] - most) / sum : 0;
          if (p != NULL) p[((b * a->heads + h) * a->queries + i) * a->keys + j] = s[j];
        }
        if (o == NULL) continue;
        for (int e = 0; e < a->value_size; e++) {
          double total = 0;
          for (int j = 0; j < a->keys; j++) {
            if (s[j] == 0) continue;
            total += s[j] * a->v[((b * a->keys + j) * a->key_heads + g) * a->value_size + e];
          }
          o[row * (size_t)a->value_size + (size_t)e] = total;
        }
      }
    }
  }
  free(s);
}

vkattn_kernel kernel_of(vkattn_plan plan) {
  vkattn_kernel kernel = NULL;
  OK(vkattn_kernel_create(plan, &kernel));
  OK(vkattn_plan_free(plan));
  return kernel;
}
