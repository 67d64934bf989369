/* Vulkan objects and memory of the caller's own: made by Vulkan's functions alone, and alive behind their use. */
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <pthread.h>
#include <vulkan/vulkan.h>

#include "support.h"

/* A function by its name; the way from an object pointer that ISO C knows. */
#define LOAD(instance, name) PFN_##name name = (PFN_##name)get_proc((instance), #name)

typedef struct raw_device {
  VkInstance instance;
  VkPhysicalDevice physical;
  VkDevice device;
  VkQueue queue;
} raw_device;

typedef struct raw_buffer {
  VkBuffer buffer;
  VkDeviceMemory memory;
  unsigned char *mapped;
  size_t byte_count;
} raw_buffer;

static PFN_vkGetInstanceProcAddr get_proc = NULL;

static int open_loader(void) {
  void *library = dlopen("libvulkan.so.1", RTLD_NOW);
  if (library == NULL) return 0;
  void *symbol = dlsym(library, "vkGetInstanceProcAddr");
  memcpy(&get_proc, &symbol, sizeof(get_proc));
  return symbol != NULL;
}

/* A device at the same place of the loader's list as the library's, with what the library needs. */
static int open_raw(raw_device *raw, const char *extension) {
  memset(raw, 0, sizeof(*raw));
  vkattn_device_info info = VKATTN_INIT(vkattn_device_info);
  OK(vkattn_device_get_info(device, &info));
  LOAD(NULL, vkCreateInstance);
  VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .apiVersion = VK_API_VERSION_1_2};
  VkInstanceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
  if (vkCreateInstance(&create, NULL, &raw->instance) != VK_SUCCESS) return 0;
  LOAD(raw->instance, vkEnumeratePhysicalDevices);
  LOAD(raw->instance, vkCreateDevice);
  LOAD(raw->instance, vkGetDeviceQueue);
  VkPhysicalDevice devices[16];
  uint32_t count = 16;
  if (vkEnumeratePhysicalDevices(raw->instance, &count, devices) < 0 ||
      (uint32_t)info.index >= count)
    return 0;
  raw->physical = devices[info.index];
  VkPhysicalDeviceVulkan12Features features12 = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
      .bufferDeviceAddress = 1,
      .timelineSemaphore = 1,
      .scalarBlockLayout = 1};
  VkPhysicalDeviceVulkan11Features features11 = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
      .pNext = &features12,
      .storageBuffer16BitAccess = 1};
  VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                        .pNext = &features11,
                                        .features = {.shaderInt64 = 1}};
  float priority = 1;
  VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                   .queueCount = 1,
                                   .pQueuePriorities = &priority};
  VkDeviceCreateInfo made = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                             .pNext = &features,
                             .queueCreateInfoCount = 1,
                             .pQueueCreateInfos = &queue,
                             .enabledExtensionCount = extension != NULL,
                             .ppEnabledExtensionNames = &extension};
  if (vkCreateDevice(raw->physical, &made, NULL, &raw->device) != VK_SUCCESS) return 0;
  vkGetDeviceQueue(raw->device, 0, 0, &raw->queue);
  return 1;
}

static void close_raw(raw_device *raw) {
  LOAD(raw->instance, vkDeviceWaitIdle);
  LOAD(raw->instance, vkDestroyDevice);
  LOAD(raw->instance, vkDestroyInstance);
  EXPECT(vkDeviceWaitIdle(raw->device) == VK_SUCCESS);
  vkDestroyDevice(raw->device, NULL);
  vkDestroyInstance(raw->instance, NULL);
}

static const VkBufferUsageFlags all_usage =
    VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;

