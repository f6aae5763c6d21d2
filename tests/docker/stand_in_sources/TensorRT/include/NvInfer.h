#include "NvInferRuntime.h"
