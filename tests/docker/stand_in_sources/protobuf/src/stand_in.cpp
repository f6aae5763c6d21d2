#include <google/protobuf/stubs/common.h>

int stand_in_protobuf() { return GOOGLE_PROTOBUF_VERSION; }
