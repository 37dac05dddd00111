"""CUDA through the driver's own library, without any package: what a container with a GPU must be able to do."""

import array
import ctypes
import glob
import os
import time

COUNT = 1 << 18
BLOCK = 256
NUMBERS = array.array("f", range(COUNT)).tobytes()
HALVES = array.array("f", [0.5] * COUNT).tobytes()
# Below 2**24 halves are exact.
EXPECTED = array.array("f", (3.0 * at + 0.5 for at in range(COUNT))).tobytes()
# c[i] = 3 * a[i] + b[i]
PTX = b"""
.version 6.5
.target sm_75
.address_size 64
.visible .entry triple_and_add(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u32 pn)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<11>;
    ld.param.u64 %rd1, [pa];
    ld.param.u64 %rd2, [pb];
    ld.param.u64 %rd3, [pc];
    ld.param.u32 %r1, [pn];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd4, %rd1;
    cvta.to.global.u64 %rd5, %rd2;
    cvta.to.global.u64 %rd6, %rd3;
    mul.wide.u32 %rd7, %r5, 4;
    add.s64 %rd8, %rd4, %rd7;
    add.s64 %rd9, %rd5, %rd7;
    add.s64 %rd10, %rd6, %rd7;
    ld.global.f32 %f1, [%rd8];
    ld.global.f32 %f2, [%rd9];
    fma.rn.f32 %f3, %f1, 0f40400000, %f2;
    st.global.f32 [%rd10], %f3;
DONE:
    ret;
}
"""


class Cuda:
    """The first device, with a kernel loaded on it."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        device, self.context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.device = device.value
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self.device)
        self.call("cuCtxSetCurrent", self.context)
        module, self.kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"triple_and_add")

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'?').decode()} ({code})")

    def facts(self):
        count, version, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(100)
        self.call("cuDeviceGetCount", ctypes.byref(count))
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.call("cuDeviceGetName", name, len(name), self.device)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(total), self.device)
        return {
            "devices": count.value,
            "name": name.value.decode(),
            "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
            "memory_gib": round(total.value / 2**30, 1),
        }

    def compute(self):
        """Memory to the device, a kernel over it, and back; whether every number is right."""
        size = len(NUMBERS)
        places = [ctypes.c_uint64() for _ in range(3)]
        for place in places:
            self.call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
        for place, content in zip(places, (NUMBERS, HALVES)):
            self.call("cuMemcpyHtoD_v2", place, content, ctypes.c_size_t(size))
        values = [*places, ctypes.c_uint32(COUNT)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self.call("cuLaunchKernel", self.kernel, COUNT // BLOCK, 1, 1, BLOCK, 1, 1, 0, None, pointers, None)
        self.call("cuCtxSynchronize")
        result = ctypes.create_string_buffer(size)
        self.call("cuMemcpyDtoH_v2", result, places[2], ctypes.c_size_t(size))
        for place in places:
            self.call("cuMemFree_v2", place)
        return result.raw == EXPECTED


def seen():
    """What of GPUs this container shows."""
    found = {
        "nodes": sorted(os.path.basename(path) for path in glob.glob("/dev/nvidia*")),
        "buses": sorted(os.listdir("/proc/driver/nvidia/gpus")) if os.path.isdir("/proc/driver/nvidia/gpus") else [],
        "files": sorted(glob.glob("/usr/local/nvidia/*/*") + glob.glob("/usr/bin/nvidia*")),
        "environment": {name: value for name, value in os.environ.items() if "NVIDIA" in name or name == "LD_LIBRARY_PATH"},
    }
    try:
        ctypes.CDLL("libcuda.so.1")
        found["libcuda"] = True
    except OSError:
        found["libcuda"] = False
    return found


def timed(work):
    began = time.perf_counter()
    value = work()
    return value, round((time.perf_counter() - began) * 1000, 2)
