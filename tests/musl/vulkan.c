/* Prints the names of the Vulkan devices that the driver of VK_DRIVER_FILES has, without a Vulkan
 * loader: Debian has none for musl. What a loader does with a driver is in Khronos'
 * "LoaderDriverInterface". */
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

typedef VkResult (*negotiate)(uint32_t *version);

static int failed(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

/* The value of "library_path" in the manifest at `path`; paths in ours are absolute. */
static char *library(const char *path)
{
    static char text[4096];
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    char *key = strstr(text, "\"library_path\"");
    char *start = key ? strchr(strchr(key, ':') ? strchr(key, ':') : "", '"') : NULL;
    char *end = start ? strchr(start + 1, '"') : NULL;
    if (!end)
        return NULL;
    *end = 0;
    return start + 1;
}

int main(void)
{
    const char *manifest = getenv("VK_DRIVER_FILES");
    char *path = manifest ? library(manifest) : NULL;
    if (!path)
        return failed("VK_DRIVER_FILES names no manifest");
    void *driver = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!driver)
        return failed(dlerror());
    negotiate version = (negotiate)dlsym(driver, "vk_icdNegotiateLoaderICDInterfaceVersion");
    PFN_vkGetInstanceProcAddr address =
        (PFN_vkGetInstanceProcAddr)dlsym(driver, "vk_icdGetInstanceProcAddr");
    uint32_t wanted = 5;
    if (!version || !address || version(&wanted) != VK_SUCCESS)
        return failed("the driver has no loader interface");
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)address(NULL, "vkCreateInstance");
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo information = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance;
    if (create(&information, NULL, &instance) != VK_SUCCESS)
        return failed("vkCreateInstance");
    PFN_vkEnumeratePhysicalDevices enumerate =
        (PFN_vkEnumeratePhysicalDevices)address(instance, "vkEnumeratePhysicalDevices");
    PFN_vkGetPhysicalDeviceProperties properties =
        (PFN_vkGetPhysicalDeviceProperties)address(instance, "vkGetPhysicalDeviceProperties");
    VkPhysicalDevice devices[8];
    uint32_t count = 8;
    if (enumerate(instance, &count, devices) < 0)
        return failed("vkEnumeratePhysicalDevices");
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties device;
        properties(devices[i], &device);
        puts(device.deviceName);
    }
    ((PFN_vkDestroyInstance)address(instance, "vkDestroyInstance"))(instance, NULL);
    return count ? 0 : failed("no device");
}