/* A mapped buffer of NaNs. */
static int make_raw_buffer(const raw_device *raw, size_t byte_count, raw_buffer *made) {
  LOAD(raw->instance, vkCreateBuffer);
  LOAD(raw->instance, vkGetBufferMemoryRequirements);
  LOAD(raw->instance, vkGetPhysicalDeviceMemoryProperties);
  LOAD(raw->instance, vkAllocateMemory);
  LOAD(raw->instance, vkBindBufferMemory);
  LOAD(raw->instance, vkMapMemory);
  VkBufferCreateInfo create = {
      .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = byte_count, .usage = all_usage};
  made->byte_count = byte_count;
  if (vkCreateBuffer(raw->device, &create, NULL, &made->buffer) != VK_SUCCESS) return 0;
  VkMemoryRequirements needs;
  vkGetBufferMemoryRequirements(raw->device, made->buffer, &needs);
  VkPhysicalDeviceMemoryProperties properties;
  vkGetPhysicalDeviceMemoryProperties(raw->physical, &properties);
  VkMemoryPropertyFlags wanted =
      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  uint32_t type = 0;
  while (type < properties.memoryTypeCount &&
         !((needs.memoryTypeBits >> type & 1) != 0 &&
           (properties.memoryTypes[type].propertyFlags & wanted) == wanted))
    type++;
  if (type == properties.memoryTypeCount) return 0;
  VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                     .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
  VkMemoryAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                   .pNext = &flags,
                                   .allocationSize = needs.size,
                                   .memoryTypeIndex = type};
  void *mapped = NULL;
  if (vkAllocateMemory(raw->device, &allocate, NULL, &made->memory) != VK_SUCCESS ||
      vkBindBufferMemory(raw->device, made->buffer, made->memory, 0) != VK_SUCCESS ||
      vkMapMemory(raw->device, made->memory, 0, VK_WHOLE_SIZE, 0, &mapped) != VK_SUCCESS)
    return 0;
  made->mapped = mapped;
  memset(mapped, 0xFF, byte_count);
  return 1;
}

static void destroy_raw_buffer(const raw_device *raw, raw_buffer *buffer) {
  LOAD(raw->instance, vkDestroyBuffer);
  LOAD(raw->instance, vkFreeMemory);
  vkDestroyBuffer(raw->device, buffer->buffer, NULL);
  vkFreeMemory(raw->device, buffer->memory, NULL);
}

/* What the callbacks hear. */
typedef struct heard {
  pthread_mutex_t queue;
  int locks, unlocks, releases;
  vkattn_status inside;
} heard;

static void lock_queue(void *context) {
  heard *h = context;
  pthread_mutex_lock(&h->queue);
  h->locks++;
  /* The interface is not entered from a callback. */
  h->inside = vkattn_device_free(NULL);
}

static void unlock_queue(void *context) {
  heard *h = context;
  h->unlocks++;
  pthread_mutex_unlock(&h->queue);
}

static void hear_release(void *context) { ((heard *)context)->releases++; }

static vkattn_foreign_device described(const raw_device *raw, heard *h) {
  vkattn_foreign_device foreign = VKATTN_INIT(vkattn_foreign_device);
  foreign.instance = raw->instance;
  foreign.physical_device = raw->physical;
  foreign.device = raw->device;
  foreign.queue = raw->queue;
  foreign.api_version = VK_API_VERSION_1_2;
  foreign.enabled_features = VKATTN_ENABLED_REQUIRED;
  foreign.get_instance_proc_address = (PFN_vkVoidFunction)get_proc;
  foreign.lock_queue = lock_queue;
  foreign.unlock_queue = unlock_queue;
  foreign.released = hear_release;
  foreign.context = h;
  return foreign;
}

/* One attention, [1, 9, 2, 16] over 21 keys, whose tensors are bound by the caller. */
enum { queries = 9, keys = 21, heads = 2, size = 16 };
static const size_t q_bytes = queries * heads * size * sizeof(float);
static const size_t k_bytes = keys * heads * size * sizeof(float);

static vkattn_kernel make_kernel(vkattn_device on) {
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = queries;
  request.key_tokens = keys;
  request.query_heads = heads;
  request.key_heads = heads;
  request.head_size = size;
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(on, &request, &plan));
  return kernel_of(plan);
}

static void expect_attention(const char *name, const float *q, const float *k, const float *v,
                             const float *o) {
  attention_problem problem = {.batch = 1, .queries = queries, .keys = keys, .heads = heads,
                               .key_heads = heads, .size = size, .value_size = size, .q = q,
                               .k = k, .v = v, .window_left = -1};
  double expected[queries * heads * size];
  reference_attention(&problem, expected, NULL, NULL);
  expect_close(name, o, expected, queries * heads * size, 1e-5);
}

