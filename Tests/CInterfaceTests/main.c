/* The C interface against references in plain C. Exits with 0 where all holds, 77 without a device. */
#include "tensors.h"

void test_versions(void) {
  EXPECT(vkattn_abi_version() == VKATTN_ABI_VERSION);
  EXPECT(strchr(vkattn_version(), '.') != NULL);
  EXPECT(strcmp(vkattn_status_name(VKATTN_OK), "VKATTN_OK") == 0);
  EXPECT(strcmp(vkattn_status_name(VKATTN_CACHE_NOT_WRITABLE), "VKATTN_CACHE_NOT_WRITABLE") == 0);
  EXPECT(strcmp(vkattn_status_name(12345), "VKATTN_UNKNOWN") == 0);
  EXPECT(strcmp(vkattn_status_name(-1), "VKATTN_UNKNOWN") == 0);
  /* Nothing has failed on this thread. */
  EXPECT(strcmp(vkattn_last_error(), "") == 0);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {{"attention", test_attention}, {"decode", test_decode},   {"caches", test_caches},
               {"linear", test_linear},       {"drafts", test_drafts},   {"block-maps", test_block_maps},
               {"features", test_features},   {"around", test_around},   {"companions", test_companions},
               {"custom", test_custom},       {"errors", test_errors},   {"threads", test_threads},
               {"streams", test_streams},     {"foreign", test_foreign}};
  /* What a failure that ends the process leaves is read as well. */
  setvbuf(stdout, NULL, _IOLBF, 0);
  test_versions();
  OK(vkattn_prefer_wide_vectors(NULL));
  vkattn_status status = vkattn_device_open(NULL, &device);
  if (status == VKATTN_NO_DRIVER || status == VKATTN_NO_DEVICE ||
      status == VKATTN_MISSING_FEATURES) {
    printf("no device: %s\n", vkattn_last_error());
    return 77;
  }
  if (!expect_status(VKATTN_OK, status, "vkattn_device_open", __FILE__, __LINE__)) return 1;
  for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
    if (argc > 1 && strcmp(argv[1], tests[i].name) != 0) continue;
    int before = failures, start = expectations;
    tests[i].run();
    printf("%-10s %s, %d expectations\n", tests[i].name, failures == before ? "passed" : "FAILED",
           expectations - start);
    fflush(stdout);
  }
  OK(vkattn_device_free(device));
  printf("%d of %d expectations failed\n", failures, expectations);
  return failures == 0 ? 0 : 1;
}
