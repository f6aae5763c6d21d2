#include <NvInfer.h>
#include <cuda_runtime_api.h>
#include <google/protobuf/stubs/common.h>

extern "C" int trtyard_stand_in_parser() { return stand_in_protobuf() + NV_TENSORRT_MAJOR; }