static void test_adopted(void) {
  raw_device raw;
  EXPECT(open_raw(&raw, NULL));
  if (raw.queue == NULL) return;
  heard h = {.queue = PTHREAD_MUTEX_INITIALIZER};
  vkattn_foreign_device foreign = described(&raw, &h);
  vkattn_device adopted = NULL;
  OK(vkattn_device_adopt(&foreign, NULL, &adopted));
  vkattn_device_info info = VKATTN_INIT(vkattn_device_info), known = VKATTN_INIT(vkattn_device_info);
  OK(vkattn_device_get_info(adopted, &info));
  OK(vkattn_device_get_info(device, &known));
  EXPECT(strcmp(info.device_uuid, known.device_uuid) == 0);
  EXPECT((info.features & VKATTN_FEATURE_REQUIRED) != 0);
  EXPECT((info.features & VKATTN_FEATURE_FLOAT16) == 0);

  raw_buffer slab;
  memset(&slab, 0, sizeof(slab));
  size_t total = 2 * q_bytes + 2 * k_bytes;
  EXPECT(make_raw_buffer(&raw, total + VKATTN_READABLE_TAIL, &slab));
  if (slab.mapped == NULL) return;
  float *q = numbers(q_bytes / sizeof(float), 1), *k = numbers(k_bytes / sizeof(float), 2);
  float *v = numbers(k_bytes / sizeof(float), 3);
  memcpy(slab.mapped, q, q_bytes);
  memcpy(slab.mapped + q_bytes, k, k_bytes);
  memcpy(slab.mapped + q_bytes + k_bytes, v, k_bytes);
  size_t offsets[] = {0, q_bytes, q_bytes + k_bytes, q_bytes + 2 * k_bytes};
  size_t sizes[] = {q_bytes, k_bytes, k_bytes, q_bytes};
  vkattn_buffer parts[4] = {NULL};
  for (int i = 0; i < 4; i++) {
    vkattn_foreign_buffer part = VKATTN_INIT(vkattn_foreign_buffer);
    part.buffer = slab.buffer;
    part.buffer_byte_count = slab.byte_count;
    part.byte_offset = offsets[i];
    part.byte_count = sizes[i];
    part.usage = all_usage;
    part.released = hear_release;
    part.context = &h;
    OK(vkattn_buffer_adopt(adopted, &part, "part", &parts[i]));
  }
  vkattn_kernel kernel = make_kernel(adopted);
  vkattn_binding bindings[] = {
      VKATTN_BIND(VKATTN_TENSOR_QUERY, parts[0]), VKATTN_BIND(VKATTN_TENSOR_KEY, parts[1]),
      VKATTN_BIND(VKATTN_TENSOR_VALUE, parts[2]), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, parts[3])};
  int before = h.locks;
  OK(vkattn_kernel_run(kernel, bindings, 4, NULL, NULL));
  EXPECT(h.locks > before && h.locks == h.unlocks);
  EXPECT(h.inside == VKATTN_IN_CALLBACK);
  expect_attention("adopted", q, k, v, (const float *)(const void *)(slab.mapped + offsets[3]));

  /* Bad parts. */
  vkattn_foreign_buffer part = VKATTN_INIT(vkattn_foreign_buffer);
  vkattn_buffer none = NULL;
  part.buffer_byte_count = slab.byte_count;
  part.byte_count = 64;
  part.usage = all_usage;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  part.buffer = slab.buffer;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_adopt(adopted, &part, NULL, NULL));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_adopt(adopted, NULL, NULL, &none));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_adopt(NULL, &part, NULL, &none));
  part.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  EXPECT(strstr(vkattn_last_error(), "SHADER_DEVICE_ADDRESS") != NULL);
  part.usage = all_usage;
  part.byte_count = total + 1;
  EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  part.byte_count = SIZE_MAX;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  part.byte_count = 64;
  part.reserved = 1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  part.reserved = 0;
  part.struct_size = 4;
  EXPECT_STATUS(VKATTN_BAD_STRUCTURE, vkattn_buffer_adopt(adopted, &part, NULL, &none));
  EXPECT(none == NULL);

  OK(vkattn_kernel_free(kernel));
  OK(vkattn_device_free(adopted));
  for (int i = 0; i < 4; i++) {
    EXPECT(h.releases == i);
    OK(vkattn_buffer_free(parts[i]));
  }
  /* Four parts, then the device. */
  EXPECT(h.releases == 5);
  destroy_raw_buffer(&raw, &slab);
  /* The device lives: it makes buffers and can be adopted again. */
  EXPECT(make_raw_buffer(&raw, 64, &slab));
  destroy_raw_buffer(&raw, &slab);
  OK(vkattn_device_adopt(&foreign, NULL, &adopted));
  OK(vkattn_device_free(adopted));
  EXPECT(h.releases == 6);
  close_raw(&raw);
  free(q);
  free(k);
  free(v);
}

