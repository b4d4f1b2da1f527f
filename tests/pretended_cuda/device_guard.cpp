// A CUDA device for a torch without one: guards and streams that do nothing, so that tensors may say "cuda:0".
#include <c10/core/impl/DeviceGuardImplInterface.h>

static c10::impl::DeviceGuardImplRegistrar registered(
    c10::DeviceType::CUDA,
    new c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>());
