/* Loads the Vulkan driver that its argument names as the Vulkan loader does, talks to it, and
 * lets go of it again. `check` builds this with each C library. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

typedef int32_t (*negotiate)(uint32_t *version);
typedef void *(*get_address)(void *instance, const char *name);

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: %s DRIVER\n", arguments[0]);
        return 2;
    }
    void *driver = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!driver) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    negotiate version = (negotiate)dlsym(driver, "vk_icdNegotiateLoaderICDInterfaceVersion");
    get_address address = (get_address)dlsym(driver, "vk_icdGetInstanceProcAddr");
    uint32_t wanted = 5;
    if (!version || version(&wanted) != 0) {
        fprintf(stderr, "%s: no interface version\n", arguments[1]);
        return 1;
    }
    if (!address || !address(NULL, "vkCreateInstance")) {
        fprintf(stderr, "%s: no vkCreateInstance\n", arguments[1]);
        return 1;
    }
    return dlclose(driver);
}