/* Work behind a point of a timeline of one's own, and a wait of one's own for work. */
static void test_timelines(void) {
  raw_device raw;
  EXPECT(open_raw(&raw, NULL));
  if (raw.queue == NULL) return;
  heard h = {.queue = PTHREAD_MUTEX_INITIALIZER};
  vkattn_foreign_device foreign = described(&raw, &h);
  void *queues[] = {raw.queue, NULL};
  vkattn_device adopted = NULL;
  foreign.stream_queues = queues;
  foreign.stream_queue_count = 2;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &adopted));
  EXPECT(strstr(vkattn_last_error(), "stream_queues[1]") != NULL);
  foreign.stream_queue_count = SIZE_MAX;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_adopt(&foreign, NULL, &adopted));
  foreign.stream_queue_count = 1;
  OK(vkattn_device_adopt(&foreign, NULL, &adopted));

  LOAD(raw.instance, vkCreateSemaphore);
  LOAD(raw.instance, vkDestroySemaphore);
  LOAD(raw.instance, vkSignalSemaphore);
  LOAD(raw.instance, vkWaitSemaphores);
  VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                    .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
  VkSemaphoreCreateInfo create = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
  VkSemaphore semaphore = VK_NULL_HANDLE;
  EXPECT(vkCreateSemaphore(raw.device, &create, NULL, &semaphore) == VK_SUCCESS);

  vkattn_stream stream = NULL;
  vkattn_recorder recorder = NULL;
  vkattn_submission submission = NULL;
  OK(vkattn_stream_create(adopted, &stream));
  OK(vkattn_recorder_create(adopted, &recorder));
  vkattn_timeline_point point = {semaphore, 3}, end = {NULL, 0};
  vkattn_submit_info info = VKATTN_INIT(vkattn_submit_info);
  info.stream = stream;
  info.points = &point;
  info.point_count = 1;
  int before = h.locks;
  OK(vkattn_recorder_submit_to(recorder, &info, &submission));
  EXPECT(h.locks == before + 1 && h.unlocks == h.locks);
  EXPECT_STATUS(VKATTN_TIMED_OUT, vkattn_submission_wait(submission, 0.05));
  VkSemaphoreSignalInfo signal = {
      .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO, .semaphore = semaphore, .value = 3};
  EXPECT(vkSignalSemaphore(raw.device, &signal) == VK_SUCCESS);
  OK(vkattn_submission_point(submission, &end));
  VkSemaphore theirs = (VkSemaphore)end.semaphore;
  VkSemaphoreWaitInfo wait = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                              .semaphoreCount = 1,
                              .pSemaphores = &theirs,
                              .pValues = &end.value};
  EXPECT(vkWaitSemaphores(raw.device, &wait, UINT64_MAX) == VK_SUCCESS);
  int32_t is_complete = 0;
  OK(vkattn_submission_is_complete(submission, &is_complete));
  EXPECT(is_complete == 1);
  OK(vkattn_submission_free(submission)), OK(vkattn_recorder_free(recorder));
  OK(vkattn_stream_free(stream)), OK(vkattn_device_free(adopted));
  EXPECT(h.releases == 1);
  vkDestroySemaphore(raw.device, semaphore, NULL);
  close_raw(&raw);
}

static void test_wrong_devices(void) {
  raw_device raw;
  EXPECT(open_raw(&raw, NULL));
  if (raw.queue == NULL) return;
  heard h = {.queue = PTHREAD_MUTEX_INITIALIZER};
  const vkattn_foreign_device right = described(&raw, &h);
  vkattn_device none = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(NULL, NULL, &none));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&right, NULL, NULL));
  vkattn_foreign_device foreign = right;
  foreign.instance = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.physical_device = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.device = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.queue = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.unlock_queue = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  EXPECT(strstr(vkattn_last_error(), "unlock_queue") != NULL);
  foreign = right;
  foreign.enabled_features &= ~(uint32_t)VKATTN_ENABLED_TIMELINE_SEMAPHORE;
  EXPECT_STATUS(VKATTN_MISSING_FEATURES, vkattn_device_adopt(&foreign, NULL, &none));
  EXPECT(strstr(vkattn_last_error(), "timelineSemaphore") != NULL);
  foreign.enabled_features = VKATTN_ENABLED_REQUIRED | 1u << 20;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.api_version = VK_API_VERSION_1_1;
  EXPECT_STATUS(VKATTN_MISSING_FEATURES, vkattn_device_adopt(&foreign, NULL, &none));
  foreign = right;
  foreign.queue_family_index = 1000;
  EXPECT_STATUS(VKATTN_LIMIT_EXCEEDED, vkattn_device_adopt(&foreign, NULL, &none));
  const char *names[] = {"VK_EXT_no_such_extension", NULL};
  foreign = right;
  foreign.enabled_extensions = names;
  foreign.enabled_extension_count = 1;
  EXPECT_STATUS(VKATTN_MISSING_FEATURES, vkattn_device_adopt(&foreign, NULL, &none));
  EXPECT(strstr(vkattn_last_error(), names[0]) != NULL);
  foreign.enabled_extension_count = 2;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_device_adopt(&foreign, NULL, &none));
  foreign.enabled_extension_count = UINT32_MAX;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_adopt(&foreign, NULL, &none));
  vkattn_device_options options = VKATTN_INIT(vkattn_device_options);
  options.selection = "best";
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_adopt(&right, &options, &none));
  options.selection = NULL;
  options.flags = VKATTN_DEVICE_VALIDATION;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_device_adopt(&right, &options, &none));
  EXPECT(none == NULL && h.releases == 0);
  close_raw(&raw);
}

