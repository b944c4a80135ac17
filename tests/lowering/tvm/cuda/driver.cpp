// The functions of NVIDIA's driver that our runtime calls, for one GPU that is a CPU: an image is a shared library behind its size.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

typedef uint64_t Address;
typedef void (*Launch)(void **, const unsigned *, int);

enum { OK = 0, OUT_OF_MEMORY = 2, NO_BINARY = 209, NOT_FOUND = 500 };

static std::mutex turn;
static bool backwards = false;
static long allocated = 0;

extern "C" {
int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
int cuInit(unsigned) { return OK; }
int cuDeviceGetCount(int *count) { return *count = 1, OK; }
int cuDeviceGet(int *device, int) { return *device = 0, OK; }
int cuDeviceGetName(char *name, int size, int) { return snprintf(name, size, "Emulated"), OK; }
int cuDeviceTotalMem_v2(size_t *size, int) { return *size = (size_t)1 << 30, OK; }
int cuDeviceGetAttribute(int *value, int which, int) {
    *value = which == 16 ? 4 : which == 38 ? 1 << 20 : which == 75 ? 9 : 0;  // multiprocessors, L2, major, minor
    return OK;
}
int cuGetErrorString(int status, const char **text) {
    *text = status == OUT_OF_MEMORY ? "out of memory" : status == NOT_FOUND ? "named symbol not found" : "no kernel image";
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &turn, OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxSetCurrent(void *) { return OK; }
int cuModuleLoadData(void **module, const void *image) {
    uint64_t size;
    memcpy(&size, image, sizeof size);
    int file = memfd_create("emulated", MFD_CLOEXEC);
    if (size > (uint64_t)1 << 32 || write(file, (const char *)image + sizeof size, size) != (ssize_t)size) return NO_BINARY;
    *module = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (*module == nullptr) fprintf(stderr, "%s\n", dlerror());
    return *module == nullptr ? NO_BINARY : OK;  // the descriptor stays: the loader knows libraries by their names
}
int cuModuleUnload(void *module) { return dlclose(module) ? NO_BINARY : OK; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = dlsym(module, ("launch_" + std::string(name)).c_str());
    return *function == nullptr ? NOT_FOUND : OK;
}
int cuMemAlloc_v2(Address *address, size_t size) {
    if (size > (size_t)1 << 30) return OUT_OF_MEMORY;
    void *memory = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(memory, 0xff, size);
    ++allocated;
    return *address = (Address)memory, OK;
}
int cuMemFree_v2(Address address) { return free((void *)address), --allocated, OK; }
int cuMemcpyHtoD_v2(Address to, const void *from, size_t size) { return memcpy((void *)to, from, size), OK; }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, void *) { return cuMemcpyHtoD_v2(to, from, size); }
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *) { return memcpy(to, (void *)from, size), OK; }
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t size, void *) { return memcpy((void *)to, (void *)from, size), OK; }
int cuMemsetD8Async(Address to, unsigned char value, size_t size, void *) { return memset((void *)to, value, size), OK; }
int cuStreamCreate(void **stream, unsigned) { return *stream = &turn, OK; }
int cuStreamSynchronize(void *) { return OK; }
int cuStreamDestroy_v2(void *) { return OK; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                   void *, void **arguments, void **) {
    const unsigned extents[] = {gx, gy, gz, bx, by, bz};
    std::lock_guard<std::mutex> own(turn);
    return ((Launch)function)(arguments, extents, backwards), OK;
}

void irc_go_backwards(int whether) { backwards = whether; }
long irc_allocated(void) { return allocated; }
}