static void test_imported(void) {
  size_t available = 0, alignment = 0;
  vkattn_status status = vkattn_device_import_size(device, q_bytes, &available, &alignment);
  if (status == VKATTN_MISSING_FEATURES) {
    printf("foreign: imports left out: %s\n", vkattn_last_error());
    return;
  }
  OK(status);
  EXPECT(available >= q_bytes + VKATTN_READABLE_TAIL && available % alignment == 0);
  heard h = {.queue = PTHREAD_MUTEX_INITIALIZER};
  size_t sizes[] = {q_bytes, k_bytes, k_bytes, q_bytes};
  unsigned char *memories[4] = {NULL};
  vkattn_buffer buffers[4] = {NULL};
  for (int i = 0; i < 4; i++) {
    void *bytes = NULL;
    OK(vkattn_device_import_size(device, sizes[i], &available, NULL));
    EXPECT(posix_memalign(&bytes, alignment, available) == 0);
    if (bytes == NULL) return;
    memories[i] = bytes;
    float *made = i < 3 ? numbers(sizes[i] / sizeof(float), (uint64_t)i + 4)
                        : nans(sizes[i] / sizeof(float));
    memset(bytes, 0xFF, available);
    memcpy(bytes, made, sizes[i]);
    free(made);
    vkattn_host_memory memory = VKATTN_INIT(vkattn_host_memory);
    memory.bytes = bytes;
    memory.available_byte_count = available;
    memory.byte_count = sizes[i];
    memory.released = hear_release;
    memory.context = &h;
    OK(vkattn_buffer_import(device, &memory, "mine", &buffers[i]));
    vkattn_buffer none = NULL;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_buffer_import(device, &memory, NULL, &none));
    memory.bytes = memories[i] + 1;
    EXPECT_STATUS(VKATTN_MISALIGNED, vkattn_buffer_import(device, &memory, NULL, &none));
    memory.bytes = NULL;
    EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_import(device, &memory, NULL, &none));
    memory.bytes = memories[i];
    memory.available_byte_count = available - 1;
    EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_import(device, &memory, NULL, &none));
    memory.byte_count = SIZE_MAX;
    EXPECT_STATUS(VKATTN_OUT_OF_BOUNDS, vkattn_buffer_import(device, &memory, NULL, &none));
    EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_import(device, NULL, NULL, &none));
    EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_buffer_import(device, &memory, NULL, NULL));
    EXPECT(none == NULL);
  }
  vkattn_kernel kernel = make_kernel(device);
  vkattn_binding bindings[] = {
      VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]), VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[1]),
      VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[2]), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3])};
  OK(vkattn_kernel_run(kernel, bindings, 4, NULL, NULL));
  const float *tensors[4];
  for (int i = 0; i < 4; i++) tensors[i] = (const float *)(const void *)memories[i];
  /* No download: the result is in our memory. */
  expect_attention("imported", tensors[0], tensors[1], tensors[2], tensors[3]);
  void *mapped = NULL;
  OK(vkattn_buffer_map(buffers[3], &mapped));
  EXPECT(mapped == memories[3]);
  OK(vkattn_kernel_free(kernel));
  for (int i = 0; i < 4; i++) {
    EXPECT(h.releases == i);
    OK(vkattn_buffer_free(buffers[i]));
  }
  EXPECT(h.releases == 4);
  for (int i = 0; i < 4; i++) free(memories[i]);

  /* A device that was created without the extension. */
  raw_device raw;
  EXPECT(open_raw(&raw, NULL));
  if (raw.queue == NULL) return;
  vkattn_foreign_device foreign = described(&raw, &h);
  vkattn_device adopted = NULL;
  OK(vkattn_device_adopt(&foreign, NULL, &adopted));
  EXPECT_STATUS(VKATTN_MISSING_FEATURES,
                vkattn_device_import_size(adopted, 64, &available, &alignment));
  OK(vkattn_device_free(adopted));
  close_raw(&raw);
}

void test_foreign(void) {
  EXPECT(open_loader());
  if (get_proc == NULL) return;
  test_adopted();
  test_timelines();
  test_wrong_devices();
  test_imported();
}
